//! The state machine: applies commands in order and answers reads. Pure: no clock, no I/O, so that a log, Raft or a simulator can drive it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::alarms::{Alarm, Alarms};
use crate::auth::{Auth, AuthCommand, AuthRecord, Caller};
use crate::checkpoint::{Meta, Saved};
use crate::index::{Change, Found, Index, Item, Keep, Page, Version};
use crate::kv::*;
use crate::lease::Leases;
use crate::planted::planted;
use crate::raft::cluster::{self, Cluster, MemberCommand};
use crate::reply::{Part, Parts, Pending, Reply};
use crate::segment::Record;
use crate::shelf::Shelf;
use crate::{check, range};

/// Small replicated sections beside keys and leases, each a name and bytes that its owner understands.
pub type Extras = Vec<(String, Vec<u8>)>;

/// The section of users and roles: an `AuthRecord`.
pub const AUTH_SECTION: &str = "auth";
/// The section of alarms: an `Alarms`.
pub const ALARMS_SECTION: &str = "alarms";

/// A change to the store, as the log holds it. The same commands in the same order make the same store.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    Txn(Txn),
    Compact(Revision),
    LeaseGrant {
        id: LeaseId,
        ttl_ms: u64,
    },
    LeaseRevoke(LeaseId),
    /// Remaining milliseconds of long leases; 0 takes a checkpoint back.
    LeaseCheckpoint(Vec<(LeaseId, u64)>),
    Member(MemberCommand),
    Auth(AuthCommand),
    /// Raised, or taken back.
    Alarm(Alarm, bool),
    /// Somebody's command. Without it a command is nobody's.
    As(Caller, Box<Command>),
}

impl Command {
    pub fn is_txn(&self) -> bool {
        match self {
            Self::Txn(_) => true,
            Self::As(_, command) => command.is_txn(),
            _ => false,
        }
    }

    /// Whether it can make the store bigger.
    pub fn grows(&self) -> bool {
        match self {
            Self::Txn(txn) => check::has_put(txn),
            Self::LeaseGrant { .. } => true,
            Self::Compact(_) | Self::LeaseRevoke(_) | Self::LeaseCheckpoint(_) | Self::Member(_) | Self::Auth(_) | Self::Alarm(..) => false,
            Self::As(_, command) => command.grows(),
        }
    }
}

/// What a command did: the answer for whoever sent it, and the changes for the watchers.
#[derive(Debug)]
pub(crate) struct Applied {
    pub result: Result<Reply, KvError>,
    pub changes: Vec<Change>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub revision: Revision,
    pub compact_revision: Revision,
    /// Place in the log of the last applied command.
    pub applied_index: u64,
    pub index: Index,
    pub leases: Leases,
    pub auth: Auth,
    /// Empty in a store that is no member of a cluster.
    pub cluster: Cluster,
    pub alarms: Alarms,
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: 1,
            compact_revision: 0,
            applied_index: 0,
            index: Index::default(),
            leases: Leases::default(),
            auth: Auth::default(),
            cluster: Cluster::default(),
            alarms: Alarms::default(),
        }
    }
}

impl State {
    /// An empty state whose values go to `shelf`.
    pub fn new(shelf: Arc<Shelf>) -> Self {
        let mut state = Self::default();
        state.index.shelf = shelf;
        state
    }

    /// Rebuilds a state from a checkpoint; `versions` come in the order of (revision, sub). What the last compaction left invisible comes out through
    /// `removed`.
    pub fn restore(
        saved: &Saved,
        versions: Vec<Arc<Version>>,
        shelf: Arc<Shelf>,
        now_ms: u64,
        removed: &mut Vec<Arc<Version>>,
    ) -> Result<Self, KvError> {
        let Meta { applied_index, revision, compact_revision, .. } = saved.meta;
        let mut state = Self { revision, compact_revision, applied_index, ..Self::default() };
        for lease in &saved.leases {
            state.leases.restore(*lease, now_ms);
        }
        let leased: Vec<_> = versions.iter().filter(|version| version.lease != 0).cloned().collect();
        state.index = Index::restore(versions, compact_revision, shelf, removed);
        for version in leased {
            let newest = state.index.get(&version.key, Revision::MAX);
            if newest.is_some_and(|newest| Arc::ptr_eq(newest, &version)) && !planted!(AttachmentsForgotten) {
                state.leases.attach(version.lease, Bytes::copy_from_slice(&version.key));
            }
        }
        state.restore_extras(&saved.extras)?;
        Ok(state)
    }

