//! What clients ask for: random requests on few keys and leases, so that they meet often. Every transaction carries the mark of its call.

use std::collections::VecDeque;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

use super::history::{Request, mark, mark_compare};
use crate::check;
use crate::kv::*;
use crate::model;

/// How much of what a run has; each run draws its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub txns: u32,
    pub puts: u32,
    pub swaps: u32,
    pub deletes: u32,
    pub ranges: u32,
    pub compactions: u32,
    pub leases: u32,
}

impl Mix {
    pub fn draw(rng: &mut StdRng) -> Self {
        let mut some = |most: u32| rng.random_range(0..=most);
        Self {
            txns: some(20) + 1,
            puts: some(40) + 5,
            swaps: some(20),
            deletes: some(10),
            ranges: some(40) + 5,
            compactions: some(6),
            leases: some(30),
        }
    }
}

pub(crate) struct Workload {
    pub mix: Mix,
    /// Versions that some client has read.
    seen: VecDeque<KeyValue>,
    leases: Vec<LeaseId>,
    revision: Revision,
    /// Minutes pass between calls.
    slow: bool,
}

impl Workload {
    pub fn new(mix: Mix, slow: bool) -> Self {
        Self { mix, seen: VecDeque::new(), leases: Vec::new(), revision: 1, slow }
    }

    pub fn told(&mut self, revision: Revision, kvs: &[KeyValue]) {
        self.revision = self.revision.max(revision);
        self.seen.extend(kvs.iter().cloned());
        while self.seen.len() > 16 {
            self.seen.pop_front();
        }
    }

    pub fn granted(&mut self, id: LeaseId) {
        self.leases.push(id);
        if self.leases.len() > 6 {
            self.leases.remove(0);
        }
    }

    pub fn request(&mut self, rng: &mut StdRng, call: u64) -> Request {
        let Mix { txns, puts, swaps, deletes, ranges, compactions, leases } = self.mix;
        let mut left = rng.random_range(0..txns + puts + swaps + deletes + ranges + compactions + leases);
        let mut falls_to = |weight: u32| {
            let hit = left < weight;
            left = left.wrapping_sub(weight);
            hit
        };
        if falls_to(txns) {
            Request::Txn(self.txn(rng, call))
        } else if falls_to(puts) {
            Request::Txn(self.put(rng, call))
        } else if falls_to(swaps) {
            Request::Txn(self.swap(rng, call))
        } else if falls_to(deletes) {
            let delete = Op::Delete(DeleteRequest { range: model::key_range(rng), prev_kv: rng.random() });
            Request::Txn(Txn { compare: vec![mark_compare(call)], success: vec![delete], ..Txn::default() })
        } else if falls_to(ranges) {
            Request::Range(self.range(rng))
        } else if falls_to(compactions) {
            Request::Compact(self.some_revision(rng))
        } else {
            self.lease(rng, call)
        }
    }

    /// About the present: sometimes too old, sometimes in the future.
    fn some_revision(&self, rng: &mut StdRng) -> Revision {
        let back = if rng.random_bool(0.1) { rng.random_range(0..=self.revision) } else { rng.random_range(0..=self.revision.min(12)) };
        (self.revision - back + i64::from(rng.random_bool(0.1))).max(1)
    }

    pub fn watch(&self, rng: &mut StdRng) -> WatchRequest {
        let start = match rng.random_range(0..4) {
            0 => self.some_revision(rng),
            1 => self.revision + rng.random_range(0..5),
            _ => 0,
        };
        let range = if rng.random_bool(0.3) { KeyRange::between("\0", "\0") } else { model::key_range(rng) };
        let filter = rng.random_range(0..8);
        WatchRequest {
            prev_kv: rng.random(),
            progress_notify: rng.random_bool(0.3),
            no_put: filter == 0,
            no_delete: filter == 1,
            ..WatchRequest::new(range, start)
        }
    }

    fn txn(&self, rng: &mut StdRng, call: u64) -> Txn {
        loop {
            let mut txn = model::txn(rng, self.revision, 0);
            let mut values = 0;
            self.finish(rng, call, &mut txn, &mut values);
            if check::is_read_only(&txn) || mark(&txn).is_none() || rng.random_bool(0.3) {
                txn.compare.push(mark_compare(call));
            }
            if check::txn(&txn, 128).is_ok() {
                return txn;
            }
        }
    }

