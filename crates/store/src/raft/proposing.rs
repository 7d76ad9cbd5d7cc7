//! How a member's requests get into the log: through Raft when there is a leader, else they wait; and what those are told that have waited too long.

use tokio::sync::oneshot;

use super::leases::LEASE_RETRY_MS;
use super::member::{PENDING_PROPOSALS, Replica, Transfer};
use super::proposals::{NAME_BYTES, Owner, Pending, Unsent};
use super::{MemberChange, Role};
use crate::auth::Caller;
use crate::codec;
use crate::commit::Proposal;
use crate::kv::KvError;
use crate::planted::planted;
use crate::state::Command;
impl Replica {
    pub(super) fn propose(&mut self, batch: Vec<Proposal>) -> Result<(), KvError> {
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

    pub(super) fn propose_data(&mut self, numbers: Vec<u64>, data: Vec<Vec<u8>>) -> Result<(), KvError> {
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

    pub(super) fn propose_changes(&mut self, number: u64, changes: Vec<MemberChange>) -> Result<(), KvError> {
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

    pub(super) fn propose_unsent(&mut self) -> Result<(), KvError> {
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

    pub(super) fn fail(&mut self, pending: Pending, error: KvError) {
        self.failed_proposals += 1;
        if let Owner::LeaseEnd(id) = pending.owner {
            self.shared.state.write().leases.end_failed(id, self.now_ms + LEASE_RETRY_MS);
        }
        pending.owner.answer(Err(error));
    }

    /// What a request is told that has waited too long (server/etcdserver/v3_server.go, parseProposeCtxErr).
    pub(super) fn timeout(&self, since_ms: u64) -> KvError {
        if self.leader_lost_ms.is_some_and(|lost| lost >= since_ms) { KvError::TimeoutLeaderFailed } else { KvError::Timeout }
    }

    pub(super) fn start_transfer(&mut self, to: u64, reply: oneshot::Sender<Result<(), KvError>>) -> Result<(), KvError> {
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