    /// The sections beside keys and leases, for a checkpoint; an empty one may be left out.
    pub fn extras(&self) -> Extras {
        let mut extras = Extras::new();
        if *self.auth.record() != AuthRecord::default() {
            extras.push((AUTH_SECTION.to_owned(), self.auth.record().to_bytes()));
        }
        if !self.cluster.is_empty() {
            extras.push((cluster::SECTION.to_owned(), self.cluster.encode()));
        }
        extras.extend(self.alarms.to_bytes().map(|section| (ALARMS_SECTION.to_owned(), section)));
        extras
    }

    /// Takes over what `extras` gave. A section that is not known was written by a newer program.
    pub fn restore_extras(&mut self, extras: &Extras) -> Result<(), KvError> {
        self.auth.restore(AuthRecord::default());
        self.alarms = Alarms::default();
        self.cluster = Cluster::default();
        for (name, section) in extras {
            match name.as_str() {
                AUTH_SECTION => self.auth.restore(AuthRecord::from_bytes(section)?),
                ALARMS_SECTION => self.alarms = Alarms::from_bytes(section)?,
                cluster::SECTION => {
                    self.cluster = Cluster::decode(section)
                        .map_err(|error| KvError::Corrupt(format!("the section of members cannot be understood: {error}")))?;
                }
                _ => {
                    return Err(KvError::Corrupt(format!(
                        "the checkpoint has a section {name:?}: a newer version wrote it, use that version"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Applies the command at the given place of the log. `now_ms` only sets deadlines of leases.
    pub fn apply(&mut self, index: u64, command: Command, now_ms: u64) -> Applied {
        debug_assert_eq!(index, self.applied_index + 1, "commands are applied in order");
        self.applied_index = index;
        #[cfg(test)]
        crate::sim::tap::applying(index, &command);
        let mut changes = Vec::new();
        let (caller, command) = match command {
            Command::As(caller, command) => (caller, *command),
            command => (Caller::Anonymous, command),
        };
        if let Err(error) = self.auth.check(&caller, &command, &self.leases) {
            return Applied { result: Err(error.into()), changes };
        }
        if let Err(error) = self.alarms.check(&command) {
            return Applied { result: Err(error), changes };
        }
        let result = match command {
            Command::Txn(txn) => self.apply_txn(txn, &mut changes).map(Reply::Txn),
            Command::Compact(revision) => self.compact(revision).map(|()| Reply::Done),
            Command::LeaseGrant { id, ttl_ms } => self.leases.grant(id, ttl_ms, now_ms).map(|()| Reply::Done),
            Command::LeaseRevoke(id) => self.revoke(id, &mut changes).map(|()| Reply::Done),
            Command::LeaseCheckpoint(remaining) => {
                for (id, remaining_ms) in remaining {
                    self.leases.checkpoint(id, remaining_ms);
                }
                Ok(Reply::Done)
            }
            Command::Member(command) => self.cluster.command(command).map(|()| Reply::Done),
            Command::Auth(command) => match self.auth.apply(index, command, now_ms) {
                Ok(token) => Ok(token.map_or(Reply::Done, Reply::Token)),
                Err(error) => Err(error.into()),
            },
            Command::Alarm(alarm, is_on) => {
                self.alarms.set(alarm, is_on);
                Ok(Reply::Done)
            }
            Command::As(..) => Err(KvError::Internal("a command in the name of two callers".into())),
        };
        Applied { result, changes }
    }

    /// Scans one page for a read outside of transactions; `revision` is the pinned revision.
    pub fn scan(&self, request: &RangeRequest, from: Option<&bytes::Bytes>, revision: Revision, budget: usize, found: &mut Found) -> Page {
        self.index.scan(&request.range, from, revision, range::keep(request), budget, found)
    }

    /// The revision at which a request reads: its own, or the newest.
    pub fn read_revision(&self, request: &RangeRequest) -> Result<Revision, KvError> {
        self.pin(request.revision)
    }

    /// The revision itself if it can be read, the newest for 0.
    pub fn pin(&self, wanted: Revision) -> Result<Revision, KvError> {
        if wanted > self.revision {
            return Err(KvError::FutureRevision);
        }
        let revision = if wanted <= 0 || planted!(OldReadSeesNew) { self.revision } else { wanted };
        if revision < self.compact_revision {
            return Err(KvError::Compacted { compact_revision: self.compact_revision });
        }
        Ok(revision)
    }

    /// Answers a transaction that cannot write.
    pub fn read_txn(&self, txn: &Txn) -> Result<Pending, KvError> {
        let mut plan = self.choose(txn)?;
        Ok(Pending { parts: self.read_chosen(txn, &mut plan), shelf: self.index.shelf.clone() })
    }

    fn read_chosen(&self, txn: &Txn, plan: &mut Plan) -> Parts {
        let succeeded = plan.branch();
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut parts = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Range(request) => parts.push(self.range_at(request.clone(), self.revision)),
                Op::Txn(inner) => parts.push(Part::Txn(self.read_chosen(inner, plan))),
                Op::Put(_) | Op::Delete(_) => unreachable!("only transactions without writes are read"),
            }
        }
        Parts { revision: self.revision, succeeded, parts }
    }

    /// A checked range inside a transaction that stands at `current`.
    fn range_at(&self, request: RangeRequest, current: Revision) -> Part {
        let revision = if request.revision <= 0 { current } else { request.revision };
        let mut found = Found::default();
        self.scan(&request, None, revision, usize::MAX, &mut found);
        Part::Range(request, current, found)
    }

    fn apply_txn(&mut self, txn: Txn, changes: &mut Vec<Change>) -> Result<Pending, KvError> {
        let mut plan = self.choose(&txn)?;
        let mut write = Write { next: self.revision + 1, state: self, changes };
        let mut parts = write.run(txn, &mut plan);
        if !changes.is_empty() {
            self.revision += 1;
        }
        parts.revision = self.revision;
        Ok(Pending { parts, shelf: self.index.shelf.clone() })
    }

    /// Takes every branch and checks every operation on it before anything is written: a transaction is done whole or not at all.
    fn choose(&self, txn: &Txn) -> Result<Plan, KvError> {
        let mut plan = Plan::default();
        let mut ranges = Vec::new();
        self.choose_into(txn, &mut plan, &mut ranges)?;
        // What is wrong with a put is told before what is wrong with a range, wherever they stand (server/etcdserver/apply.go, Txn).
        for request in ranges {
            self.read_revision(request)?;
        }
        Ok(plan)
    }

    fn choose_into<'a>(&self, txn: &'a Txn, plan: &mut Plan, ranges: &mut Vec<&'a RangeRequest>) -> Result<(), KvError> {
        let mut succeeded = true;
        for compare in &txn.compare {
            succeeded = succeeded && self.compare(compare)?;
        }
        plan.branches.push_back(succeeded);
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op {
                Op::Range(request) => ranges.push(request),
                Op::Put(request) => self.check_put(request, plan)?,
                Op::Delete(_) => {}
                Op::Txn(inner) => self.choose_into(inner, plan, ranges)?,
            }
        }
        Ok(())
    }

    fn check_put(&self, request: &PutRequest, plan: &mut Plan) -> Result<(), KvError> {
        if request.ignore_value || request.ignore_lease {
            let old = self.index.get(&request.key, self.revision).ok_or(KvError::KeyNotFound)?;
            if request.ignore_value {
                plan.kept.push_back(self.index.shelf.value(old)?);
            }
        }
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(KvError::LeaseNotFound);
        }
        Ok(())
    }

    /// The versions whose values a transaction needs before it can be done, as far as they are not in memory: to be read before the state is held.
    pub fn cold(&self, txn: &Txn) -> Vec<Item> {
        let mut keys = Vec::new();
        needed(txn, &mut keys);
        let items = keys.into_iter().filter_map(|key| self.index.get(key, self.revision)).map(Item::of);
        items.filter(|item| item.value.is_none()).collect()
    }

    fn compare(&self, compare: &Compare) -> Result<bool, KvError> {
        if compare.range.end.is_none() {
            return self.holds(compare, self.index.get(&compare.range.key, self.revision));
        }
        let mut found = Found::default();
        self.index.scan(&compare.range, None, self.revision, Keep::KEYS, usize::MAX, &mut found);
        if found.items.is_empty() {
            return self.holds(compare, None);
        }
        for item in &found.items {
            if !self.holds(compare, Some(&item.version))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a compare holds for one key (server/etcdserver/txn/txn.go, applyCompare).
    fn holds(&self, compare: &Compare, version: Option<&Arc<Version>>) -> Result<bool, KvError> {
        let order = match &compare.target {
            // A missing key has no value, not even an empty one.
            CompareTarget::Value(value) => match version {
                Some(version) => self.index.shelf.value(version)?.cmp(value),
                None => return Ok(false),
            },
            CompareTarget::Version(expected) => version.map_or(0, |v| v.version).cmp(expected),
            CompareTarget::Create(expected) => version.map_or(0, |v| v.create_revision).cmp(expected),
            CompareTarget::Mod(expected) => version.map_or(0, |v| v.mod_revision).cmp(expected),
            CompareTarget::Lease(expected) => version.map_or(0, |v| v.lease).cmp(expected),
        };
        Ok(match compare.op {
            CompareOp::Equal => order.is_eq(),
            CompareOp::NotEqual => order.is_ne(),
            CompareOp::Greater => order.is_gt(),
            CompareOp::Less => order.is_lt(),
        })
    }

    fn compact(&mut self, revision: Revision) -> Result<(), KvError> {
        if revision > self.revision {
            return Err(KvError::FutureRevision);
        }
        if revision <= self.compact_revision {
            return Err(KvError::Compacted { compact_revision: self.compact_revision });
        }
        self.compact_revision = revision;
        Ok(())
    }

    fn revoke(&mut self, id: LeaseId, changes: &mut Vec<Change>) -> Result<(), KvError> {
        let keys = self.leases.revoke(id)?;
        let mut write = Write { next: self.revision + 1, state: self, changes };
        for key in keys {
            write.delete(&KeyRange::one(key), false);
        }
        if !changes.is_empty() {
            self.revision += 1;
        }
        Ok(())
    }

    /// Moves a changed key from its old lease to its new one.
    fn relink(&mut self, change: &Change) {
        let new = change.version.lease;
        if let Some(previous) = change.previous.as_ref().map(|item| &item.version)
            && previous.lease != 0
            && previous.lease != new
            && !planted!(StaleAttachment)
        {
            self.leases.detach(previous.lease, &previous.key);
        }
        if new != 0 {
            self.leases.attach(new, Bytes::copy_from_slice(&change.version.key));
        }
    }
}

/// What a transaction is going to do: its branches, outer before inner, and the values that its puts keep.
#[derive(Default)]
struct Plan {
    branches: VecDeque<bool>,
    kept: VecDeque<Bytes>,
}

impl Plan {
    fn branch(&mut self) -> bool {
        self.branches.pop_front().expect("one choice was made for each transaction")
    }
}

/// The single keys whose values a transaction needs for its compares and puts.
fn needed<'a>(txn: &'a Txn, keys: &mut Vec<&'a [u8]>) {
    let compared = txn.compare.iter().filter(|compare| compare.range.end.is_none() && matches!(compare.target, CompareTarget::Value(_)));
    keys.extend(compared.map(|compare| &compare.range.key[..]));
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Put(request) if request.ignore_value => keys.push(&request.key),
            Op::Txn(inner) => needed(inner, keys),
            Op::Put(_) | Op::Range(_) | Op::Delete(_) => {}
        }
    }
}

/// The writes of one command; all of them make the revision `next`.
struct Write<'a> {
    state: &'a mut State,
    next: Revision,
    changes: &'a mut Vec<Change>,
}

