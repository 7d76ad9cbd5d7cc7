//! The leader's part in leases: it renews them and ends them. What the others know of them is in the log. Owns no deadline itself: those are the state's.

use tokio::sync::oneshot;

use super::member::Replica;
use super::proposals::Owner;
use crate::kv::{KvError, LeaseId, LeaseStatus};
use crate::planted::planted;
use crate::state::Command;

const LEASES_ENDED_AT_ONCE: usize = 256;
pub(super) const LEASE_RETRY_MS: u64 = 1000;
/// Leases longer than this have their remaining time recorded so often (lease.go's default checkpoint interval).
pub(super) const LEASE_CHECKPOINT_MS: u64 = 300_000;

impl Replica {
    /// Every lease lasts from now on as long as is known to remain of it, and until a new leader could have renewed it (lessor.go, Promote).
    pub(super) fn take_over_leases(&mut self) {
        let extend = u64::try_from(self.options.election_timeout.as_millis()).unwrap_or(u64::MAX);
        if !planted!(LeasesNotExtended) {
            self.shared.state.write().leases.promote(self.now_ms, extend);
        }
        self.lease_checkpoint_ms = self.now_ms + LEASE_CHECKPOINT_MS;
    }

    /// Renews a lease and answers; returns whether that gave new work.
    ///
    /// A shortened time on record is taken back before the answer: the next leader would go by it.
    pub(super) fn renew(&mut self, id: LeaseId, reply: oneshot::Sender<Result<LeaseStatus, KvError>>) -> Result<bool, KvError> {
        let (renewed, shortened) = {
            let mut state = self.shared.state.write();
            (state.leases.renew(id, self.now_ms), state.leases.has_checkpoint(id))
        };
        let status = renewed.map(|ttl| LeaseStatus { id, granted_ttl: ttl, remaining_ttl: ttl, keys: Vec::new() });
        match status {
            Ok(status) if shortened && !planted!(CheckpointOutlivesRenewal) => {
                self.propose_own(Command::LeaseCheckpoint(vec![(id, 0)]), Owner::Renewal(status, reply))?;
                Ok(true)
            }
            answer => {
                // Whoever does not wait any more does not mind.
                let _ = reply.send(answer);
                Ok(false)
            }
        }
    }

    /// The leader ends what is due.
    pub(super) fn end_leases(&mut self) -> Result<(), KvError> {
        if !self.core.leads_for_sure() || self.transfer.is_some() {
            return Ok(());
        }
        let due = self.shared.state.read().leases.next_deadline_ms().is_some_and(|deadline| deadline <= self.now_ms);
        if due {
            let expired = self.shared.state.write().leases.take_expired(self.now_ms, LEASES_ENDED_AT_ONCE);
            for id in expired {
                self.propose_own(Command::LeaseRevoke(id), Owner::LeaseEnd(id))?;
            }
        }
        if self.now_ms >= self.lease_checkpoint_ms {
            self.lease_checkpoint_ms = self.now_ms + LEASE_CHECKPOINT_MS;
            let remaining = self.shared.state.write().leases.remaining_of_long(LEASE_CHECKPOINT_MS, self.now_ms);
            if !remaining.is_empty() {
                self.propose_own(Command::LeaseCheckpoint(remaining), Owner::Nobody)?;
            }
        }
        Ok(())
    }
}
