//! The authenticator and authorizer of tests. Must not be reachable by flags.

use super::*;

pub(super) struct AllowAll;

#[async_trait]
impl Authenticator for AllowAll {
    async fn authenticate(&self, _parts: &Parts) -> Result<Arc<UserInfo>, StatusError> {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        Ok(Arc::new(UserInfo { name: "system:admin".into(), groups, ..UserInfo::default() }))
    }
}

#[async_trait]
impl Authorizer for AllowAll {
    async fn authorize(&self, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}

#[async_trait]
impl Reviews for AllowAll {
    async fn review(&self, _user: &UserInfo, _namespace: &str, _object: &mut dyn Object) -> Result<(), StatusError> {
        Err(StatusError::internal("reviews are not configured"))
    }
}

#[async_trait]
impl Tokens for AllowAll {
    async fn issue(&self, _account: &ServiceAccount, _request: &mut TokenRequest) -> Result<(), StatusError> {
        Err(StatusError::internal("no service account signing key is configured"))
    }

    fn openid_configuration(&self) -> Option<Bytes> {
        None
    }

    fn jwks(&self) -> Option<Bytes> {
        None
    }
}