impl Write<'_> {
    fn run(&mut self, txn: Txn, plan: &mut Plan) -> Parts {
        let succeeded = plan.branch();
        let ops = if succeeded { txn.success } else { txn.failure };
        let mut parts = Vec::with_capacity(ops.len());
        for op in ops {
            parts.push(match op {
                Op::Range(request) => self.state.range_at(request, self.current()),
                Op::Put(request) => Part::Put(self.put(request, plan)),
                Op::Delete(request) => self.delete(&request.range, request.prev_kv),
                Op::Txn(inner) => Part::Txn(self.run(inner, plan)),
            });
        }
        Parts { revision: self.current(), succeeded, parts }
    }

    /// The revision that a read inside the transaction sees: its own writes included.
    fn current(&self) -> Revision {
        if self.changes.is_empty() { self.state.revision } else { self.next }
    }

    fn put(&mut self, request: PutRequest, plan: &mut Plan) -> Option<Item> {
        let old = self.state.index.get(&request.key, Revision::MAX);
        let (create_revision, version, old_lease) = old.map_or((self.next, 0, 0), |old| (old.create_revision, old.version, old.lease));
        let value = if request.ignore_value { plan.kept.pop_front().expect("kept when the put was checked") } else { request.value };
        let lease = if request.ignore_lease { old_lease } else { request.lease };
        let previous = self.push(&request.key, create_revision, version + 1, lease, value);
        if request.prev_kv { previous } else { None }
    }

    fn delete(&mut self, range: &KeyRange, prev_kv: bool) -> Part {
        let mut found = Found::default();
        let keep = Keep { values: prev_kv, ..Keep::ALL };
        self.state.index.scan(range, None, Revision::MAX, keep, usize::MAX, &mut found);
        for old in &found.items {
            self.push(&old.version.key, 0, 0, 0, Bytes::new());
        }
        Part::Delete { deleted: found.count, previous: if prev_kv { found.items } else { Vec::new() } }
    }

    /// Writes one version; returns the live one before it.
    fn push(&mut self, key: &[u8], create_revision: Revision, version: i64, lease: LeaseId, value: Bytes) -> Option<Item> {
        if planted!(TxnHalfApplied) && self.changes.len() >= 2 {
            return None;
        }
        let sub = u32::try_from(self.changes.len()).expect("one command changes fewer than 2^32 keys");
        let record = Record { revision: self.next, sub, key, create_revision, version, lease, length: 0 };
        let change = self.state.index.push(&record, value);
        self.state.relink(&change);
        let previous = change.previous.clone();
        self.changes.push(change);
        previous
    }
}

#[cfg(test)]
pub(crate) mod tests;
