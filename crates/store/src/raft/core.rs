//! Raft itself: the `raft` crate behind a small face. No clock, no disk, no network; its only randomness is the generator that it is given, so the same
//! inputs make the same outputs.
//!
//! raft-rs panics where its state contradicts itself, as on the disk of a member that lost acknowledged entries. Here that is an error, after which the
//! member must take no further part.

use std::panic::AssertUnwindSafe;

use protobuf::Message as _;
use raft::eraftpb::{
    ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState, Entry, EntryType, HardState, Message, MessageType, Snapshot,
};
use raft::{Config, LightReady, RawNode, ReadOnlyOption, Ready, SnapshotStatus, StateRole};
use rand::Rng;
use rand::rngs::StdRng;

use super::log::Log;
use super::{MemberChange, Role};
use crate::kv::KvError;

/// One message of entries, and how many may be under way to one follower (server/etcdserver/raft.go).
const MESSAGE_BYTES: u64 = 512 << 10;
const MESSAGES_IN_FLIGHT: usize = 256;
/// Proposals beyond this are dropped while they are not committed.
const UNCOMMITTED_BYTES: u64 = 256 << 20;
/// Committed entries that are handed out at once.
const COMMITTED_BYTES: u64 = 4 << 20;

/// What a step asks for, in this order: `messages` at once; `snapshot`, `entries`, `hard` to the disk; `after` when that is done; then `Core::persisted`.
pub(super) struct Step {
    pub messages: Vec<Message>,
    pub snapshot: Option<Snapshot>,
    pub entries: Vec<Entry>,
    pub hard: Option<HardState>,
    /// The disk must have it before `after` is sent.
    pub sync: bool,
    pub after: Vec<Message>,
    pub committed: Vec<Entry>,
    /// Reads that may be answered once so much is applied.
    pub reads: Vec<(Vec<u8>, u64)>,
    ready: Ready,
}

pub(super) struct Core {
    node: RawNode<Log>,
    rng: StdRng,
    election_ticks: usize,
    /// Term and role for which the election timeout was chosen. Raft chooses one by its own dice whenever they change, and at no other time.
    chosen_for: (u64, Role),
    /// Why Raft must not be asked any more.
    broken: Option<String>,
}

pub(super) struct CoreOptions {
    pub id: u64,
    pub election_ticks: usize,
    pub applied: u64,
    pub lease_reads: bool,
}

impl Core {
    pub fn new(options: &CoreOptions, log: Log, rng: StdRng) -> Result<Self, KvError> {
        let config = Config {
            id: options.id,
            election_tick: options.election_ticks,
            heartbeat_tick: 1,
            applied: options.applied,
            max_size_per_msg: MESSAGE_BYTES,
            max_inflight_msgs: MESSAGES_IN_FLIGHT,
            check_quorum: true,
            pre_vote: true,
            read_only_option: if options.lease_reads { ReadOnlyOption::LeaseBased } else { ReadOnlyOption::Safe },
            max_uncommitted_size: UNCOMMITTED_BYTES,
            max_committed_size_per_ready: COMMITTED_BYTES,
            ..Config::default()
        };
        let node = guarded(|| RawNode::new(&config, log, &super::slog_to_tracing::logger())).map_err(contradiction)?;
        let node = node.map_err(|error| KvError::Corrupt(format!("Raft cannot start from this log: {error}")))?;
        let chosen_for = (u64::MAX, Role::Follower);
        let mut core = Self { node, rng, election_ticks: options.election_ticks, chosen_for, broken: None };
        core.choose_timeout();
        Ok(core)
    }

    /// Runs Raft and looks after its election timeout, which it resets at every change of term or role.
    fn run<T>(&mut self, work: impl FnOnce(&mut RawNode<Log>) -> T) -> Result<T, KvError> {
        if let Some(reason) = &self.broken {
            return Err(contradiction(reason.clone()));
        }
        let result = guarded(|| work(&mut self.node)).map_err(|reason| {
            self.broken = Some(reason.clone());
            contradiction(reason)
        })?;
        self.choose_timeout();
        Ok(result)
    }

    fn choose_timeout(&mut self) {
        let now = (self.term(), self.role());
        if std::mem::replace(&mut self.chosen_for, now) != now {
            let ticks = self.rng.random_range(self.election_ticks..2 * self.election_ticks);
            self.node.raft.set_randomized_election_timeout(ticks);
        }
    }

    pub fn tick(&mut self) -> Result<(), KvError> {
        self.run(|node| node.tick()).map(|_| ())
    }

    /// Takes a message of a peer; what does not fit the moment is ignored.
    pub fn receive(&mut self, message: Message) -> Result<(), KvError> {
        let kind = message.get_msg_type();
        let lost =
            kind == MessageType::MsgHeartbeat && message.term >= self.term() && message.commit > self.node.raft.raft_log.last_index();
        if lost {
            let reason = format!(
                "the leader says that this member has acknowledged entry {}, but its log ends at {}: data that was acknowledged is lost. Remove this member \
                 from the cluster and add it as a new one with an empty data folder",
                message.commit,
                self.node.raft.raft_log.last_index()
            );
            return Err(KvError::Corrupt(reason));
        }
        if let Err(error) = self.run(|node| node.step(message))? {
            tracing::debug!(?kind, %error, "a message of a peer was ignored");
        }
        Ok(())
    }

    /// Whether the proposals went into the log or to the leader.
    pub fn propose(&mut self, data: Vec<Vec<u8>>) -> Result<bool, KvError> {
        let entries = data.into_iter().map(|data| Entry { data: data.into(), ..Entry::default() }).collect();
        self.propose_entries(entries)
    }

