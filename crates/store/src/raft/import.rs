//! A member that begins with a whole state, as one made from a snapshot file (etcdutl/snapshot/v3_snapshot.go, saveWALAndSnap).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::Member;
use super::cluster::{Cluster, Conf, SECTION};
use super::journal::Journal;
use super::member::hard_state;
use super::records::Identity;
use super::recover::check_members;
use crate::disk::{Files, Folder, Lock};
use crate::export::{SnapshotMeta, import_into};
use crate::kv::{KeyValue, KvError};
use crate::lease::LeaseRecord;
use crate::options::EngineOptions;
use crate::state::Extras;
use crate::wal::Wal;

/// The term in which the first members of a cluster are there.
const FIRST_TERM: u64 = 1;

/// The first members of a new cluster, and which of them it is about.
#[derive(Clone, Debug)]
pub struct FirstMembers {
    pub cluster_id: u64,
    pub member_id: u64,
    pub members: Vec<Member>,
}

/// Makes the data folder of one of the first members of a new cluster, which all begin with this state; otherwise as `import`. `meta` says nothing of a
/// log: it begins after the entries that made the members, and who joins later gets the state from one of them.
pub fn import_member(
    dir: &Path,
    first: &FirstMembers,
    meta: &SnapshotMeta,
    leases: &[LeaseRecord],
    extras: &Extras,
    versions: impl IntoIterator<Item = Result<(KeyValue, u32), KvError>>,
) -> Result<(), KvError> {
    let cannot = |error: std::io::Error| KvError::Unavailable(format!("the data folder {} cannot be used: {error}", dir.display()));
    let files = Arc::new(Folder::open(dir).map_err(cannot)?);
    let _lock = Lock::take(dir)?;
    let log_files = Arc::new(Folder::open(&dir.join("wal")).map_err(cannot)?);
    import_member_into(files, log_files, first, meta, leases, extras, versions)
}

/// `import_member` on any disk.
pub(super) fn import_member_into(
    files: Arc<dyn Files>,
    log_files: Arc<dyn Files>,
    first: &FirstMembers,
    meta: &SnapshotMeta,
    leases: &[LeaseRecord],
    extras: &Extras,
    versions: impl IntoIterator<Item = Result<(KeyValue, u32), KvError>>,
) -> Result<(), KvError> {
    let FirstMembers { cluster_id, member_id, members } = first;
    check_members(members, *member_id)?;
    let index = members.len() as u64;
    let members: BTreeMap<u64, Member> = members.iter().map(|member| (member.id, member.clone())).collect();
    let conf = Conf { voters: members.keys().copied().collect(), ..Conf::default() };
    let cluster = Cluster { members, conf, term: FIRST_TERM, ..Cluster::default() };
    let mut extras = extras.clone();
    extras.push((SECTION.to_owned(), cluster.encode()));
    import_into(files, &SnapshotMeta { applied_index: index, ..*meta }, leases, &extras, versions)?;
    let not_empty = |_, _: &[u8]| Err(KvError::Unavailable("the data folder holds a log already: use an empty folder".into()));
    let wal = Wal::open_whole(log_files, EngineOptions::default().wal_segment_bytes, Some(meta.store), not_empty)?;
    let identity = Identity { cluster: *cluster_id, member: *member_id };
    Journal::new(wal, identity, hard_state(FIRST_TERM, 0, index), 0, 0).reset(index, FIRST_TERM)
}
