//! What a member looks after as time passes and Raft changes: ticks, timeouts, reads under way.

use super::Role;
use super::member::Replica;
use super::reads::{LeaseAsk, Read};
use crate::checkpoint::View;
use crate::kv::KvError;
impl Replica {
    pub(super) fn tick(&mut self) -> Result<(), KvError> {
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
    pub(super) fn observe(&mut self) -> Result<bool, KvError> {
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

    pub(super) fn ask_reads(&mut self) -> Result<(), KvError> {
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
    pub(super) fn answer_reads(&mut self) -> Result<bool, KvError> {
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
}