    /// Gives each put its own value and a lease that may be there.
    fn finish(&self, rng: &mut StdRng, call: u64, txn: &mut Txn, values: &mut u32) {
        for compare in &mut txn.compare {
            if let (CompareTarget::Value(value), Some(seen)) = (&mut compare.target, self.seen(rng)) {
                *value = seen.value;
            }
        }
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            match op {
                Op::Put(put) => {
                    if !put.ignore_value {
                        *values += 1;
                        put.value = value(rng, call, *values);
                    }
                    if put.lease != 0 {
                        put.lease = self.a_lease(rng);
                    }
                }
                Op::Txn(inner) => self.finish(rng, call, inner, values),
                Op::Range(_) | Op::Delete(_) => {}
            }
        }
    }

    fn seen(&self, rng: &mut StdRng) -> Option<KeyValue> {
        if self.seen.is_empty() { None } else { self.seen.get(rng.random_range(0..self.seen.len())).cloned() }
    }

    fn a_lease(&self, rng: &mut StdRng) -> LeaseId {
        match self.leases.len() {
            0 => 0,
            _ if rng.random_bool(0.02) => 77,
            count => self.leases[rng.random_range(0..count)],
        }
    }

    fn put(&self, rng: &mut StdRng, call: u64) -> Txn {
        let mut put = PutRequest::new(model::key(rng), value(rng, call, 0));
        put.prev_kv = rng.random_bool(0.3);
        if rng.random_bool(0.3) {
            put.lease = self.a_lease(rng);
        }
        Txn { success: vec![Op::Put(put)], ..Txn::default() }
    }

    /// What an API server does: swap a version that was read, or read what is there now.
    fn swap(&self, rng: &mut StdRng, call: u64) -> Txn {
        let (key, revision) = match self.seen(rng) {
            Some(seen) if rng.random_bool(0.8) => (seen.key, seen.mod_revision),
            _ => (model::key(rng), 0),
        };
        let put = PutRequest::new(key.clone(), value(rng, call, 0));
        let failure = vec![Op::Range(RangeRequest::new(KeyRange::one(key.clone())))];
        Txn { compare: vec![Compare::mod_revision(key, revision)], success: vec![Op::Put(put)], failure }
    }

    fn range(&self, rng: &mut StdRng) -> RangeRequest {
        let mut request = RangeRequest::new(model::key_range(rng)).limit(rng.random_range(0..4));
        if rng.random_bool(0.3) {
            request.revision = self.some_revision(rng);
        }
        request.serializable = rng.random_bool(0.2);
        request.keys_only = rng.random_bool(0.1);
        request.count_only = rng.random_bool(0.1);
        if rng.random_bool(0.1) {
            request.sort_order = SortOrder::Descend;
        }
        if rng.random_bool(0.1) {
            request.min_mod_revision = self.some_revision(rng);
        }
        request
    }

    fn lease(&self, rng: &mut StdRng, call: u64) -> Request {
        let known = self.leases.is_empty();
        let id = if known { 77 } else { self.leases[rng.random_range(0..self.leases.len())] };
        match rng.random_range(0..12) {
            0..3 => {
                let seconds =
                    if rng.random_bool(if self.slow { 0.7 } else { 0.1 }) { rng.random_range(301..900) } else { rng.random_range(1..12) };
                let again = rng.random_bool(0.1);
                Request::Grant { id: if again { id } else { 1000 + call as LeaseId }, ttl_ms: seconds * 1000 }
            }
            3 => Request::Revoke(id),
            4 => Request::TimeToLive(id),
            5 => Request::Leases,
            _ => Request::KeepAlive(id),
        }
    }
}

/// Values differ, so that it is plain who wrote one. Some are long enough to span sectors.
fn value(rng: &mut StdRng, call: u64, number: u32) -> Bytes {
    let length = if rng.random_bool(0.1) { rng.random_range(200..1500) } else { rng.random_range(0..30) };
    format!("#{call}.{number}.{}", "x".repeat(length)).into()
}
