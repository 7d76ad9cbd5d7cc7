//! Forgets old revisions of the store, else it would grow for ever: at each interval what is older than the interval before
//! (upstream: storage/etcd3/compact.go, with the same key, so that several servers, theirs too, do it once between them).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{Compare, CompareOp, CompareTarget, KeyRange, Kv, KvError, Op, OpResponse, PutRequest, RangeRequest, Revision, Txn};

const KEY: &str = "compact_rev_key";

/// `interval` zero: nothing is ever forgotten.
pub fn start(kv: &Arc<dyn Kv>, interval: Duration, tasks: &base::Tasks) {
    if interval.is_zero() {
        return;
    }
    let kv = kv.clone();
    tasks.spawn_restarting("apiserver-compactor", move || {
        let kv = kv.clone();
        async move {
            let mut compactor = Compactor::default();
            loop {
                tokio::time::sleep(interval).await;
                match compactor.step(kv.as_ref()).await {
                    Ok(Some(revision)) => tracing::debug!(revision, "the store forgot what is older"),
                    Ok(None) => {}
                    Err(error) => tracing::error!(%error, "the store could not be compacted: it is tried again after the interval"),
                }
            }
        }
    });
}

/// What one server remembers between two steps.
#[derive(Debug, Default)]
struct Compactor {
    /// The version of `KEY`: how often anybody has compacted.
    turn: i64,
    /// The store's revision at the last step; 0 before the first.
    revision: Revision,
}

impl Compactor {
    /// Compacts to the revision of the step before, unless another server has had the turn. Gives the revision that it compacted to.
    async fn step(&mut self, kv: &dyn Kv) -> Result<Option<Revision>, KvError> {
        let is_our_turn = Compare { range: KeyRange::one(KEY), op: CompareOp::Equal, target: CompareTarget::Version(self.turn) };
        let txn = Txn {
            compare: vec![is_our_turn],
            success: vec![Op::Put(PutRequest::new(KEY, Bytes::from(self.revision.to_string())))],
            failure: vec![Op::Range(RangeRequest::new(KeyRange::one(KEY)))],
        };
        let done = kv.txn(txn).await?;
        let before = std::mem::replace(&mut self.revision, done.revision);
        if !done.succeeded {
            self.turn = match done.responses.first() {
                Some(OpResponse::Range(found)) => found.kvs.first().map_or(0, |kv| kv.version),
                _ => return Err(KvError::Internal("a range answered with another response".into())),
            };
            return Ok(None);
        }
        self.turn += 1;
        if before == 0 {
            return Ok(None);
        }
        match kv.compact(before, false).await {
            Ok(()) => Ok(Some(before)),
            // Somebody else, an operator perhaps, has forgotten more.
            Err(KvError::Compacted { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use store::{Engine, EngineOptions};

    use super::*;

    async fn put(kv: &dyn Kv) -> Revision {
        kv.put(PutRequest::new("/registry/a", "1")).await.unwrap()
    }

    async fn is_compacted(kv: &dyn Kv, revision: Revision) -> bool {
        let found = kv.range(RangeRequest::new(KeyRange::one("/registry/a")).at(revision)).await;
        matches!(found, Err(KvError::Compacted { .. }))
    }

    #[tokio::test]
    async fn the_last_interval_is_kept() {
        let tasks = base::Tasks::new();
        let kv = Engine::in_memory(EngineOptions::default(), &tasks);
        let mut compactor = Compactor::default();
        let old = put(&kv).await;
        put(&kv).await;
        assert_eq!(compactor.step(&kv).await.unwrap(), None, "the first step only looks");
        let seen = compactor.revision;
        let newer = put(&kv).await;
        assert!(!is_compacted(&kv, old).await);
        assert_eq!(compactor.step(&kv).await.unwrap(), Some(seen));
        assert_eq!((is_compacted(&kv, old).await, is_compacted(&kv, newer).await), (true, false));
        tasks.stop();
    }

    #[tokio::test]
    async fn one_of_two_servers_has_the_turn() {
        let tasks = base::Tasks::new();
        let kv = Engine::in_memory(EngineOptions::default(), &tasks);
        let (mut one, mut two) = (Compactor::default(), Compactor::default());
        put(&kv).await;
        one.step(&kv).await.unwrap();
        assert_eq!(two.step(&kv).await.unwrap(), None, "the first server had the turn");
        put(&kv).await;
        assert!(one.step(&kv).await.unwrap().is_some());
        assert_eq!(two.step(&kv).await.unwrap(), None);
        // The first is gone: the second takes over.
        put(&kv).await;
        assert!(two.step(&kv).await.unwrap().is_some());
        tasks.stop();
    }
}
