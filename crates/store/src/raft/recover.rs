//! The start of a member: checkpoint, then the log, from which Raft goes on. Or, in an empty folder, the first records of a new member.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use raft::eraftpb::{Entry, HardState};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::cluster::encode_changes;
use super::core::{Core, CoreOptions, first_entry};
use super::journal::Journal;
use super::log::Log;
use super::member::{Parts, Replica, hard_state};
use super::proposals::NAME_BYTES;
use super::records::{self, Identity, Recorded, conf_to_raft};
use super::snapshots::{self, Snapshots};
use super::{Bootstrap, Member, MemberChange, MemberOptions, Transport};
use crate::disk::Files;
use crate::keeper::Keeper;
use crate::kv::KvError;
use crate::options::EngineOptions;
use crate::planted::planted;
use crate::recovery;
use crate::wal::Wal;

/// A member as it was when it stopped, and who keeps its checkpoint.
pub(crate) struct Recovered {
    pub replica: Replica,
    pub keeper: Arc<Mutex<Keeper>>,
}

/// What the log says, all of it.
#[derive(Default)]
struct Found {
    identity: Option<Identity>,
    hard: HardState,
    hard_state_record: u64,
    entries: VecDeque<Entry>,
    reset: Option<(u64, u64)>,
    /// Highest index of any entry, replaced ones included.
    top: u64,
    bytes: u64,
}

impl Found {
    fn take(&mut self, record: u64, bytes: &[u8]) -> Result<(), KvError> {
        let unclear = |error: &str| KvError::Corrupt(format!("a record cannot be understood: {error}"));
        self.bytes += bytes.len() as u64;
        match records::decode(bytes).map_err(|error| unclear(error.0))? {
            Recorded::HardState(identity, hard) => {
                if self.identity.is_some_and(|known| known != identity) {
                    return Err(unclear("it belongs to another member than the one before"));
                }
                (self.identity, self.hard, self.hard_state_record) = (Some(identity), hard, record);
            }
            Recorded::Reset { index, term } => {
                self.entries.clear();
                self.reset = Some((index, term));
                self.top = self.top.max(index);
            }
            Recorded::Entry(entry) => {
                if planted!(ConflictSuffixKept) && self.entries.back().is_some_and(|last| last.index >= entry.index) {
                    return Ok(());
                }
                while self.entries.back().is_some_and(|last| last.index >= entry.index) {
                    self.entries.pop_back();
                }
                let last = self.entries.back().map(|last| last.index).or(self.reset.map(|(index, _)| index));
                if last.is_some_and(|last| last + 1 != entry.index) {
                    return Err(unclear("the entry before it is missing"));
                }
                self.top = self.top.max(entry.index);
                self.entries.push_back(entry);
            }
        }
        Ok(())
    }

    /// The log as Raft goes on with it, on a state with everything up to `applied` in it, an index and its term.
    fn log(&mut self, applied: (u64, u64), conf: raft::eraftpb::ConfState) -> Result<Log, KvError> {
        let lost = |reason: String| {
            KvError::Corrupt(format!(
                "the log and the checkpoint of this member do not belong together: {reason}. Restore the missing files, or remove this member from the \
                 cluster and add it as a new one with an empty data folder"
            ))
        };
        let before = match (self.reset, self.entries.front()) {
            // Only entries after the snapshot count.
            (Some(reset), _) => reset,
            (None, Some(first)) if first.index == 1 => (0, 0),
            (None, None) => (0, 0),
            (None, Some(_)) => {
                let first = self.entries.pop_front().expect("seen just now");
                (first.index, first.term)
            }
        };
        if before.0 > applied.0 {
            return Err(lost(format!("the log begins after entry {}, the checkpoint ends at {}", before.0, applied.0)));
        }
        let mut log = Log::new(before, conf);
        log.append(self.entries.make_contiguous());
        self.entries.clear();
        if log.last() < applied.0 {
            return Err(lost(format!("the log ends at entry {}, the checkpoint at {}", log.last(), applied.0)));
        }
        if log.term_of(applied.0) != Some(applied.1) {
            return Err(lost(format!("entry {} is of another term in the checkpoint", applied.0)));
        }
        if self.hard.commit > log.last() {
            return Err(lost(format!("the log ends at entry {}, but {} was committed", log.last(), self.hard.commit)));
        }
        self.hard.commit = self.hard.commit.max(applied.0);
        Ok(log)
    }
}

fn check_options(options: &MemberOptions) -> Result<(), KvError> {
    if options.member_id == 0 {
        return Err(KvError::Internal("0 is no id of a member".into()));
    }
    if options.heartbeat.is_zero() || options.election_timeout < 5 * options.heartbeat {
        return Err(KvError::Unavailable("the election timeout must be at least five times the heartbeat interval".into()));
    }
    Ok(())
}

