//! `serviceaccounts/NAME/token`: asks `auth` for a signed token.

use api::StatusError;
use api::authentication::v1::TokenRequest;
use api::core::v1::ServiceAccount;
use bytes::Bytes;
use http::Response;

use super::super::call::Call;
use super::super::{body, convert, get, write};
use crate::admission::Operation;
use crate::transport::body::Body;

pub async fn create(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let mut request: TokenRequest = body::typed(call, bytes, "authentication.k8s.io/v1", "TokenRequest")?;
    let name = call.name().to_owned();
    let entry = get::read(call, &name).await?.ok_or_else(|| call.not_found(&name))?;
    let object = convert::decode(&call.resource, &entry)?;
    let account = object.get::<ServiceAccount>().ok_or_else(|| StatusError::internal("tokens are for service accounts"))?;
    request.metadata.name.get_or_insert_with(|| name.clone());
    request.metadata.namespace = account.metadata.namespace.clone();
    {
        let mut asked = write::admission(call, Operation::Create, &name, call.is_dry_run()?, None, None);
        asked.body = Some(&mut request);
        call.core.admission.mutate(&mut asked).await?;
        call.core.admission.validate(&mut asked).await?;
    }
    call.core.auth.tokens.issue(account, &mut request).await?;
    request.metadata.creation_timestamp = Some(write::now());
    super::reply(call, 201, &request)
}
