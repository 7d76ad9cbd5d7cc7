//! A data folder out of a snapshot file: the keys and leases as they were, a new member of a new cluster around them (etcdutl/snapshot/v3_snapshot.go).
//! Must never touch a folder that holds anything.

use std::path::{Path, PathBuf};

use store::{ALARMS_SECTION, AUTH_SECTION, Bootstrap, FirstMembers, KvError, Revision, SnapshotMeta};

use super::load::{self, Snapshot};
use super::{RestoreOptions, SnapshotError};
use crate::bootstrap::{Start, restored};
use crate::options::Options;
use crate::server::identity;

/// Nobody gets there by writing; a damaged file can.
const MAX_REVISION: Revision = Revision::MAX / 2;

/// Makes the folder, or leaves nothing behind.
pub fn restore(file: &Path, options: &RestoreOptions) -> Result<(), SnapshotError> {
    if (options.bump_revision > 0) != options.mark_compacted {
        return Err(SnapshotError::BumpAlone);
    }
    let server = Options {
        name: options.name.clone(),
        data_dir: options.data_dir.clone(),
        initial_cluster: Some(options.initial_cluster.clone()),
        initial_cluster_token: options.initial_cluster_token.clone(),
        initial_advertise_peer_urls: options.initial_advertise_peer_urls.clone(),
        ..Options::default()
    };
    let start = restored(&server)?;
    let data_dir = server.data_dir();
    let was_there = is_there(&data_dir)?;
    load::verify(file, options.skip_hash_check)?;
    let snapshot = Snapshot::open(file)?;
    let dir = data_dir.join("member");
    let made = fill(&dir, &snapshot, options, &start).and_then(|()| {
        // The members of a restored cluster are in the folder, as etcd has them: the first start needs no flags for it.
        identity::write(&dir, &start, true).map_err(|error| SnapshotError::Identity(error.to_string()))
    });
    if made.is_err() {
        let unwanted = if was_there { &dir } else { &data_dir };
        if let Err(error) = std::fs::remove_dir_all(unwanted)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %unwanted.display(), %error, "what was restored so far could not be removed");
        }
    }
    made
}

/// Whether the folder exists; it must be empty then.
fn is_there(data_dir: &Path) -> Result<bool, SnapshotError> {
    match std::fs::read_dir(data_dir) {
        Ok(mut entries) => {
            if entries.next().is_none() {
                Ok(true)
            } else {
                Err(SnapshotError::NotEmpty(data_dir.to_owned()))
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(_) => Err(SnapshotError::NotEmpty(PathBuf::from(data_dir))),
    }
}

fn fill(dir: &Path, snapshot: &Snapshot, options: &RestoreOptions, start: &Start) -> Result<(), SnapshotError> {
    let (Bootstrap::New(members) | Bootstrap::Join(members)) = start.bootstrap.clone();
    let first = FirstMembers { cluster_id: start.cluster_id, member_id: start.member_id, members };
    let mut compact_revision = snapshot.compact_revision()?;
    let mut revision = snapshot.revision()?.max(compact_revision);
    if options.bump_revision > 0 {
        let bump = i64::try_from(options.bump_revision).ok();
        revision = bump.and_then(|bump| revision.checked_add(bump)).ok_or(SnapshotError::RevisionTooLarge)?;
        compact_revision = revision;
    }
    // The store counts on from there.
    if revision > MAX_REVISION {
        return Err(SnapshotError::RevisionTooLarge);
    }
    let meta = SnapshotMeta { store: rand::random(), applied_index: 0, revision, compact_revision };
    let mut extras = vec![(AUTH_SECTION.to_owned(), snapshot.auth()?.to_bytes())];
    extras.extend(snapshot.alarms()?.to_bytes().map(|alarms| (ALARMS_SECTION.to_owned(), alarms)));
    // What `import` says of a row that is wrong is our own error again.
    let mut wrong = None;
    let versions = snapshot.versions()?.map(|version| {
        version.map_err(|error| {
            let text = error.to_string();
            wrong = Some(error);
            KvError::Corrupt(text)
        })
    });
    let imported = store::import_member(dir, &first, &meta, &snapshot.leases()?, &extras, versions);
    match (imported, wrong) {
        (Err(_), Some(error)) => Err(error),
        (imported, _) => Ok(imported?),
    }
}
