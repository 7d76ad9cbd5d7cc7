//! What a change of the membership must fulfil before it is proposed, beside what `Cluster::change` checks: that it does not take the cluster's majority away
//! (server/etcdserver/server.go and api/membership/cluster.go).

use std::time::Duration;

use super::member::Replica;
use super::{Member, MemberChange, Role};
use crate::kv::KvError;

/// A member counts as healthy when it was reachable so long.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

impl Replica {
    pub(super) fn check_changes(&self, changes: &[MemberChange]) -> Result<(), KvError> {
        if changes.is_empty() {
            return Err(KvError::Internal("no change was asked for".into()));
        }
        let members = self.members();
        self.shared.state.read().cluster.clone().change(changes)?;
        for change in changes {
            match change {
                MemberChange::Add(member) if member.is_learner => self.check_learner(&members)?,
                MemberChange::Promote(id) => self.check_promotion(&members, *id)?,
                MemberChange::Add(_) | MemberChange::Remove(_) => {}
            }
        }
        // A joint change keeps both majorities until it is over.
        match changes {
            [change] if self.options.strict_reconfig => self.check_majority(&members, change),
            _ => Ok(()),
        }
    }

    fn check_learner(&self, members: &[Member]) -> Result<(), KvError> {
        let learners = members.iter().filter(|member| member.is_learner).count();
        if learners >= self.options.max_learners { Err(KvError::TooManyLearners) } else { Ok(()) }
    }

    /// Only the leader knows how far a learner is.
    fn check_promotion(&self, members: &[Member], id: u64) -> Result<(), KvError> {
        if self.core.role() != Role::Leader {
            return Err(KvError::NotLeader);
        }
        let matched = self.core.matched(id).unwrap_or(0);
        let known = members.iter().any(|member| member.id == id);
        // readyPercent of server.go.
        let in_sync = u128::from(matched) * 10 >= u128::from(self.core.last_index()) * 9;
        if known && !in_sync { Err(KvError::LearnerNotReady) } else { Ok(()) }
    }

    fn check_majority(&self, members: &[Member], change: &MemberChange) -> Result<(), KvError> {
        let voters: Vec<&Member> = members.iter().filter(|member| !member.is_learner).collect();
        let started = |without: u64| voters.iter().filter(|member| member.id != without && self.has_started(member)).count();
        match change {
            MemberChange::Add(member) => {
                let (count, started) = (voters.len() + 1, started(0));
                // A cluster of one may grow to two.
                let enough = member.is_learner || (started == 1 && count == 2) || started > count / 2;
                if !enough {
                    return Err(KvError::NotEnoughStarted);
                }
                if voters.iter().all(|member| self.is_healthy(member.id)) { Ok(()) } else { Err(KvError::UnhealthyCluster) }
            }
            MemberChange::Promote(id) => {
                let promoted = members.iter().any(|member| member.id == *id && self.has_started(member));
                let (count, started) = (voters.len() + 1, started(0) + usize::from(promoted));
                if started > count / 2 { Ok(()) } else { Err(KvError::NotEnoughStarted) }
            }
            MemberChange::Remove(id) if voters.iter().any(|member| member.id == *id) => {
                let count = voters.len() - 1;
                if started(*id) <= count / 2 {
                    return Err(KvError::NotEnoughStarted);
                }
                if *id != self.options.member_id && self.transport.connected_for(*id).is_none() {
                    // It is down and part of no majority.
                    return Ok(());
                }
                let healthy = voters.iter().filter(|member| self.is_healthy(member.id)).count();
                if healthy.saturating_sub(1) > count / 2 { Ok(()) } else { Err(KvError::UnhealthyCluster) }
            }
            MemberChange::Remove(_) => Ok(()),
        }
    }

    fn has_started(&self, member: &Member) -> bool {
        // This one runs, whether it has said so or not.
        member.id == self.options.member_id || member.is_started()
    }

    fn is_healthy(&self, id: u64) -> bool {
        id == self.options.member_id || self.transport.connected_for(id).is_some_and(|since| since >= HEALTHY_AFTER)
    }
}
