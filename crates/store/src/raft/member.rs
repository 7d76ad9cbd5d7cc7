//! The loop of a member as a synchronous function: `Replica::turn` takes what came in and the time, asks Raft, writes the log, applies what is committed,
//! and answers. It owns the order in which these happen. It reads no clock and starts no thread, so a simulator can drive it.

use std::sync::Arc;

use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType, HardState, Message, MessageType};
use tokio::sync::oneshot;

use super::board::Board;
use super::cluster::decode_changes;
use super::core::{Core, Step};
use super::journal::Journal;
use super::leases::{LEASE_CHECKPOINT_MS, LEASE_RETRY_MS};
use super::message;
use super::proposals::{NAME_BYTES, Owner, Pending, Proposals, Unsent, split_name};
use super::reads::{LeaseAsk, Read, Reads};
use super::records::conf_from_raft;
use super::snapshots::{Incoming, Snapshots};
use super::{Member, MemberChange, MemberOptions, Role, Transport};
use crate::auth::Caller;
use crate::checkpoint::View;
use crate::codec;
use crate::commit::{self, APPLY_BUDGET, Answer, Proposal};
use crate::keeper::Desk;
use crate::kv::KvError;
use crate::planted::planted;
use crate::reply::Reply;
use crate::state::Command;
use crate::watch::Shared;

/// Proposals that may wait for their fate; more are refused (etcd's maxGapBetweenApplyAndCommitIndex).
pub(crate) const PENDING_PROPOSALS: usize = 5000;
const IDLE_MS: u64 = 60_000;

/// What may come in.
#[derive(Debug)]
pub(crate) enum Input {
    Propose(Proposal),
    Read(Read),
    Change { changes: Vec<MemberChange>, reply: oneshot::Sender<Answer> },
    Transfer { to: u64, reply: oneshot::Sender<Result<(), KvError>> },
    Received(bytes::Bytes),
    Unreachable(u64),
    SnapshotSent { to: u64, ok: bool },
    SnapshotCame(Incoming),
    ToldRemoved,
}

pub(super) struct Transfer {
    to: u64,
    until_ms: u64,
    reply: oneshot::Sender<Result<(), KvError>>,
}

/// One member, between two turns.
pub(crate) struct Replica {
    pub shared: Arc<Shared>,
    pub board: Arc<Board>,
    pub(super) core: Core,
    pub(super) journal: Journal,
    pub(super) keeper: Arc<Desk>,
    pub(super) transport: Arc<dyn Transport>,
    pub(super) options: MemberOptions,
    pub(super) snapshots: Snapshots,
    proposals: Proposals,
    reads: Reads,
    pub(super) transfer: Option<Transfer>,
    pub(super) applied: u64,
    /// A step that the full disk did not take. Nothing goes on until it does.
    stalled: Option<Step>,
    /// What was last seen of Raft: leader, role, and whether the lead is sure.
    seen: (u64, Role, bool),
    leader_lost_ms: Option<u64>,
    leader_changes: u64,
    failed_proposals: u64,
    pub(super) now_ms: u64,
    next_tick_ms: u64,
    pub(super) lease_checkpoint_ms: u64,
    /// When a removed member stops: until then it helps the others to hear of it.
    leaving_ms: Option<u64>,
    pub(super) stopped: Option<KvError>,
    uncheckpointed_bytes: u64,
    checkpoint_bytes: u64,
}

/// What recovery has found and made.
pub(super) struct Parts {
    pub shared: Arc<Shared>,
    pub core: Core,
    pub journal: Journal,
    pub keeper: Arc<Desk>,
    pub transport: Arc<dyn Transport>,
    pub options: MemberOptions,
    pub snapshots: Snapshots,
    /// Differs from life to life.
    pub life: u64,
    pub uncheckpointed_bytes: u64,
    pub checkpoint_bytes: u64,
}

