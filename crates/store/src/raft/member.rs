//! The loop of a member as a synchronous function: `Replica::turn` takes what came in and the time, asks Raft, writes the log, applies what is committed,
//! and answers. It owns the order in which these happen. It reads no clock and starts no thread, so a simulator can drive it.

use std::sync::Arc;

use raft::eraftpb::{HardState, Message, MessageType};
use tokio::sync::oneshot;

use super::board::Board;
use super::core::{Core, Step};
use super::journal::Journal;
use super::leases::LEASE_CHECKPOINT_MS;
use super::message;
use super::proposals::{Owner, Pending, Proposals};
use super::reads::{LeaseAsk, Read, Reads};
use super::snapshots::{Incoming, Snapshots};
use super::{Member, MemberChange, MemberOptions, Role, Transport};
use crate::commit::{Answer, Proposal};
use crate::keeper::Desk;
use crate::kv::KvError;
use crate::planted::planted;
use crate::watch::Shared;

/// Proposals that may wait for their fate; more are refused (etcd's maxGapBetweenApplyAndCommitIndex).
pub(crate) const PENDING_PROPOSALS: usize = 5000;
/// Who has stopped looks up so often.
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
    pub to: u64,
    pub until_ms: u64,
    pub reply: oneshot::Sender<Result<(), KvError>>,
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
    pub(super) proposals: Proposals,
    pub(super) reads: Reads,
    pub(super) transfer: Option<Transfer>,
    pub(super) applied: u64,
    /// A step that the full disk did not take. Nothing goes on until it does.
    pub(super) stalled: Option<Step>,
    /// What was last seen of Raft: leader, role, and whether the lead is sure.
    pub(super) seen: (u64, Role, bool),
    pub(super) leader_lost_ms: Option<u64>,
    pub(super) leader_changes: u64,
    pub(super) failed_proposals: u64,
    pub(super) now_ms: u64,
    pub(super) next_tick_ms: u64,
    pub(super) lease_checkpoint_ms: u64,
    /// When a removed member stops: until then it helps the others to hear of it.
    pub(super) leaving_ms: Option<u64>,
    pub(super) stopped: Option<KvError>,
    pub(super) uncheckpointed_bytes: u64,
    pub(super) checkpoint_bytes: u64,
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

    pub(super) fn heartbeat_ms(&self) -> u64 {
        u64::try_from(self.options.heartbeat.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn request_timeout_ms(&self) -> u64 {
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
    pub(super) fn work(&mut self) -> Result<(), KvError> {
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

impl Replica {
    /// Whether this member is the whole cluster.
    pub(super) fn is_alone(&self) -> bool {
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
