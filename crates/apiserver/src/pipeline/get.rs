//! GET of one object.

use api::StatusError;
use http::{HeaderValue, Response};
use store::{KeyRange, RangeRequest};

use super::call::Call;
use super::{encode, select};
use crate::cache::{Entry, store_error};
use crate::transport::body::Body;
use crate::transport::response::respond;

/// Without a resourceVersion the store answers (consistent); with one the cache does, once it is there.
pub async fn get(call: &Call) -> Result<Response<Body>, StatusError> {
    let collection = select::collection(call)?;
    let name = call.name();
    if let Some(revision) = select::revision(call.query.get("resourceVersion"))? {
        call.core.cache.reach(revision).await?;
        let key = call.key(name);
        let entry = collection.get(&key[collection.prefix.len()..]).ok_or_else(|| call.not_found(name))?;
        return reply(call, 200, &entry);
    }
    let entry = read(call, name).await?.ok_or_else(|| call.not_found(name))?;
    reply(call, 200, &entry)
}

/// An object as the store has it now, to be sent or changed: without what selectors need.
pub async fn read(call: &Call, name: &str) -> Result<Option<Entry>, StatusError> {
    let collection = select::collection(call)?;
    let key = call.key(name);
    let found = call.core.kv.range(RangeRequest::new(KeyRange::one(key.clone()))).await.map_err(|e| store_error(&e))?;
    let Some(kv) = found.kvs.into_iter().next() else { return Ok(None) };
    Entry::bare(&key[collection.prefix.len()..], kv.mod_revision, kv.value).map(Some).map_err(StatusError::internal)
}

/// Sends an object in the asked view.
pub fn reply(call: &Call, code: u16, entry: &Entry) -> Result<Response<Body>, StatusError> {
    let body = encode::object(&call.resource, entry, call.view, true)?;
    Ok(respond(code, HeaderValue::from_static(call.view.media.content_type()), body))
}