/// Rebuilds a member from its files, or makes it. `options.seed` must differ from life to life.
pub(crate) fn recover(
    files: Arc<dyn Files>,
    log_files: Arc<dyn Files>,
    options: &EngineOptions,
    member: MemberOptions,
    transport: Arc<dyn Transport>,
    now_ms: u64,
) -> Result<Recovered, KvError> {
    check_options(&member)?;
    let mut restored = recovery::load(files.clone(), options, now_ms)?;
    let mut found = Found::default();
    let wal = Wal::open_whole(log_files, options.wal_segment_bytes, restored.store, |record, bytes| found.take(record, bytes))?;
    let identity = Identity { cluster: member.cluster_id, member: member.member_id };
    if let Some(known) = found.identity
        && known != identity
    {
        return Err(KvError::Corrupt(format!(
            "the data folder belongs to member {:x} of cluster {:x}, this is member {:x} of cluster {:x}: use the folder, the name and the --initial-cluster \
             that belong together",
            known.member, known.cluster, identity.member, identity.cluster
        )));
    }
    match found.reset {
        Some((index, _)) if index > restored.state.applied_index => {
            tracing::warn!(index, "going on with a snapshot of the leader that was being installed");
            snapshots::import(&files, &mut restored.checkpoint, wal.store(), index)?;
            restored = recovery::load(files.clone(), options, now_ms)?;
        }
        _ => {}
    }
    snapshots::remove_stray(&*files)?;
    let state = &restored.state;
    let applied = (state.applied_index, state.cluster.term);
    if found.identity.is_none() && applied.0 > 0 {
        return Err(KvError::Corrupt(format!(
            "the data folder has a checkpoint up to entry {} but no log of a member: it is not a member's, or files are missing",
            applied.0
        )));
    }
    let mut log = found.log(applied, conf_to_raft(&state.cluster.conf))?;
    restored.state.auth.forget_tokens(log.last());
    let mut journal = Journal::new(wal, identity, found.hard.clone(), found.hard_state_record, found.top);
    if found.identity.is_none() {
        begin(&mut journal, &mut log, &mut found.hard, &member)?;
    }
    log.set_hard_state(found.hard.clone());
    let mut rng = StdRng::seed_from_u64(member.seed.unwrap_or_else(rand::random));
    let core_options = CoreOptions {
        id: member.member_id,
        election_ticks: usize::try_from(member.election_timeout.as_nanos() / member.heartbeat.as_nanos()).unwrap_or(usize::MAX),
        applied: applied.0,
        lease_reads: member.lease_reads,
    };
    let life = rng.random();
    let core = Core::new(&core_options, log, rng)?;
    let (shared, mut keeper, desk) = recovery::serve(restored, journal.segments(), journal.store());
    keeper.marks = Some(journal.marks());
    let keeper = Arc::new(Mutex::new(keeper));
    let parts = Parts {
        snapshots: Snapshots::new(files, keeper.clone(), options.clone()),
        options: member,
        shared,
        core,
        journal,
        keeper: desk,
        transport,
        life,
        uncheckpointed_bytes: found.bytes,
        checkpoint_bytes: options.checkpoint_wal_bytes,
    };
    Ok(Recovered { replica: Replica::new(parts, now_ms)?, keeper })
}

/// The first records of a member. Those of a new cluster's are the same on each (server/etcdserver/bootstrap.go).
fn begin(journal: &mut Journal, log: &mut Log, hard: &mut HardState, options: &MemberOptions) -> Result<(), KvError> {
    let mut entries = Vec::new();
    if let Bootstrap::New(members) = &options.bootstrap {
        check_members(members, options.member_id)?;
        let mut members = members.clone();
        members.sort_by_key(|member| member.id);
        for (index, member) in (1..).zip(members) {
            // Nobody's name: nobody waits for it.
            let mut context = vec![0; NAME_BYTES];
            let change = [MemberChange::Add(member)];
            encode_changes(&mut context, &change);
            entries.push(first_entry(index, &change, context)?);
        }
        *hard = hard_state(1, 0, entries.len() as u64);
    }
    journal.begin(&entries, hard)?;
    log.append(&entries);
    Ok(())
}

pub(super) fn check_members(members: &[Member], own: u64) -> Result<(), KvError> {
    if !members.iter().any(|member| member.id == own) {
        return Err(KvError::Unavailable(format!(
            "member {own:x} is not among the first members of its cluster: check --name and --initial-cluster"
        )));
    }
    let changes: Vec<MemberChange> = members.iter().cloned().map(MemberChange::Add).collect();
    super::cluster::Cluster::default().change(&changes)
}
