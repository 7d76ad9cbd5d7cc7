//! The state machine: applies commands in order and answers reads. Pure: no clock, no I/O, so that a log, Raft or a simulator can drive it.

use crate::alarms::{Alarm, Alarms};
use crate::auth::{Auth, AuthCommand, AuthRecord, Caller};
use crate::index::{Change, Found, Index, Page, Version};
use crate::kv::*;
use crate::lease::{LeaseRecord, Leases};
use crate::planted::planted;
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
            Self::Compact(_) | Self::LeaseRevoke(_) | Self::LeaseCheckpoint(_) | Self::Auth(_) | Self::Alarm(..) => false,
            Self::As(_, command) => command.grows(),
        }
    }
}

#[derive(Debug)]
pub(crate) enum Reply {
    Txn(TxnResponse),
    Token(String),
    Done,
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
            alarms: Alarms::default(),
        }
    }
}

impl State {
    /// Rebuilds a state from a checkpoint; `versions` come in the order of (revision, sub).
    pub fn restore(
        revision: Revision,
        compact_revision: Revision,
        applied_index: u64,
        leases: &[LeaseRecord],
        versions: Vec<Version>,
        now_ms: u64,
    ) -> Self {
        let mut state = Self { revision, compact_revision, applied_index, ..Self::default() };
        for lease in leases {
            state.leases.restore(*lease, now_ms);
        }
        for version in versions {
            let change = state.index.push(version);
            if !planted!(AttachmentsForgotten) {
                state.relink(&change);
            }
        }
        state
    }

    /// The sections beside keys and leases, for a checkpoint; an empty one may be left out.
    pub fn extras(&self) -> Extras {
        let mut extras = Extras::new();
        if *self.auth.record() != AuthRecord::default() {
            extras.push((AUTH_SECTION.to_owned(), self.auth.record().to_bytes()));
        }
        extras.extend(self.alarms.to_bytes().map(|section| (ALARMS_SECTION.to_owned(), section)));
        extras
    }

