//! Snapshot files in etcd's own format: what one holds, and a data folder made from one. Works on files of etcd 3.4 and 3.5 and on ours, which are the
//! same. Must never change the file that it reads, nor a data folder that is not empty.

mod auth;
mod hash;
mod load;
mod restore;
pub(crate) mod save;
pub(crate) mod schema;
pub(crate) mod stream;

use std::path::{Path, PathBuf};

use store::KvError;

pub use self::hash::{HashKv, hash_kv};
use crate::OptionsError;

/// What a cluster of our version agrees on.
const CLUSTER_VERSION: &str = "3.5.0";

/// What `etcdctl snapshot status` prints about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over the names, keys and values of all buckets in order.
    pub hash: u32,
    /// Revision of the newest change.
    pub revision: i64,
    /// Keys of all buckets, not only etcd's own.
    pub total_key: u64,
    /// Bytes in pages.
    pub total_size: u64,
}

/// How a data folder is made from a file. The defaults are those of `etcdctl snapshot restore`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoreOptions {
    pub name: String,
    /// `NAME.etcd` when absent. Must be empty or not be there.
    pub data_dir: Option<PathBuf>,
    /// `NAME=URL,NAME=URL`.
    pub initial_cluster: String,
    pub initial_cluster_token: String,
    /// URLs, parted by commas.
    pub initial_advertise_peer_urls: String,
    /// Takes a file without its checksum, as one copied from `member/snap/db` of a stopped etcd.
    pub skip_hash_check: bool,
    /// Added to the revision, so that it is above all that clients of the old cluster have seen.
    pub bump_revision: u64,
    /// Marks everything up to the new revision compacted, so that watches of old clients end. Wanted together with `bump_revision`.
    pub mark_compacted: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        Self {
            name: "default".into(),
            data_dir: None,
            initial_cluster: "default=http://localhost:2380".into(),
            initial_cluster_token: "etcd-cluster".into(),
            initial_advertise_peer_urls: "http://localhost:2380".into(),
            skip_hash_check: false,
            bump_revision: 0,
            mark_compacted: false,
        }
    }
}

/// Why a snapshot file cannot be used; the texts are etcdctl's where it has some.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error(transparent)]
    Stream(#[from] std::io::Error),
    #[error(transparent)]
    File(#[from] bbolt::Error),
    #[error("snapshot missing hash but --skip-hash-check=false")]
    NoHash,
    #[error("expected sha256 {expected}, got {found}")]
    Hash { expected: String, found: String },
    #[error("snapshot file integrity check failed. {count} errors found.\n{faults}", count = .0.len(), faults = .0.join("\n"))]
    Integrity(Vec<String>),
    #[error("cannot get hash of bucket {0}")]
    NotABucket(String),
    #[error("the file has no bucket \"key\": it is not a database of etcd v3")]
    NoKeys,
    #[error("{file}: bucket {bucket}, row {key}: {reason}")]
    Row { file: String, bucket: String, key: String, reason: &'static str },
    #[error("data-dir {0:?} not empty or could not be read")]
    NotEmpty(PathBuf),
    #[error("--mark-compacted required if --revision-bump")]
    BumpAlone,
    #[error("the revision would be beyond what a store can count on from")]
    RevisionTooLarge,
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("{0}")]
    Identity(String),
    #[error(transparent)]
    Store(#[from] KvError),
    #[error("a member cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the store gave other versions when it was read again")]
    Changed,
    #[error("revision {revision} cannot be hashed: the file has {compacted} to {newest}")]
    NoRevision { revision: i64, compacted: i64, newest: i64 },
}

/// Reads the whole file and checks how its pages hang together. Blocks.
pub fn status(file: &Path) -> Result<Status, SnapshotError> {
    load::Snapshot::open(file)?.status()
}

/// Makes the data folder of a new member of a new cluster, with what `file` holds. Blocks.
pub fn restore(file: &Path, options: &RestoreOptions) -> Result<(), SnapshotError> {
    restore::restore(file, options)
}
