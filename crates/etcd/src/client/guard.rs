//! Transactions of which it can be found out whether they happened: one put or delete of a key, provided that the key is at a given revision. When the
//! answer gets lost the key's history tells, so that such a transaction is carried out exactly once whatever happens to servers and connections. Two
//! clients that write the same bytes over the same revision are taken for one: what they wanted is so.

use store::*;

use super::EtcdKv;
use super::attempt::Repeat;
use crate::{convert, pb};

/// How often the answer may get lost.
const ROUNDS: u32 = 8;
/// How many revisions are searched for a key that may have come and gone.
const SEARCHED: Revision = 1000;
/// etcd takes 128 operations in a transaction.
const SEARCHED_AT_ONCE: usize = 100;

pub struct Guard {
    key: bytes::Bytes,
    /// 0: the key must not exist.
    expected: Revision,
    write: Write,
}

enum Write {
    Put { value: bytes::Bytes, lease: LeaseId },
    Delete,
}

/// What became of a transaction whose answer is lost.
enum Fate {
    /// At this revision.
    Done(Revision),
    NotDone,
    /// Somebody else changed the key first.
    Overtaken,
    Unknown,
}

impl Guard {
    /// `None` where the outcome could not be told.
    pub fn of(txn: &Txn) -> Option<Self> {
        let ([compare], [op]) = (&txn.compare[..], &txn.success[..]) else { return None };
        let CompareTarget::Mod(expected) = compare.target else { return None };
        let same = |range: &KeyRange| range.end.is_none() && range.key == compare.range.key;
        if compare.op != CompareOp::Equal || compare.range.end.is_some() {
            return None;
        }
        let write = match op {
            Op::Put(put) if put.key == compare.range.key && !(put.prev_kv || put.ignore_value || put.ignore_lease) => {
                Write::Put { value: put.value.clone(), lease: put.lease }
            }
            // A delete of what is not there leaves no trace.
            Op::Delete(delete) if same(&delete.range) && !delete.prev_kv && expected > 0 => Write::Delete,
            _ => return None,
        };
        Some(Self { key: compare.range.key.clone(), expected, write })
    }

    fn is_mine(&self, kind: EventKind, kv: &KeyValue) -> bool {
        match &self.write {
            Write::Put { value, lease } => kind == EventKind::Put && kv.value == *value && kv.lease == *lease,
            Write::Delete => kind == EventKind::Delete,
        }
    }

    fn judge(&self, kind: EventKind, kv: &KeyValue) -> Fate {
        if self.is_mine(kind, kv) { Fate::Done(kv.mod_revision) } else { Fate::Overtaken }
    }

    /// The answer that was lost.
    fn answer(&self, revision: Revision) -> TxnResponse {
        let response = match self.write {
            Write::Put { .. } => OpResponse::Put(None),
            Write::Delete => OpResponse::Delete { deleted: 1, prev_kvs: Vec::new() },
        };
        TxnResponse { revision, succeeded: true, responses: vec![response] }
    }
}

impl EtcdKv {
    pub(super) async fn guarded(&self, guard: &Guard, request: pb::TxnRequest) -> Result<TxnResponse, KvError> {
        let since = self.newest();
        let mut refused = None;
        let mut lost = KvError::Unavailable("the answer to a transaction got lost again and again".into());
        for round in 0..ROUNDS {
            let sent = self.attempt(Repeat::IfNotDone, |transport| {
                let (mut client, request) = (super::kv_client(transport), request.clone());
                async move { client.txn(request).await }
            });
            match sent.await {
                Ok(response) if response.succeeded || round == 0 => return self.told(convert::txn_response_from_pb(response)?),
                Ok(response) => refused = Some(response),
                Err(failed) if failed.is_unknown => lost = failed.error,
                Err(failed) => return Err(failed.error),
            }
            match (self.fate(guard, since).await?, refused.take()) {
                (Fate::Done(revision), _) => return Ok(guard.answer(revision)),
                (Fate::Overtaken, Some(response)) => return self.told(convert::txn_response_from_pb(response)?),
                // Sent again it is refused, and says why.
                (Fate::NotDone | Fate::Overtaken, _) => {}
                (Fate::Unknown, _) => return Err(lost),
            }
        }
        Err(lost)
    }

    fn told(&self, response: TxnResponse) -> Result<TxnResponse, KvError> {
        self.saw(response.revision);
        Ok(response)
    }

