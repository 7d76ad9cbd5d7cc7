//! What a member does with committed entries: commands go to the state machine in batches, changes of the members to Raft and the members' section, and
//! whoever waits for one is answered.

use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType};

use super::cluster::decode_changes;
use super::member::Replica;
use super::proposals::{Owner, Pending, split_name};
use super::records::conf_from_raft;
use crate::codec;
use crate::commit::{self, APPLY_BUDGET};
use crate::kv::KvError;
use crate::planted::planted;
use crate::reply::Reply;
use crate::state::Command;
impl Replica {
    pub(super) fn apply(&mut self, entries: Vec<Entry>) -> Result<(), KvError> {
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

    pub(super) fn members_changed(&mut self) {
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