    /// `context` comes back with the entry.
    pub fn propose_change(&mut self, changes: &[MemberChange], context: Vec<u8>) -> Result<bool, KvError> {
        let change = ConfChangeV2 { context: context.into(), ..conf_change(changes) };
        let data =
            change.write_to_bytes().map_err(|error| KvError::Internal(format!("a change of the members cannot be encoded: {error}")))?;
        let mut entry = Entry { data: data.into(), ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        self.propose_entries(vec![entry])
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<bool, KvError> {
        let mut message = Message { from: self.node.raft.id, entries: entries.into(), ..Message::default() };
        message.set_msg_type(MessageType::MsgPropose);
        self.run(|node| node.step(message)).map(|result| result.is_ok())
    }

    pub fn read(&mut self, context: Vec<u8>) -> Result<(), KvError> {
        self.run(|node| node.read_index(context))
    }

    pub fn transfer(&mut self, to: u64) -> Result<(), KvError> {
        self.run(|node| node.transfer_leader(to))
    }

    pub fn campaign(&mut self) -> Result<(), KvError> {
        // Refused only where it makes no sense.
        self.run(|node| node.campaign()).map(|_| ())
    }

    pub fn unreachable(&mut self, peer: u64) -> Result<(), KvError> {
        self.run(|node| node.report_unreachable(peer))
    }

    pub fn snapshot_sent(&mut self, to: u64, ok: bool) -> Result<(), KvError> {
        self.run(|node| node.report_snapshot(to, if ok { SnapshotStatus::Finish } else { SnapshotStatus::Failure }))
    }

    /// The next thing to do; the step before must be `persisted`.
    pub fn next(&mut self) -> Result<Option<Step>, KvError> {
        if !self.node.has_ready() {
            return Ok(None);
        }
        let mut ready = self.run(RawNode::ready)?;
        let snapshot = Some(ready.snapshot().clone()).filter(|snapshot| !snapshot.is_empty());
        Ok(Some(Step {
            messages: ready.take_messages(),
            snapshot,
            entries: ready.take_entries(),
            hard: ready.hs().cloned(),
            sync: ready.must_sync(),
            after: ready.take_persisted_messages(),
            committed: ready.take_committed_entries(),
            reads: ready.take_read_states().into_iter().map(|read| (read.request_ctx, read.index)).collect(),
            ready,
        }))
    }

    /// The step is on the disk. What comes back is to be sent, and to be applied after the step's own `committed`.
    pub fn persisted(&mut self, step: Step) -> Result<LightReady, KvError> {
        self.run(|node| node.advance_append(step.ready))
    }

    /// Everything up to `index` is applied.
    pub fn applied(&mut self, index: u64) -> Result<(), KvError> {
        self.run(|node| node.advance_apply_to(index))
    }

    /// Takes over a committed change; returns the configuration after it.
    pub fn apply_change(&mut self, change: &ConfChangeV2) -> Result<ConfState, KvError> {
        let conf = self.run(|node| node.apply_conf_change(change))?;
        conf.map_err(|error| KvError::Corrupt(format!("a committed change of the members cannot be made: {error}")))
    }

    pub fn log(&mut self) -> &mut Log {
        self.node.mut_store()
    }

    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    pub fn leader(&self) -> u64 {
        self.node.raft.leader_id
    }

    pub fn role(&self) -> Role {
        match self.node.raft.state {
            StateRole::Follower => Role::Follower,
            StateRole::PreCandidate => Role::PreCandidate,
            StateRole::Candidate => Role::Candidate,
            StateRole::Leader => Role::Leader,
        }
    }

    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// A leader that may answer reads and change things: something of its own term is committed.
    pub fn leads_for_sure(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.node.raft.commit_to_current_term()
    }

    pub fn changes_pending(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// Gives up a transfer that did not come about, so that proposals are taken again.
    pub fn abort_transfer(&mut self) {
        self.node.raft.abort_leader_transfer();
    }

    /// How far the log of a follower is known to be the leader's own.
    pub fn matched(&self, id: u64) -> Option<u64> {
        self.node.raft.prs().get(id).map(|progress| progress.matched)
    }
}

/// The changes as Raft counts them; more than one go through a joint configuration.
fn conf_change(changes: &[MemberChange]) -> ConfChangeV2 {
    let single = |change: &MemberChange| {
        let (kind, node_id) = match change {
            MemberChange::Add(member) if member.is_learner => (ConfChangeType::AddLearnerNode, member.id),
            MemberChange::Add(member) => (ConfChangeType::AddNode, member.id),
            MemberChange::Promote(id) => (ConfChangeType::AddNode, *id),
            MemberChange::Remove(id) => (ConfChangeType::RemoveNode, *id),
        };
        let mut single = ConfChangeSingle { node_id, ..ConfChangeSingle::default() };
        single.set_change_type(kind);
        single
    };
    ConfChangeV2 { changes: changes.iter().map(single).collect::<Vec<_>>().into(), ..ConfChangeV2::default() }
}

/// The entry that makes the first member `number` of a new cluster one, the same on each of them (server/etcdserver/bootstrap.go).
pub(super) fn first_entry(index: u64, changes: &[MemberChange], context: Vec<u8>) -> Result<Entry, KvError> {
    let change = ConfChangeV2 { context: context.into(), ..conf_change(changes) };
    let data = change.write_to_bytes().map_err(|error| KvError::Internal(format!("the first members cannot be encoded: {error}")))?;
    let mut entry = Entry { index, term: 1, data: data.into(), ..Entry::default() };
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    Ok(entry)
}

fn contradiction(reason: String) -> KvError {
    KvError::Corrupt(format!(
        "the Raft state of this member contradicts itself or its peers' ({reason}): was its data folder copied, truncated or restored from a backup? \
         Remove this member from the cluster and add it as a new one with an empty data folder"
    ))
}

/// Raft's panics as errors.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".into())
    })
}