    /// Looks for a transaction that was sent when the store was at `since` at least.
    async fn fate(&self, guard: &Guard, since: Revision) -> Result<Fate, KvError> {
        let one = || RangeRequest::new(KeyRange::one(guard.key.clone()));
        let found = self.range(one()).await?;
        match (guard.expected, found.kvs.first()) {
            (0, None) => self.life_between(guard, since, found.revision).await,
            (0, Some(kv)) if kv.version == 1 => Ok(guard.judge(EventKind::Put, kv)),
            (0, Some(kv)) => match self.range(one().at(kv.create_revision)).await {
                Ok(first) => Ok(first.kvs.first().map_or(Fate::Unknown, |kv| guard.judge(EventKind::Put, kv))),
                Err(KvError::Compacted { .. }) => Ok(Fate::Unknown),
                Err(error) => Err(error),
            },
            (expected, Some(kv)) if kv.mod_revision == expected => Ok(Fate::NotDone),
            // The key has changed: the first change is there to be seen.
            (expected, _) => self.first_change(guard, expected + 1).await,
        }
    }

    async fn first_change(&self, guard: &Guard, start: Revision) -> Result<Fate, KvError> {
        let watch = async {
            let mut watch = self.watch(WatchRequest::new(KeyRange::one(guard.key.clone()), start)).await?;
            loop {
                if let Some(event) = watch.next().await?.events.first() {
                    return Ok(guard.judge(event.kind, &event.kv));
                }
            }
        };
        match watch.await {
            Err(KvError::Compacted { .. }) => Ok(Fate::Unknown),
            seen => seen,
        }
    }

    /// Whether a key that is not there was there in between, by this transaction.
    async fn life_between(&self, guard: &Guard, since: Revision, now: Revision) -> Result<Fate, KvError> {
        if now <= since {
            return Ok(Fate::NotDone);
        }
        if since == 0 || now - since > SEARCHED {
            return Ok(Fate::Unknown);
        }
        let revisions: Vec<Revision> = (since + 1..=now).collect();
        for revisions in revisions.chunks(SEARCHED_AT_ONCE) {
            let at = |revision: &Revision| Op::Range(RangeRequest::new(KeyRange::one(guard.key.clone())).at(*revision));
            let response = match self.txn(Txn { success: revisions.iter().map(at).collect(), ..Txn::default() }).await {
                Err(KvError::Compacted { .. }) => return Ok(Fate::Unknown),
                response => response?,
            };
            for response in response.responses {
                if let OpResponse::Range(found) = response
                    && let Some(kv) = found.kvs.first()
                    && kv.version == 1
                    && guard.is_mine(EventKind::Put, kv)
                {
                    return Ok(Fate::Done(kv.mod_revision));
                }
            }
        }
        Ok(Fate::NotDone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_told() {
        let compare = || Compare::mod_revision("k", 5);
        let put = || Op::Put(PutRequest::new("k", "v"));
        let check = |compare: Vec<Compare>, success: Vec<Op>, expected: bool| {
            let txn = Txn { compare, success, failure: Vec::new() };
            assert_eq!(Guard::of(&txn).is_some(), expected, "{txn:?}");
        };
        let delete = |key: &'static str| Op::Delete(DeleteRequest { range: KeyRange::one(key), prev_kv: false });
        check(vec![compare()], vec![put()], true);
        check(vec![Compare::mod_revision("k", 0)], vec![put()], true);
        check(vec![compare()], vec![delete("k")], true);
        check(vec![Compare::mod_revision("k", 0)], vec![delete("k")], false);
        check(vec![compare()], vec![delete("j")], false);
        check(vec![compare()], vec![Op::Delete(DeleteRequest { range: KeyRange::prefix("k"), prev_kv: false })], false);
        check(vec![Compare::mod_revision("j", 5)], vec![put()], false);
        check(vec![], vec![put()], false);
        check(vec![compare()], vec![put(), put()], false);
        check(vec![compare()], vec![Op::Put(PutRequest { prev_kv: true, ..PutRequest::new("k", "v") })], false);
        check(vec![Compare { op: CompareOp::Less, ..compare() }], vec![put()], false);
        check(vec![Compare { target: CompareTarget::Version(5), ..compare() }], vec![put()], false);
    }
}
