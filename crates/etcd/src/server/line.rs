//! A waiting line of keys with leases, first come first served: what locks and elections are made of (client/v3/concurrency). Whoever leaves before his
//! turn is taken out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::*;
use tonic::Status;

use super::core::Core;

/// The life of a place whose owner brought no lease, as of etcd's sessions.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// A key in the line. Dropping it leaves the line, unless it is kept.
pub struct Place {
    core: Arc<Core>,
    /// In the name of whoever waits.
    engine: Engine,
    prefix: Bytes,
    pub key: Bytes,
    pub lease: LeaseId,
    /// The revision that made the key: the smallest is first.
    pub revision: Revision,
    is_kept: bool,
}

/// The part of the key space in which a name's line is.
pub fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

impl Place {
    /// Joins the line, or takes up the place that the lease has in it; then the value is renewed.
    pub async fn join(core: &Arc<Core>, engine: Engine, name: &[u8], lease: LeaseId, value: Bytes) -> Result<Self, Status> {
        let refuse = |error| core.refuse(error);
        let lease = if lease == 0 { engine.lease_grant(0, DEFAULT_TTL).await.map_err(refuse)?.id } else { lease };
        let prefix = prefix(name);
        let key = Bytes::from([&prefix[..], format!("{lease:x}").as_bytes()].concat());
        let put = Op::Put(PutRequest { lease, ..PutRequest::new(key.clone(), value.clone()) });
        let get = Op::Range(RangeRequest::new(KeyRange::one(key.clone())));
        let is_new = Compare { range: KeyRange::one(key.clone()), op: CompareOp::Equal, target: CompareTarget::Create(0) };
        let joined = engine.txn(Txn { compare: vec![is_new], success: vec![put.clone()], failure: vec![get] }).await.map_err(refuse)?;
        let revision = match joined.responses.first() {
            Some(OpResponse::Range(found)) => found.kvs.first().map_or(joined.revision, |kv| kv.create_revision),
            _ => joined.revision,
        };
        let place = Self { core: core.clone(), engine, prefix, key, lease, revision, is_kept: false };
        if let Some(OpResponse::Range(found)) = joined.responses.first()
            && found.kvs.first().is_some_and(|kv| kv.value != value)
        {
            place.engine.txn(Txn { success: vec![put], ..Txn::default() }).await.map_err(refuse)?;
        }
        Ok(place)
    }

    /// Waits until all who came earlier have left, and keeps the place. `NotFound` where the place itself went meanwhile.
    pub async fn wait_first(&mut self) -> Result<Revision, Status> {
        while let Some((ahead, revision)) = self.ahead().await.map_err(|error| self.core.refuse(error))? {
            wait_gone(&self.engine, ahead, revision).await.map_err(|error| self.core.refuse(error))?;
        }
        let own = self.engine.range(RangeRequest::new(KeyRange::one(self.key.clone()))).await.map_err(|error| self.core.refuse(error))?;
        if own.kvs.first().is_none_or(|kv| kv.create_revision != self.revision) {
            return Err(Status::unknown("mutex: session is expired"));
        }
        self.is_kept = true;
        Ok(own.revision)
    }

    /// The one just ahead, and when that was.
    async fn ahead(&self) -> Result<Option<(Bytes, Revision)>, KvError> {
        let request = RangeRequest {
            sort_target: SortTarget::CreateRevision,
            sort_order: SortOrder::Descend,
            max_create_revision: self.revision - 1,
            keys_only: true,
            ..RangeRequest::new(KeyRange::prefix(self.prefix.clone())).limit(1)
        };
        let found = self.engine.range(request).await?;
        Ok(found.kvs.into_iter().next().map(|kv| (kv.key, found.revision)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        let (core, key, revision) = (self.core.clone(), self.key.clone(), self.revision);
        self.core.tasks.spawn("etcd leaves a line", async move {
            // Whoever made the place may not be known any more.
            if let Err(error) = leave(&core.own_engine(), key, revision).await {
                tracing::warn!(%error, "a place in a line could not be given up: it ends with its lease");
            }
        });
    }
}

/// Deletes a place, if it is still that place; whether it was, and the store's revision.
pub async fn leave(engine: &Engine, key: Bytes, revision: Revision) -> Result<TxnResponse, KvError> {
    let is_same = Compare { range: KeyRange::one(key.clone()), op: CompareOp::Equal, target: CompareTarget::Create(revision) };
    let delete = Op::Delete(DeleteRequest { range: KeyRange::one(key), prev_kv: false });
    engine.txn(Txn { compare: vec![is_same], success: vec![delete], failure: Vec::new() }).await
}

async fn wait_gone(engine: &Engine, key: Bytes, after: Revision) -> Result<(), KvError> {
    let request = WatchRequest { no_put: true, ..WatchRequest::new(KeyRange::one(key), after + 1) };
    let mut watch = engine.watch(request).await?;
    while watch.next().await?.events.is_empty() {}
    Ok(())
}