impl Replica {
    pub(super) fn new(parts: Parts, now_ms: u64) -> Result<Self, KvError> {
        let Parts { shared, core, journal, keeper, transport, options, snapshots, life, uncheckpointed_bytes, checkpoint_bytes } = parts;
        let (applied, members) = {
            let state = shared.state.read();
            (state.applied_index, state.cluster.list())
        };
        transport.members_changed(&members);
        let mut replica = Self {
            board: Arc::new(Board::new(&options)),
            proposals: Proposals::new(options.member_id, life),
            reads: Reads::new(options.member_id, life),
            transfer: None,
            applied,
            stalled: None,
            seen: (0, Role::Follower, false),
            leader_lost_ms: None,
            leader_changes: 0,
            failed_proposals: 0,
            now_ms,
            next_tick_ms: now_ms,
            lease_checkpoint_ms: now_ms + LEASE_CHECKPOINT_MS,
            leaving_ms: None,
            stopped: None,
            uncheckpointed_bytes,
            checkpoint_bytes,
            shared,
            core,
            journal,
            keeper,
            transport,
            options,
            snapshots,
        };
        // What is known to be committed is applied before anything is answered.
        replica.work()?;
        if replica.is_alone() {
            // Nobody else could lead: no need to wait.
            replica.core.campaign()?;
            replica.settle()?;
        }
        replica.publish_status();
        Ok(replica)
    }

