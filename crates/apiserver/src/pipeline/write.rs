//! What all writes share: server-owned metadata, field ownership, encoding, the compare-and-swap.

use api::meta::v1::{ObjectMeta, Time};
use api::{FieldErrors, StatusError};
use bytes::Bytes;
use kinds::Object;
use kinds::schema::Schema;
use serde_json::Value;
use store::{Compare, DeleteRequest, KeyRange, Op, PutRequest, Txn};

use super::call::Call;
use super::{convert, select};
use crate::admission::{AdmissionRequest, Operation};
use crate::cache::{Entry, store_error};

/// Who becomes owner of the fields that a write changes.
#[derive(Clone, Debug)]
pub enum Ownership {
    /// An update by this manager.
    Update(String),
    /// Already written into the object by apply.
    Applied,
    /// Nobody: the server itself changes metadata (deletion marks).
    Keep,
}

/// Now, in whole seconds as the API has them.
pub fn now() -> Time {
    let now = base::clock::now();
    Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))
}

/// The request as admission sees it.
pub fn admission<'a>(
    call: &'a Call,
    operation: Operation,
    name: &'a str,
    dry_run: bool,
    object: Option<&'a mut dyn Object>,
    old: Option<&'a dyn Object>,
) -> AdmissionRequest<'a> {
    AdmissionRequest {
        operation,
        info: call.info(),
        namespace: call.namespace().unwrap_or_default(),
        name,
        subresource: call.subresource(),
        user: &call.user,
        dry_run,
        object,
        old,
        body: None,
        warnings: Vec::new(),
    }
}

pub fn invalid(call: &Call, name: &str, errors: &FieldErrors) -> Result<(), StatusError> {
    if errors.is_empty() { Ok(()) } else { Err(StatusError::invalid(call.info().group, call.info().kind, name, errors)) }
}

/// The JSON value of a typed object as upstream would write it, with ownership of its fields brought up to date, in the resource's version.
/// Without a resourceVersion.
pub fn finish(call: &Call, object: &dyn Object, old: Option<&Value>, ownership: &Ownership) -> Value {
    let mut value = object.to_value();
    if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("resourceVersion");
        meta.remove("selfLink");
    }
    kinds::omit::empties(&mut value, Schema::of(call.info().schema));
    if let Ownership::Update(manager) = ownership {
        super::ownership::track(call, old, &mut value, manager);
    }
    value
}

/// The bytes that are stored for a value of the resource's version.
pub fn encode(call: &Call, value: Value) -> Result<Bytes, StatusError> {
    let stored = convert::to_stored(&call.resource, value)?;
    serde_json::to_vec(&stored).map(Bytes::from).map_err(StatusError::internal)
}

/// Stores `value` if the key is still at `expected` (0: absent); `None`: it is not.
pub async fn put(call: &Call, name: &str, value: Bytes, expected: i64) -> Result<Option<Entry>, StatusError> {
    let collection = select::collection(call)?;
    let key = Bytes::from(call.key(name));
    let mut put = PutRequest::new(key.clone(), value.clone());
    put.lease = call.core.leases.lease_for(call.info()).await?;
    let txn = Txn { compare: vec![Compare::mod_revision(key.clone(), expected)], success: vec![Op::Put(put)], failure: Vec::new() };
    let done = call.core.kv.txn(txn).await.map_err(|e| store_error(&e))?;
    if !done.succeeded {
        return Ok(None);
    }
    entry(call, name, done.revision, value, collection.prefix.len()).map(Some)
}

/// What a write would have stored, for dry runs: at the revision before.
pub fn unwritten(call: &Call, name: &str, value: Bytes, revision: i64) -> Result<Entry, StatusError> {
    let collection = select::collection(call)?;
    entry(call, name, revision, value, collection.prefix.len())
}

fn entry(call: &Call, name: &str, revision: i64, value: Bytes, prefix: usize) -> Result<Entry, StatusError> {
    let key = call.key(name);
    Entry::bare(&key[prefix..], revision, value).map_err(StatusError::internal)
}

/// Deletes the key if it is still at `expected`; gives the revision, or `None` where it is not.
pub async fn remove(call: &Call, name: &str, expected: i64) -> Result<Option<i64>, StatusError> {
    let key = Bytes::from(call.key(name));
    let delete = Op::Delete(DeleteRequest { range: KeyRange::one(key.clone()), prev_kv: false });
    let txn = Txn { compare: vec![Compare::mod_revision(key, expected)], success: vec![delete], failure: Vec::new() };
    let done = call.core.kv.txn(txn).await.map_err(|e| store_error(&e))?;
    Ok(done.succeeded.then_some(done.revision))
}

/// Whether something must still be done before the object may go: finalizers, those of a namespace's spec too.
pub fn is_held(object: &dyn Object) -> bool {
    let namespace = object.get::<api::core::v1::Namespace>();
    let of_spec = namespace.and_then(|n| n.spec.as_ref()).and_then(|s| s.finalizers.as_ref());
    !object.meta().finalizers.as_deref().unwrap_or_default().is_empty() || of_spec.is_some_and(|f| !f.is_empty())
}

/// Metadata that only the server writes, taken over from the stored object.
pub fn keep_owned(new: &mut ObjectMeta, old: &ObjectMeta) {
    new.uid.clone_from(&old.uid);
    new.creation_timestamp.clone_from(&old.creation_timestamp);
    new.deletion_timestamp.clone_from(&old.deletion_timestamp);
    new.deletion_grace_period_seconds = old.deletion_grace_period_seconds;
    new.generation = old.generation;
    new.self_link = None;
    if new.managed_fields.is_none() {
        new.managed_fields.clone_from(&old.managed_fields);
    }
}
