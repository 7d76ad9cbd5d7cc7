//! Leases: which keys hang on them and when they end. Pure: time comes in as milliseconds of any clock that only grows.
//!
//! Deadlines are this member's own and not replicated, as in etcd (server/lease/lessor.go): after a restart a lease has its whole time again, or what
//! the last checkpoint of it said.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;

use crate::kv::{KvError, LeaseId, LeaseStatus};
use crate::planted::planted;

/// etcd's MaxLeaseTTL, in seconds.
pub(crate) const MAX_TTL_S: u64 = 9_000_000_000;

#[derive(Debug)]
struct Lease {
    ttl_ms: u64,
    /// Remaining time of a long lease as last checkpointed; 0: none.
    checkpoint_ms: u64,
    /// A checkpoint of it is on its way into the log.
    checkpoint_asked: bool,
    deadline_ms: u64,
    /// Told to end, and that is not done and has not failed yet.
    ending: bool,
    /// Was told to end once: it may never be renewed, since a failed write of its end may be found in the log after a crash.
    over: bool,
    keys: BTreeSet<Bytes>,
}

/// A lease as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseRecord {
    pub id: LeaseId,
    pub ttl_ms: u64,
    pub checkpoint_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Leases {
    by_id: HashMap<LeaseId, Lease>,
    deadlines: BTreeSet<(u64, LeaseId)>,
}

