//! The checksum that `HashKV` of a server with these keys gives, of a file. Must follow the rule of `server/maintenance.rs`, which is etcd's.

use std::collections::HashMap;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use store::Revision;

use super::load::Snapshot;
use super::{SnapshotError, schema};

/// What `etcdutl hashkv` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// Up to where rows were counted.
    pub hash_revision: Revision,
    /// etcd's way of saying "never": -1.
    pub compact_revision: Revision,
}

/// `revision` 0 means all of the file.
pub fn hash_kv(file: &Path, revision: Revision) -> Result<HashKv, SnapshotError> {
    let snapshot = Snapshot::open(file)?;
    let (newest, compacted) = (snapshot.revision()?, snapshot.compact_revision()?);
    let upper = if revision <= 0 { newest } else { revision };
    if upper > newest || upper < compacted {
        return Err(SnapshotError::NoRevision { revision: upper, compacted, newest });
    }
    // Each key's last change, and whether the key is alive after it.
    let mut last: HashMap<Bytes, (Revision, bool)> = HashMap::new();
    for version in snapshot.versions()? {
        let (kv, _) = version?;
        if kv.mod_revision <= upper {
            last.insert(kv.key, (kv.mod_revision, kv.version > 0));
        }
    }
    let any_left = last.values().any(|(revision, live)| *live || *revision <= compacted);
    let mut hash = crc32c::crc32c(schema::KEY);
    let mut buffer = BytesMut::new();
    for version in snapshot.versions()? {
        let (kv, place) = version?;
        let is_last = || last.get(&kv.key).is_some_and(|(revision, _)| *revision == kv.mod_revision);
        let counts = kv.mod_revision > compacted || !any_left || is_last();
        if kv.mod_revision > upper || !counts {
            continue;
        }
        let (key, value) = schema::row(kv, place, &mut buffer).map_err(|_| SnapshotError::Changed)?;
        hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value);
    }
    Ok(HashKv { hash, hash_revision: upper, compact_revision: if compacted == 0 { -1 } else { compacted } })
}
