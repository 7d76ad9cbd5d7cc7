//! A naive store to compare the real one with: a whole map per revision. Slow and obvious; shares no code with the state machine. For tests.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;

use crate::kv::*;
use crate::state::Command;

pub(crate) type Map = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
pub(crate) struct Model {
    /// The map at revision `n + 1`.
    maps: Vec<Map>,
    pub compact_revision: Revision,
    pub leases: BTreeSet<LeaseId>,
    /// Keys as changed, by revision; `None` is a deletion.
    pub events: Vec<(Revision, Bytes, Option<KeyValue>)>,
    pub applied: u64,
}

impl Model {
    pub fn new() -> Self {
        Self { maps: vec![Map::new()], compact_revision: 0, leases: BTreeSet::new(), events: Vec::new(), applied: 0 }
    }

    pub fn revision(&self) -> Revision {
        self.maps.len() as Revision
    }

    pub fn at(&self, revision: Revision) -> &Map {
        &self.maps[revision as usize - 1]
    }

    pub fn apply(&mut self, command: &Command) -> Result<Option<TxnResponse>, KvError> {
        self.applied += 1;
        match command {
            Command::Compact(revision) if *revision > self.revision() => Err(KvError::FutureRevision),
            Command::Compact(revision) if *revision <= self.compact_revision => {
                Err(KvError::Compacted { compact_revision: self.compact_revision })
            }
            Command::Compact(revision) => {
                self.compact_revision = *revision;
                Ok(None)
            }
            Command::LeaseGrant { id, .. } if !self.leases.insert(*id) => Err(KvError::LeaseExists),
            Command::LeaseGrant { .. } | Command::LeaseCheckpoint(_) => Ok(None),
            Command::LeaseRevoke(id) if !self.leases.remove(id) => Err(KvError::LeaseNotFound),
            Command::LeaseRevoke(id) => {
                let mut work = Work::new(self);
                let keys: Vec<_> = work.map.values().filter(|kv| kv.lease == *id).map(|kv| kv.key.clone()).collect();
                for key in keys {
                    work.delete(&key);
                }
                work.finish();
                Ok(None)
            }
            Command::Txn(txn) => {
                let before = self.at(self.revision()).clone();
                self.validate(&before, txn)?;
                let mut work = Work::new(self);
                let mut response = work.txn(&before, txn);
                work.finish();
                response.revision = self.revision();
                Ok(Some(response))
            }
            // Who is a member changes no key.
            Command::Member(_) => Ok(None),
            Command::Auth(_) | Command::Alarm(..) | Command::As(..) => unreachable!("the model knows keys, not users"),
        }
    }

    /// First all puts, then all ranges.
    fn validate(&self, before: &Map, txn: &Txn) -> Result<(), KvError> {
        self.validate_each(before, txn, &|op| match op {
            Op::Put(put) if (put.ignore_value || put.ignore_lease) && !before.contains_key(&put.key) => Err(KvError::KeyNotFound),
            Op::Put(put) if put.lease != 0 && !self.leases.contains(&put.lease) => Err(KvError::LeaseNotFound),
            _ => Ok(()),
        })?;
        self.validate_each(before, txn, &|op| match op {
            Op::Range(range) if range.revision > self.revision() => Err(KvError::FutureRevision),
            Op::Range(range) if range.revision > 0 && range.revision < self.compact_revision => {
                Err(KvError::Compacted { compact_revision: self.compact_revision })
            }
            _ => Ok(()),
        })
    }

    fn validate_each(&self, before: &Map, txn: &Txn, check: &dyn Fn(&Op) -> Result<(), KvError>) -> Result<(), KvError> {
        for op in if holds(before, txn) { &txn.success } else { &txn.failure } {
            check(op)?;
            if let Op::Txn(inner) = op {
                self.validate_each(before, inner, check)?;
            }
        }
        Ok(())
    }
}

pub(crate) fn holds(map: &Map, txn: &Txn) -> bool {
    txn.compare.iter().all(|compare| {
        let mut found: Vec<_> = map.values().filter(|kv| compare.range.contains(&kv.key)).cloned().collect();
        if found.is_empty() {
            if matches!(compare.target, CompareTarget::Value(_)) {
                return false;
            }
            found.push(KeyValue::default());
        }
        found.iter().all(|kv| {
            let order = match &compare.target {
                CompareTarget::Version(n) => kv.version.cmp(n),
                CompareTarget::Create(n) => kv.create_revision.cmp(n),
                CompareTarget::Mod(n) => kv.mod_revision.cmp(n),
                CompareTarget::Lease(n) => kv.lease.cmp(n),
                CompareTarget::Value(value) => kv.value.cmp(value),
            };
            match compare.op {
                CompareOp::Equal => order.is_eq(),
                CompareOp::NotEqual => order.is_ne(),
                CompareOp::Greater => order.is_gt(),
                CompareOp::Less => order.is_lt(),
            }
        })
    })
}

struct Work<'a> {
    model: &'a mut Model,
    map: Map,
    changed: bool,
}

impl<'a> Work<'a> {
    fn new(model: &'a mut Model) -> Self {
        let map = model.at(model.revision()).clone();
        Self { model, map, changed: false }
    }

    fn next(&self) -> Revision {
        self.model.revision() + 1
    }

    fn finish(self) {
        if self.changed {
            self.model.maps.push(self.map);
        }
    }

    fn delete(&mut self, key: &Bytes) -> KeyValue {
        self.changed = true;
        self.model.events.push((self.next(), key.clone(), None));
        self.map.remove(key).expect("only live keys are deleted")
    }