impl Leases {
    pub fn exists(&self, id: LeaseId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub fn ids(&self) -> Vec<LeaseId> {
        self.deadlines.iter().map(|(_, id)| *id).collect()
    }

    /// The keys that hang on a lease; none where there is no such lease.
    pub fn keys_of(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.by_id.get(&id).into_iter().flat_map(|lease| &lease.keys)
    }

    pub fn records(&self) -> Vec<LeaseRecord> {
        let record = |(id, lease): (&LeaseId, &Lease)| LeaseRecord { id: *id, ttl_ms: lease.ttl_ms, checkpoint_ms: lease.checkpoint_ms };
        let mut records: Vec<LeaseRecord> = self.by_id.iter().map(record).collect();
        records.sort_unstable_by_key(|record| record.id);
        records
    }

    pub fn grant(&mut self, id: LeaseId, ttl_ms: u64, now_ms: u64) -> Result<(), KvError> {
        if self.exists(id) {
            return Err(KvError::LeaseExists);
        }
        self.restore(LeaseRecord { id, ttl_ms, checkpoint_ms: 0 }, now_ms);
        Ok(())
    }

    /// Puts a stored lease back, with the time that is known to remain.
    pub fn restore(&mut self, record: LeaseRecord, now_ms: u64) {
        let remaining = if record.checkpoint_ms > 0 { record.checkpoint_ms } else { record.ttl_ms };
        let deadline_ms = now_ms.saturating_add(remaining);
        let lease = Lease {
            ttl_ms: record.ttl_ms,
            checkpoint_ms: record.checkpoint_ms,
            checkpoint_asked: false,
            deadline_ms,
            ending: false,
            over: false,
            keys: BTreeSet::new(),
        };
        if let Some(old) = self.by_id.insert(record.id, lease) {
            self.deadlines.remove(&(old.deadline_ms, record.id));
        }
        self.deadlines.insert((deadline_ms, record.id));
    }

    /// Ends a lease; returns its keys, sorted.
    pub fn revoke(&mut self, id: LeaseId) -> Result<BTreeSet<Bytes>, KvError> {
        let lease = self.by_id.remove(&id).ok_or(KvError::LeaseNotFound)?;
        self.deadlines.remove(&(lease.deadline_ms, id));
        Ok(lease.keys)
    }

    /// Gives the lease its whole time again; returns it.
    pub fn renew(&mut self, id: LeaseId, now_ms: u64) -> Result<Duration, KvError> {
        let lease = self.by_id.get_mut(&id).filter(|lease| !lease.over || planted!(RenewedWhileEnding)).ok_or(KvError::LeaseNotFound)?;
        self.deadlines.remove(&(lease.deadline_ms, id));
        if !planted!(RenewalLost) {
            lease.deadline_ms = now_ms.saturating_add(lease.ttl_ms);
        }
        self.deadlines.insert((lease.deadline_ms, id));
        Ok(Duration::from_millis(lease.ttl_ms))
    }

    /// Whether a shortened time is on record, or will be, which a renewal has to take back.
    pub fn has_checkpoint(&self, id: LeaseId) -> bool {
        self.by_id.get(&id).is_some_and(|lease| lease.checkpoint_ms > 0 || lease.checkpoint_asked)
    }

    /// Records how much time remains (0: all of it), for the next restart.
    pub fn checkpoint(&mut self, id: LeaseId, remaining_ms: u64) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.checkpoint_ms = remaining_ms.min(lease.ttl_ms);
            lease.checkpoint_asked = false;
        }
    }

    pub fn status(&self, id: LeaseId, now_ms: u64) -> Result<LeaseStatus, KvError> {
        let lease = self.by_id.get(&id).ok_or(KvError::LeaseNotFound)?;
        Ok(LeaseStatus {
            id,
            granted_ttl: Duration::from_millis(lease.ttl_ms),
            remaining_ttl: Duration::from_millis(lease.deadline_ms.saturating_sub(now_ms)),
            keys: lease.keys.iter().cloned().collect(),
        })
    }

    pub fn attach(&mut self, id: LeaseId, key: Bytes) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key);
        }
    }

    pub fn detach(&mut self, id: LeaseId, key: &[u8]) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// When the next lease ends that was not told to.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.deadlines.iter().find(|(_, id)| !self.by_id[id].ending).map(|(deadline, _)| *deadline)
    }

    /// Leases whose time is over, at most `limit`; they can no longer be renewed.
    pub fn take_expired(&mut self, now_ms: u64, limit: usize) -> Vec<LeaseId> {
        let due = self.deadlines.range(..=(now_ms, LeaseId::MAX)).map(|(_, id)| *id);
        let expired: Vec<LeaseId> = due.filter(|id| !self.by_id[id].ending).take(limit).collect();
        for id in &expired {
            if let Some(lease) = self.by_id.get_mut(id) {
                (lease.ending, lease.over) = (true, true);
            }
        }
        expired
    }

    /// The end of a lease could not be written: it is due again at `retry_ms`.
    pub fn end_failed(&mut self, id: LeaseId, retry_ms: u64) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.ending = false;
            self.deadlines.remove(&(lease.deadline_ms, id));
            lease.deadline_ms = retry_ms;
            self.deadlines.insert((retry_ms, id));
        }
    }

    /// Nobody else ends leases from now on: nobody else ends leases. Each has what is known to remain of it, and `extend_ms` for what was renewed and is not known.
    pub fn promote(&mut self, now_ms: u64, extend_ms: u64) {
        self.deadlines.clear();
        for (id, lease) in &mut self.by_id {
            let remaining = if lease.checkpoint_ms > 0 { lease.checkpoint_ms } else { lease.ttl_ms };
            lease.deadline_ms = now_ms.saturating_add(remaining).saturating_add(extend_ms);
            // Ends that were written in earlier terms are applied before the new leader renews anything.
            (lease.ending, lease.over) = (false, false);
            self.deadlines.insert((lease.deadline_ms, *id));
        }
    }

    /// This member leads no more: what it was about to end is another's matter.
    pub fn demote(&mut self) {
        self.by_id.values_mut().for_each(|lease| lease.ending = false);
    }

    /// Remaining times of leases longer than `interval_ms`, for a checkpoint of them.
    pub fn remaining_of_long(&mut self, interval_ms: u64, now_ms: u64) -> Vec<(LeaseId, u64)> {
        let in_order = self.deadlines.iter().map(|(_, id)| (id, &self.by_id[id]));
        let long = in_order.filter(|(_, lease)| lease.ttl_ms > interval_ms && !lease.ending);
        let due: Vec<(LeaseId, u64)> = long
            .map(|(id, lease)| (*id, lease.deadline_ms.saturating_sub(now_ms).max(1)))
            .filter(|(id, remaining)| {
                let lease = &self.by_id[id];
                let known = if lease.checkpoint_ms > 0 { lease.checkpoint_ms } else { lease.ttl_ms };
                known.abs_diff(*remaining) >= interval_ms / 2
            })
            .collect();
        for (id, _) in &due {
            if let Some(lease) = self.by_id.get_mut(id) {
                lease.checkpoint_asked = true;
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lives_and_ends() {
        let mut leases = Leases::default();
        leases.grant(7, 2000, 100).unwrap();
        assert_eq!(leases.grant(7, 2000, 100), Err(KvError::LeaseExists));
        leases.attach(7, Bytes::from_static(b"k"));
        assert_eq!(leases.status(7, 600).unwrap().remaining_ttl, Duration::from_millis(1500));
        assert_eq!(leases.renew(7, 1000), Ok(Duration::from_secs(2)));
        assert_eq!(leases.next_deadline_ms(), Some(3000));
        assert!(leases.take_expired(2999, 10).is_empty());
        assert_eq!(leases.take_expired(3000, 10), [7]);
        assert!(leases.take_expired(3000, 10).is_empty());
        assert_eq!(leases.renew(7, 3000), Err(KvError::LeaseNotFound));
        leases.end_failed(7, 4000);
        assert_eq!(leases.take_expired(4000, 10), [7]);
        assert_eq!(leases.revoke(7).unwrap().len(), 1);
        assert_eq!(leases.revoke(7), Err(KvError::LeaseNotFound));
        assert_eq!(leases.next_deadline_ms(), None);
    }

    #[test]
    fn a_checkpoint_shortens_the_time_after_a_restart() {
        let mut leases = Leases::default();
        leases.grant(1, 3_600_000, 0).unwrap();
        assert_eq!(leases.remaining_of_long(300_000, 100_000), []);
        assert_eq!(leases.remaining_of_long(300_000, 600_000), [(1, 3_000_000)]);
        leases.checkpoint(1, 3_000_000);
        let mut again = Leases::default();
        again.restore(leases.records()[0], 0);
        assert_eq!(again.next_deadline_ms(), Some(3_000_000));
        assert!(again.has_checkpoint(1));
    }
}