    /// Takes over what `extras` gave. A section that is not known was written by a newer program.
    pub fn restore_extras(&mut self, extras: &Extras) -> Result<(), KvError> {
        self.auth.restore(AuthRecord::default());
        self.alarms = Alarms::default();
        for (name, section) in extras {
            match name.as_str() {
                AUTH_SECTION => self.auth.restore(AuthRecord::from_bytes(section)?),
                ALARMS_SECTION => self.alarms = Alarms::from_bytes(section)?,
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
    pub fn read_txn(&self, txn: &Txn) -> Result<TxnResponse, KvError> {
        let choice = self.choose(txn)?;
        Ok(self.read_chosen(txn, &mut choice.iter().copied()))
    }

    fn read_chosen(&self, txn: &Txn, choice: &mut dyn Iterator<Item = bool>) -> TxnResponse {
        let succeeded = choice.next().expect("one choice was made for each transaction");
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Range(request) => responses.push(OpResponse::Range(self.range_at(request, self.revision))),
                Op::Txn(inner) => responses.push(OpResponse::Txn(self.read_chosen(inner, choice))),
                Op::Put(_) | Op::Delete(_) => unreachable!("only transactions without writes are read"),
            }
        }
        TxnResponse { revision: self.revision, succeeded, responses }
    }

    /// A checked range inside a transaction that stands at `current`.
    fn range_at(&self, request: &RangeRequest, current: Revision) -> RangeResponse {
        let revision = if request.revision <= 0 { current } else { request.revision };
        let mut found = Found::default();
        self.scan(request, None, revision, usize::MAX, &mut found);
        range::respond(request, current, found)
    }

    fn apply_txn(&mut self, txn: Txn, changes: &mut Vec<Change>) -> Result<TxnResponse, KvError> {
        let choice = self.choose(&txn)?;
        let mut write = Write { next: self.revision + 1, state: self, changes };
        let mut response = write.run(txn, &mut choice.into_iter());
        if !changes.is_empty() {
            self.revision += 1;
        }
        response.revision = self.revision;
        Ok(response)
    }

    /// Takes every branch and checks every operation on it before anything is written: a transaction is done whole or not at all.
    fn choose(&self, txn: &Txn) -> Result<Vec<bool>, KvError> {
        let mut choice = Vec::with_capacity(1);
        let mut ranges = Vec::new();
        self.choose_into(txn, &mut choice, &mut ranges)?;
        // What is wrong with a put is told before what is wrong with a range, wherever they stand (server/etcdserver/apply.go, Txn).
        for request in ranges {
            self.read_revision(request)?;
        }
        Ok(choice)
    }

    fn choose_into<'a>(&self, txn: &'a Txn, choice: &mut Vec<bool>, ranges: &mut Vec<&'a RangeRequest>) -> Result<(), KvError> {
        let succeeded = txn.compare.iter().all(|compare| self.compare(compare));
        choice.push(succeeded);
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op {
                Op::Range(request) => ranges.push(request),
                Op::Put(request) => self.check_put(request)?,
                Op::Delete(_) => {}
                Op::Txn(inner) => self.choose_into(inner, choice, ranges)?,
            }
        }
        Ok(())
    }

    fn check_put(&self, request: &PutRequest) -> Result<(), KvError> {
        if (request.ignore_value || request.ignore_lease) && self.index.get(&request.key, self.revision).is_none() {
            return Err(KvError::KeyNotFound);
        }
        if request.lease != 0 && !self.leases.exists(request.lease) {
            return Err(KvError::LeaseNotFound);
        }
        Ok(())
    }

    fn compare(&self, compare: &Compare) -> bool {
        if compare.range.end.is_none() {
            return holds(compare, self.index.get(&compare.range.key, self.revision).map(|version| &**version));
        }
        let mut found = Found::default();
        self.index.scan(&compare.range, None, self.revision, usize::MAX, usize::MAX, &mut found);
        if found.versions.is_empty() {
            return holds(compare, None);
        }
        found.versions.iter().all(|version| holds(compare, Some(version)))
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
        if let Some(previous) = &change.previous
            && previous.lease != 0
            && previous.lease != change.version.lease
            && !planted!(StaleAttachment)
        {
            self.leases.detach(previous.lease, &previous.key);
        }
        if change.version.lease != 0 {
            self.leases.attach(change.version.lease, change.version.key.clone());
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
    fn run(&mut self, txn: Txn, choice: &mut std::vec::IntoIter<bool>) -> TxnResponse {
        let succeeded = choice.next().expect("one choice was made for each transaction");
        let ops = if succeeded { txn.success } else { txn.failure };
        let mut responses = Vec::with_capacity(ops.len());
        for op in ops {
            responses.push(match op {
                Op::Range(request) => OpResponse::Range(self.state.range_at(&request, self.current())),
                Op::Put(request) => OpResponse::Put(self.put(request)),
                Op::Delete(request) => self.delete(&request.range, request.prev_kv),
                Op::Txn(inner) => OpResponse::Txn(self.run(inner, choice)),
            });
        }
        TxnResponse { revision: self.current(), succeeded, responses }
    }

    /// The revision that a read inside the transaction sees: its own writes included.
    fn current(&self) -> Revision {
        if self.changes.is_empty() { self.state.revision } else { self.next }
    }

    fn put(&mut self, request: PutRequest) -> Option<KeyValue> {
        let old = self.state.index.get(&request.key, Revision::MAX).cloned();
        let version = match old.as_deref() {
            Some(old) => Version {
                value: if request.ignore_value { old.value.clone() } else { request.value },
                lease: if request.ignore_lease { old.lease } else { request.lease },
                create_revision: old.create_revision,
                version: old.version + 1,
                key: request.key,
                mod_revision: self.next,
                sub: self.sub(),
            },
            None => Version {
                key: request.key,
                value: request.value,
                lease: request.lease,
                create_revision: self.next,
                version: 1,
                mod_revision: self.next,
                sub: self.sub(),
            },
        };
        self.push(version);
        if request.prev_kv { old.map(|old| old.to_kv()) } else { None }
    }

    fn delete(&mut self, range: &KeyRange, prev_kv: bool) -> OpResponse {
        let mut found = Found::default();
        self.state.index.scan(range, None, Revision::MAX, usize::MAX, usize::MAX, &mut found);
        for old in &found.versions {
            let sub = self.sub();
            self.push(Version {
                key: old.key.clone(),
                value: bytes::Bytes::new(),
                create_revision: 0,
                mod_revision: self.next,
                version: 0,
                lease: 0,
                sub,
            });
        }
        let prev_kvs = if prev_kv { found.versions.iter().map(|old| old.to_kv()).collect() } else { Vec::new() };
        OpResponse::Delete { deleted: found.count, prev_kvs }
    }

    fn sub(&self) -> u32 {
        u32::try_from(self.changes.len()).expect("one command changes fewer than 2^32 keys")
    }

    fn push(&mut self, version: Version) {
        if planted!(TxnHalfApplied) && self.changes.len() >= 2 {
            return;
        }
        let change = self.state.index.push(version);
        self.state.relink(&change);
        self.changes.push(change);
    }
}

/// Whether a compare holds for one key (server/etcdserver/txn/txn.go, applyCompare).
fn holds(compare: &Compare, version: Option<&Version>) -> bool {
    let order = match &compare.target {
        // A missing key has no value, not even an empty one.
        CompareTarget::Value(value) => match version {
            Some(version) => version.value.cmp(value),
            None => return false,
        },
        CompareTarget::Version(expected) => version.map_or(0, |v| v.version).cmp(expected),
        CompareTarget::Create(expected) => version.map_or(0, |v| v.create_revision).cmp(expected),
        CompareTarget::Mod(expected) => version.map_or(0, |v| v.mod_revision).cmp(expected),
        CompareTarget::Lease(expected) => version.map_or(0, |v| v.lease).cmp(expected),
    };
    match compare.op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
    }
}

#[cfg(test)]
pub(crate) mod tests;