    fn put(&mut self, put: &PutRequest) -> Option<KeyValue> {
        let next = self.next();
        self.changed = true;
        let old = self.map.get(&put.key).cloned();
        let mut kv = old.clone().unwrap_or(KeyValue { key: put.key.clone(), create_revision: next, ..KeyValue::default() });
        kv.mod_revision = next;
        kv.version += 1;
        if !put.ignore_value {
            kv.value = put.value.clone();
        }
        if !put.ignore_lease {
            kv.lease = put.lease;
        }
        self.map.insert(put.key.clone(), kv.clone());
        self.model.events.push((next, put.key.clone(), Some(kv)));
        old.filter(|_| put.prev_kv)
    }

    fn txn(&mut self, before: &Map, txn: &Txn) -> TxnResponse {
        let succeeded = holds(before, txn);
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            responses.push(match op {
                Op::Put(put) => OpResponse::Put(self.put(put)),
                Op::Delete(delete) => {
                    let keys: Vec<_> = self.map.keys().filter(|key| delete.range.contains(key)).cloned().collect();
                    let prev_kvs: Vec<_> = keys.iter().map(|key| self.delete(key)).collect();
                    OpResponse::Delete { deleted: keys.len() as i64, prev_kvs: if delete.prev_kv { prev_kvs } else { vec![] } }
                }
                Op::Range(range) => {
                    let map = if range.revision > 0 { self.model.at(range.revision) } else { &self.map };
                    let found: Vec<_> = map.values().filter(|kv| range.range.contains(&kv.key)).cloned().collect();
                    let kept = if range.limit > 0 { range.limit.min(found.len()) } else { found.len() };
                    let more = kept < found.len();
                    let revision = self.now();
                    OpResponse::Range(RangeResponse { revision, count: found.len() as i64, kvs: found[..kept].to_vec(), more })
                }
                Op::Txn(inner) => OpResponse::Txn(self.txn(before, inner)),
            });
        }
        TxnResponse { revision: self.now(), succeeded, responses }
    }

    fn now(&self) -> Revision {
        if self.changed { self.next() } else { self.model.revision() }
    }
}

/// A random command on few keys and leases, so that they meet often. `revision` is about what the store has.
pub(crate) fn command(rng: &mut StdRng, revision: Revision) -> Command {
    match rng.random_range(0..20) {
        0 => Command::Compact(rng.random_range(0..=revision + 1)),
        1 => Command::LeaseGrant { id: rng.random_range(1..4), ttl_ms: 60_000 },
        2 => Command::LeaseRevoke(rng.random_range(1..4)),
        3 => Command::LeaseCheckpoint(vec![(rng.random_range(1..4), rng.random_range(0..1000))]),
        _ => loop {
            let txn = txn(rng, revision, 0);
            if crate::check::txn(&txn, 128).is_ok() {
                break Command::Txn(txn);
            }
        },
    }
}

pub(crate) fn key(rng: &mut StdRng) -> Bytes {
    const KEYS: [&str; 6] = ["a", "a/1", "a/2", "a0", "b", "c"];
    KEYS[rng.random_range(0..KEYS.len())].into()
}

pub(crate) fn key_range(rng: &mut StdRng) -> KeyRange {
    match rng.random_range(0..8) {
        0 => KeyRange::prefix("a/"),
        1 => KeyRange::between("a/1", "b"),
        2 => KeyRange::between(key(rng), "\0"),
        3 => KeyRange::between(key(rng), key(rng)),
        _ => KeyRange::one(key(rng)),
    }
}

pub(crate) fn txn(rng: &mut StdRng, revision: Revision, depth: u32) -> Txn {
    let compare = (0..rng.random_range(0..2)).map(|_| compare(rng, revision)).collect();
    let ops = |rng: &mut StdRng, count| (0..rng.random_range(0..count)).map(|_| op(rng, revision, depth)).collect();
    Txn { compare, success: ops(rng, 4), failure: ops(rng, 3) }
}

fn compare(rng: &mut StdRng, revision: Revision) -> Compare {
    const OPS: [CompareOp; 4] = [CompareOp::Equal, CompareOp::Greater, CompareOp::Less, CompareOp::NotEqual];
    let near = rng.random_range((revision - 5).max(0)..=revision);
    let target = match rng.random_range(0..5) {
        0 => CompareTarget::Version(rng.random_range(0..3)),
        1 => CompareTarget::Create(near),
        2 => CompareTarget::Mod(near),
        3 => CompareTarget::Lease(rng.random_range(0..3)),
        _ => CompareTarget::Value(vec![rng.random_range(0..9)].into()),
    };
    Compare { range: key_range(rng), op: OPS[rng.random_range(0..OPS.len())], target }
}

fn op(rng: &mut StdRng, revision: Revision, depth: u32) -> Op {
    match rng.random_range(0..10) {
        0 | 1 => Op::Delete(DeleteRequest { range: key_range(rng), prev_kv: rng.random() }),
        2 | 3 => {
            let at = if rng.random_bool(0.2) { rng.random_range(0..=revision + 1) } else { 0 };
            Op::Range(RangeRequest::new(key_range(rng)).limit(rng.random_range(0..3)).at(at))
        }
        4 if depth < 3 => Op::Txn(txn(rng, revision, depth + 1)),
        _ => {
            let mut put = PutRequest::new(key(rng), vec![rng.random_range(0..9u8); rng.random_range(1..40)]);
            put.prev_kv = rng.random();
            match rng.random_range(0..10) {
                0 | 1 => put.lease = rng.random_range(1..4),
                2 => put.ignore_lease = true,
                3 => (put.ignore_value, put.value) = (true, Bytes::new()),
                _ => {}
            }
            Op::Put(put)
        }
    }
}