    fn heartbeat_ms(&self) -> u64 {
        u64::try_from(self.options.heartbeat.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    fn request_timeout_ms(&self) -> u64 {
        u64::try_from(self.options.request_timeout().as_millis()).unwrap_or(u64::MAX)
    }

    /// When to take the next turn at the latest.
    pub fn next_turn_ms(&self) -> u64 {
        // Who has stopped only answers.
        if self.stopped.is_some() { self.now_ms.saturating_add(IDLE_MS) } else { self.next_tick_ms }
    }

    /// Whether proposals and reads should be taken now, or wait with their senders.
    pub fn has_room(&self) -> bool {
        self.proposals.len() < PENDING_PROPOSALS
    }

    /// One turn. An error is the end of the member: all later turns answer with it and do nothing else.
    pub fn turn(&mut self, inputs: &mut Vec<Input>, now_ms: u64) -> Result<(), KvError> {
        if let Some(reason) = self.stopped.clone() {
            self.now_ms = now_ms;
            inputs.drain(..).for_each(|input| refuse(input, &reason));
            return Err(reason);
        }
        self.now_ms = now_ms.max(self.now_ms);
        let result = self.try_turn(inputs);
        if let Err(error) = &result {
            self.stop(error.clone());
            inputs.drain(..).for_each(|input| refuse(input, error));
        }
        self.publish_status();
        result
    }

    fn try_turn(&mut self, inputs: &mut Vec<Input>) -> Result<(), KvError> {
        if let Some(step) = self.stalled.take() {
            self.persist(step)?;
            if self.stalled.is_some() {
                inputs.drain(..).for_each(|input| refuse(input, &KvError::NoSpace));
                self.next_tick_ms = self.now_ms + self.heartbeat_ms();
                return Ok(());
            }
        }
        let mut batch = Vec::new();
        for input in inputs.drain(..) {
            self.take(input, &mut batch)?;
        }
        self.propose(batch)?;
        if self.now_ms >= self.next_tick_ms {
            self.tick()?;
        }
        self.settle()
    }

    fn take(&mut self, input: Input, batch: &mut Vec<Proposal>) -> Result<(), KvError> {
        match input {
            Input::Propose(proposal) => batch.push(proposal),
            Input::Read(Read::Lease(_, reply)) if self.seen.1 != Role::Leader => drop(reply.send(Err(KvError::NotLeader))),
            Input::Read(Read::Lease(LeaseAsk::Renew(id), reply)) if planted!(StaleLeaderRenews) => drop(self.renew(id, reply)?),
            Input::Read(read) => self.reads.add(read, self.now_ms),
            Input::Change { changes, reply } => match self.check_changes(&changes) {
                Err(error) => drop(reply.send(Err(error))),
                Ok(()) => {
                    let number = self.proposals.add(Pending { command: None, owner: Owner::Caller(reply), since_ms: self.now_ms });
                    self.propose_changes(number, changes)?;
                }
            },
            Input::Transfer { to, reply } => self.start_transfer(to, reply)?,
            Input::Received(bytes) => match message::decode(&bytes, self.options.member_id) {
                Ok(message) if message.get_msg_type() == MessageType::MsgSnapshot => {
                    tracing::warn!(from = message.from, "a snapshot without its content was ignored");
                }
                Ok(message) => self.core.receive(message)?,
                Err(error) => tracing::warn!(%error, "a message of a peer cannot be understood and was ignored"),
            },
            Input::Unreachable(peer) => self.core.unreachable(peer)?,
            Input::SnapshotSent { to, ok } => self.core.snapshot_sent(to, ok)?,
            Input::SnapshotCame(incoming) => {
                // What was taken before must be on the disk before the state is replaced.
                self.work()?;
                let message = self.snapshots.came(incoming);
                self.core.receive(message)?;
                self.work()?;
                self.snapshots.forget_incoming()?;
            }
            Input::ToldRemoved => return Err(KvError::Removed),
        }
        Ok(())
    }

    /// Works until nothing is left to do now.
    fn settle(&mut self) -> Result<(), KvError> {
        loop {
            self.work()?;
            let changed = self.observe()?;
            self.ask_reads()?;
            let answered = self.answer_reads()?;
            if (!changed && !answered) || self.stalled.is_some() {
                break;
            }
        }
        let keep = if self.is_alone() { (1, 0) } else { (self.options.snapshot_count.max(1), self.options.kept_log_bytes) };
        // One applied entry stays, so that a log that lost its end is recognized.
        self.core.log().trim(self.applied.saturating_sub(1), keep.0, keep.1);
        self.journal.keep_from(self.core.log().first());
        if self.core.log().take_wanted() {
            self.snapshots.want();
        }
        if self.leaving_ms.is_some_and(|leaving| self.now_ms >= leaving) {
            return Err(KvError::Removed);
        }
        Ok(())
    }

    /// Does what Raft asks for.
    fn work(&mut self) -> Result<(), KvError> {
        while self.stalled.is_none()
            && let Some(step) = self.core.next()?
        {
            self.persist(step)?;
        }
        Ok(())
    }

    fn persist(&mut self, mut step: Step) -> Result<(), KvError> {
        // A leader's appends go out while its own disk works (Raft thesis, 10.2.1).
        self.send(std::mem::take(&mut step.messages))?;
        if let Some(snapshot) = step.snapshot.take() {
            self.install(&snapshot)?;
        }
        // Committed before this step: on this disk already.
        let committed = std::mem::take(&mut step.committed);
        self.apply(committed)?;
        for (context, index) in std::mem::take(&mut step.reads) {
            self.reads.confirm(&context, index);
        }
        if planted!(AckBeforeSync) {
            self.send(std::mem::take(&mut step.after))?;
        }
        match self.journal.write(&step.entries, step.hard.as_ref(), step.sync) {
            Ok(()) => {}
            Err(KvError::NoSpace) => {
                tracing::warn!("the disk of the log is full: this member takes no part until there is space");
                self.stalled = Some(step);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.core.log().append(&step.entries);
        if planted!(AppliedBeforeQuorum) && self.core.role() == Role::Leader {
            self.apply(step.entries.clone())?;
        }
        self.send(std::mem::take(&mut step.after))?;
        let mut light = self.core.persisted(step)?;
        if let Some(commit) = light.commit_index() {
            self.journal.committed(commit);
        }
        self.send(light.take_messages())?;
        self.apply(light.take_committed_entries())?;
        self.core.applied(if planted!(AppliedBeforeQuorum) { self.applied.min(self.core.committed()) } else { self.applied })
    }

    fn send(&mut self, messages: Vec<Message>) -> Result<(), KvError> {
        for message in messages {
            if message.get_msg_type() == MessageType::MsgSnapshot {
                self.snapshots.send(&message, &*self.transport);
            } else if let Some(bytes) = message::encode(&message) {
                self.transport.send(message.to, bytes, message::kind(&message));
            }
        }
        for to in self.snapshots.take_failed() {
            self.core.snapshot_sent(to, false)?;
        }
        Ok(())
    }

    /// The state is another's from now on.
    fn install(&mut self, snapshot: &raft::eraftpb::Snapshot) -> Result<(), KvError> {
        let (index, term) = (snapshot.get_metadata().index, snapshot.get_metadata().term);
        self.journal.reset(index, term)?;
        self.snapshots.install(&self.shared, index, self.now_ms)?;
        self.core.log().reset(index, term);
        self.applied = index;
        self.uncheckpointed_bytes = 0;
        self.members_changed();
        tracing::info!(index, term, "the state was replaced by a snapshot of the leader");
        Ok(())
    }
}

/// Applying.
impl Replica {
    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), KvError> {
        let mut batch = Vec::new();
        let mut owners = Vec::new();
        for entry in entries {
            if planted!(AppliedBeforeQuorum) && entry.index <= self.applied {
                continue;
            }
            self.uncheckpointed_bytes += entry.data.len() as u64;
            if entry.get_entry_type() != EntryType::EntryNormal {
                self.apply_batch(&mut batch, &mut owners);
                self.apply_change(&entry)?;
                continue;
            }
            let (command, owner) = self.command(&entry)?;
            batch.push((entry.index, entry.term, command));
            owners.push(owner);
            if batch.len() >= APPLY_BUDGET {
                self.apply_batch(&mut batch, &mut owners);
            }
        }
        self.apply_batch(&mut batch, &mut owners);
        if self.uncheckpointed_bytes >= self.checkpoint_bytes {
            self.uncheckpointed_bytes = 0;
            self.keeper.order_checkpoint();
        }
        Ok(())
    }

    /// The command of an entry, none in a new leader's first, and who waits for it.
    fn command(&mut self, entry: &Entry) -> Result<(Option<Command>, Owner), KvError> {
        if entry.data.is_empty() {
            return Ok((None, Owner::Nobody));
        }
        let (name, encoded) = split_name(&entry.data)?;
        match self.proposals.take_named(name) {
            Some(Pending { command: Some(command), owner, .. }) => Ok((Some(command), owner)),
            other => {
                let command = codec::decode(encoded)
                    .map_err(|error| KvError::Corrupt(format!("entry {} of the log cannot be understood: {error}", entry.index)))?;
                Ok((Some(command), other.map_or(Owner::Nobody, |pending| pending.owner)))
            }
        }
    }

    fn apply_batch(&mut self, batch: &mut Vec<(u64, u64, Option<Command>)>, owners: &mut Vec<Owner>) {
        let Some((last, ..)) = batch.last() else { return };
        self.applied = *last;
        let compacts = batch.iter().any(|(_, _, command)| matches!(command, Some(Command::Compact(_))));
        let answers = commit::apply_entries(&self.shared, batch, self.now_ms);
        for (owner, answer) in owners.drain(..).zip(answers) {
            owner.answer(answer);
        }
        if compacts {
            self.keeper.order_sweep();
        }
    }

    fn apply_change(&mut self, entry: &Entry) -> Result<(), KvError> {
        let unclear = |error: String| KvError::Corrupt(format!("entry {} of the log cannot be understood: {error}", entry.index));
        let mut change = ConfChangeV2::default();
        change.merge_from_bytes(&entry.data).map_err(|error| unclear(error.to_string()))?;
        // Whoever reads without asking must ask from here on; the end of the turn looks again.
        self.board.set_alone(false);
        let mut state = self.shared.state.write();
        state.applied_index = entry.index;
        state.cluster.term = entry.term;
        self.applied = entry.index;
        if change.context.is_empty() {
            // A joint configuration is left.
            let conf = self.core.apply_change(&change)?;
            state.cluster.conf = conf_from_raft(&conf);
            return Ok(());
        }
        let (name, changes) = split_name(&change.context)?;
        let changes = decode_changes(changes).map_err(|error| unclear(error.to_string()))?;
        let result = state.cluster.change(&changes);
        if result.is_ok() {
            let conf = self.core.apply_change(&change)?;
            state.cluster.conf = conf_from_raft(&conf);
        }
        drop(state);
        let owner = self.proposals.take_named(name).map_or(Owner::Nobody, |pending| pending.owner);
        owner.answer(result.clone().map(|()| Reply::Done));
        if result.is_ok() {
            tracing::info!(?changes, "the members of the cluster changed");
            self.members_changed();
        }
        Ok(())
    }

    fn members_changed(&mut self) {
        let (members, removed) = {
            let state = self.shared.state.read();
            (state.cluster.list(), state.cluster.removed.contains(&self.options.member_id))
        };
        self.transport.members_changed(&members);
        if removed && self.leaving_ms.is_none() {
            let rest = u64::try_from(self.options.election_timeout.as_millis()).unwrap_or(u64::MAX);
            self.leaving_ms = Some(self.now_ms.saturating_add(rest));
        }
    }
}

/// Proposing.
impl Replica {
    fn propose(&mut self, batch: Vec<Proposal>) -> Result<(), KvError> {
        if batch.is_empty() {
            return Ok(());
        }
        let full = if self.keeper.is_short() { Some(KvError::NoSpace) } else { self.journal.reserve().err() };
        let mut numbers = Vec::with_capacity(batch.len());
        let mut data = Vec::with_capacity(batch.len());
        for Proposal { command, mut encoded, reply } in batch {
            if let Some(error) = &full
                && (*error != KvError::NoSpace || command.grows())
            {
                let _ = reply.send(Err(error.clone()));
                continue;
            }
            if self.proposals.len() >= PENDING_PROPOSALS {
                let _ = reply.send(Err(KvError::TooManyRequests));
                continue;
            }
            let pending = Pending { command: Some(command), owner: Owner::Caller(reply), since_ms: self.now_ms };
            let number = self.proposals.add(pending);
            encoded[..NAME_BYTES].copy_from_slice(&self.proposals.name(number));
            numbers.push(number);
            data.push(encoded);
        }
        self.propose_data(numbers, data)
    }

    fn propose_data(&mut self, numbers: Vec<u64>, data: Vec<Vec<u8>>) -> Result<(), KvError> {
        if data.is_empty() {
            return Ok(());
        }
        if self.core.leader() == 0 || self.transfer.is_some() {
            for (number, data) in numbers.into_iter().zip(data) {
                self.proposals.keep_unsent(number, Unsent::Command(data));
            }
            return Ok(());
        }
        if planted!(ProposedAgain) && self.core.role() != Role::Leader {
            for (number, data) in numbers.iter().zip(&data) {
                self.proposals.keep_unsent(*number, Unsent::Command(data.clone()));
            }
        }
        if !self.core.propose(data)? {
            // Too much is uncommitted, or this member is being removed.
            for number in numbers {
                if let Some(pending) = self.proposals.take(number) {
                    self.fail(pending, KvError::TooManyRequests);
                }
            }
        }
        Ok(())
    }

    /// A command of the member's own.
    pub(super) fn propose_own(&mut self, command: Command, owner: Owner) -> Result<(), KvError> {
        // Nobody's rights are asked for.
        let command = Command::As(Caller::Server, Box::new(command));
        let mut encoded = codec::encode_after(NAME_BYTES, &command);
        let number = self.proposals.add(Pending { command: Some(command), owner, since_ms: self.now_ms });
        encoded[..NAME_BYTES].copy_from_slice(&self.proposals.name(number));
        self.propose_data(vec![number], vec![encoded])
    }

    fn propose_changes(&mut self, number: u64, changes: Vec<MemberChange>) -> Result<(), KvError> {
        // Raft takes one at a time.
        if self.core.leader() == 0 || self.transfer.is_some() || self.core.changes_pending() {
            self.proposals.keep_unsent(number, Unsent::Changes(changes));
            return Ok(());
        }
        let mut context = self.proposals.name(number).to_vec();
        super::cluster::encode_changes(&mut context, &changes);
        if !self.core.propose_change(&changes, context)? {
            self.proposals.keep_unsent(number, Unsent::Changes(changes));
        }
        Ok(())
    }

    fn propose_unsent(&mut self) -> Result<(), KvError> {
        if !self.proposals.has_unsent() || self.core.leader() == 0 || self.transfer.is_some() {
            return Ok(());
        }
        let (mut numbers, mut data) = (Vec::new(), Vec::new());
        for (number, unsent) in self.proposals.take_unsent() {
            match unsent {
                Unsent::Command(encoded) => {
                    numbers.push(number);
                    data.push(encoded);
                }
                Unsent::Changes(changes) => self.propose_changes(number, changes)?,
            }
        }
        self.propose_data(numbers, data)
    }

    fn fail(&mut self, pending: Pending, error: KvError) {
        self.failed_proposals += 1;
        if let Owner::LeaseEnd(id) = pending.owner {
            self.shared.state.write().leases.end_failed(id, self.now_ms + LEASE_RETRY_MS);
        }
        pending.owner.answer(Err(error));
    }

    /// What a request is told that has waited too long (server/etcdserver/v3_server.go, parseProposeCtxErr).
    fn timeout(&self, since_ms: u64) -> KvError {
        if self.leader_lost_ms.is_some_and(|lost| lost >= since_ms) { KvError::TimeoutLeaderFailed } else { KvError::Timeout }
    }

    fn start_transfer(&mut self, to: u64, reply: oneshot::Sender<Result<(), KvError>>) -> Result<(), KvError> {
        let voter = self.shared.state.read().cluster.members.get(&to).is_some_and(|member| !member.is_learner);
        let refused = if self.core.role() != Role::Leader {
            Some(Err(KvError::NotLeader))
        } else if !voter {
            Some(Err(KvError::BadTransferee))
        } else if to == self.options.member_id {
            Some(Ok(()))
        } else if self.transfer.is_some() {
            Some(Err(KvError::TooManyRequests))
        } else {
            None
        };
        if let Some(answer) = refused {
            let _ = reply.send(answer);
            return Ok(());
        }
        // Raft gives up after an election timeout.
        let patience = u64::try_from(self.options.election_timeout.as_millis()).unwrap_or(u64::MAX);
        self.transfer = Some(Transfer { to, until_ms: self.now_ms.saturating_add(patience), reply });
        self.core.transfer(to)
    }
}

/// Looking after things.
impl Replica {
    fn tick(&mut self) -> Result<(), KvError> {
        // A late turn does not make several ticks: nothing could have been heard in between.
        let heartbeat = self.heartbeat_ms();
        self.next_tick_ms = (self.next_tick_ms + heartbeat).max(self.now_ms + heartbeat / 2);
        self.core.tick()?;
        let limit_ms = self.now_ms.saturating_sub(self.request_timeout_ms());
        if self.now_ms > limit_ms && limit_ms > 0 {
            for pending in self.proposals.take_older(limit_ms) {
                let error = self.timeout(pending.since_ms);
                self.fail(pending, error);
            }
            for read in self.reads.take_older(limit_ms) {
                read.fail(self.timeout(limit_ms));
            }
        }
        if let Some(transfer) = self.transfer.take_if(|transfer| self.now_ms >= transfer.until_ms) {
            self.core.abort_transfer();
            let _ = transfer.reply.send(Err(KvError::TransferTimeout));
        }
        self.board.set_successor(self.successor());
        if self.snapshots.tidy(self.now_ms) {
            self.core.log().withdraw();
        }
        self.propose_unsent()?;
        self.repeat_reads(2 * heartbeat)?;
        self.end_leases()
    }

    /// Notices what has changed in Raft; returns whether something was done about it.
    fn observe(&mut self) -> Result<bool, KvError> {
        let now = (self.core.leader(), self.core.role(), self.core.leads_for_sure());
        let before = std::mem::replace(&mut self.seen, now);
        if now == before {
            return Ok(false);
        }
        if now.0 != before.0 {
            if before.0 != 0 {
                self.leader_lost_ms = Some(self.now_ms);
            }
            if now.0 != 0 {
                self.leader_changes += 1;
            }
            tracing::info!(leader = format_args!("{:x}", now.0), term = self.core.term(), "the leader of the cluster changed");
        }
        if let Some(transfer) = self.transfer.take_if(|transfer| now.0 == transfer.to) {
            let _ = transfer.reply.send(Ok(()));
        }
        match (before.1 == Role::Leader, now.1 == Role::Leader) {
            (false, true) => {
                self.take_over_leases();
            }
            (true, false) => {
                self.shared.state.write().leases.demote();
                self.reads.take_leases().into_iter().for_each(|read| read.fail(KvError::NotLeader));
                if let Some(transfer) = self.transfer.take() {
                    // Who leads now will show.
                    let done = now.0 == transfer.to;
                    if done { drop(transfer.reply.send(Ok(()))) } else { self.transfer = (now.0 == 0).then_some(transfer) }
                }
            }
            _ => {}
        }
        self.propose_unsent()?;
        self.repeat_reads(0)?;
        Ok(true)
    }

    /// The voter that is closest behind and reachable; 0: none.
    fn successor(&self) -> u64 {
        if self.core.role() != Role::Leader {
            return 0;
        }
        let state = self.shared.state.read();
        let others = state.cluster.members.values().filter(|member| !member.is_learner && member.id != self.options.member_id);
        let reachable = others.filter(|member| self.transport.connected_for(member.id).is_some());
        reachable.max_by_key(|member| self.core.matched(member.id)).map_or(0, |member| member.id)
    }

    /// Whether a view of the checkpoint is needed, to be sent to another member; asked for once.
    pub fn wants_view(&mut self) -> bool {
        self.snapshots.take_request()
    }

    pub fn view_made(&mut self, view: Result<View, KvError>) {
        if let Some(snapshot) = self.snapshots.made(view, self.now_ms) {
            self.core.log().offer(snapshot);
        }
    }

    fn can_ask(&self) -> bool {
        match self.core.role() {
            // Raft drops the question of a leader that has committed nothing yet.
            Role::Leader => self.core.leads_for_sure(),
            _ => self.core.leader() != 0,
        }
    }

    fn ask_reads(&mut self) -> Result<(), KvError> {
        while self.can_ask()
            && let Some(context) = self.reads.ask(self.now_ms)
        {
            self.core.read(context)?;
        }
        self.work()
    }

    fn repeat_reads(&mut self, after_ms: u64) -> Result<(), KvError> {
        if self.can_ask() {
            for context in self.reads.ask_again(self.now_ms.saturating_sub(after_ms), self.now_ms) {
                self.core.read(context)?;
            }
        }
        Ok(())
    }

    /// Answers what is confirmed and applied; returns whether that gave new work.
    fn answer_reads(&mut self) -> Result<bool, KvError> {
        let mut worked = false;
        for read in self.reads.take_ready(self.applied) {
            match read {
                Read::Barrier(reply) => drop(reply.send(Ok(()))),
                Read::Lease(_, reply) if self.core.role() != Role::Leader => drop(reply.send(Err(KvError::NotLeader))),
                Read::Lease(LeaseAsk::Status(id), reply) => drop(reply.send(self.shared.state.read().leases.status(id, self.now_ms))),
                Read::Lease(LeaseAsk::Renew(id), reply) => worked |= self.renew(id, reply)?,
            }
        }
        Ok(worked)
    }

    /// Whether this member is the whole cluster.
    fn is_alone(&self) -> bool {
        let state = self.shared.state.read();
        let conf = &state.cluster.conf;
        conf.voters == [self.options.member_id] && conf.voters_outgoing.is_empty() && conf.learners.is_empty()
    }

    pub(super) fn members(&self) -> Vec<Member> {
        self.shared.state.read().cluster.list()
    }

    /// The member takes no further part.
    pub fn stop(&mut self, reason: KvError) {
        if self.stopped.is_some() {
            return;
        }
        if reason == KvError::Removed {
            tracing::warn!("this member was removed from its cluster and stops");
            self.transport.removed();
        } else if reason != KvError::Stopped {
            tracing::error!(%reason, "this member of the cluster stops");
        }
        for pending in self.proposals.take_all() {
            pending.owner.answer(Err(reason.clone()));
        }
        for read in self.reads.take_older(u64::MAX) {
            read.fail(reason.clone());
        }
        if let Some(transfer) = self.transfer.take() {
            let _ = transfer.reply.send(Err(reason.clone()));
        }
        self.snapshots.refuse_incoming(&reason);
        self.board.set_alone(false);
        self.stopped = Some(reason);
        self.publish_status();
    }

    fn publish_status(&mut self) {
        let is_learner = self.shared.state.read().cluster.members.get(&self.options.member_id).is_some_and(|member| member.is_learner);
        let status = super::RaftStatus {
            cluster_id: self.options.cluster_id,
            member_id: self.options.member_id,
            leader: self.core.leader(),
            role: self.core.role(),
            term: self.core.term(),
            raft_index: self.core.committed(),
            applied_index: self.applied,
            is_learner,
            leader_changes: self.leader_changes,
            pending_proposals: self.proposals.len() as u64,
            failed_proposals: self.failed_proposals,
            stopped: self.stopped.clone(),
        };
        // Whoever is the only voter and knows that it leads has every acknowledged write applied: it acknowledged it.
        let alone = self.stopped.is_none() && self.stalled.is_none() && self.core.leads_for_sure() && self.is_alone();
        self.board.publish(status, alone);
    }
}

/// Tells the sender of an input that nothing will come of it.
pub(super) fn refuse(input: Input, error: &KvError) {
    match input {
        Input::Propose(proposal) => drop(proposal.reply.send(Err(error.clone()))),
        Input::Read(read) => read.fail(error.clone()),
        Input::Change { reply, .. } => drop(reply.send(Err(error.clone()))),
        Input::Transfer { reply, .. } => drop(reply.send(Err(error.clone()))),
        Input::SnapshotCame(incoming) => incoming.refuse(error),
        Input::Received(_) | Input::Unreachable(_) | Input::SnapshotSent { .. } | Input::ToldRemoved => {}
    }
}

/// Hard state as recovery finds it, for the log of Raft.
pub(super) fn hard_state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term, vote, commit, ..HardState::default() }
}
