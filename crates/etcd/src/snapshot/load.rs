//! A database file of etcd, opened and understood: its checksum, its pages, its rows. Changes nothing.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bbolt::{Bucket, Database, Entry, Value};
use bytes::Bytes;
use prost::Message;
use store::{Alarms, AuthRecord, KeyValue, LeaseRecord, Revision};

use super::auth::Buckets;
use super::schema::{self, Lease};
use super::{SnapshotError, Status};

/// The length of the checksum behind the last page.
const SHA256_BYTES: u64 = 32;
/// Pages are a multiple of this, so that a rest is the checksum.
const SECTOR_BYTES: u64 = 512;
const READ_BYTES: usize = 1 << 16;

/// Whether a file of this length ends in a checksum.
fn has_checksum(len: u64) -> bool {
    len % SECTOR_BYTES == SHA256_BYTES
}

/// Refuses a file whose content is not what its checksum says (etcdutl/snapshot/v3_snapshot.go).
pub fn verify(path: &Path, skip: bool) -> Result<(), SnapshotError> {
    let failed = |source| SnapshotError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let len = file.metadata().map_err(failed)?.len();
    if skip {
        return Ok(());
    }
    if !has_checksum(len) {
        return Err(SnapshotError::NoHash);
    }
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut buffer = vec![0; READ_BYTES];
    let mut rest = len - SHA256_BYTES;
    while rest > 0 {
        let part = &mut buffer[..READ_BYTES.min(usize::try_from(rest).unwrap_or(READ_BYTES))];
        file.read_exact(part).map_err(failed)?;
        digest.update(part);
        rest -= part.len() as u64;
    }
    let mut expected = [0; SHA256_BYTES as usize];
    file.read_exact(&mut expected).map_err(failed)?;
    let found = digest.finish();
    if found.as_ref() == expected { Ok(()) } else { Err(SnapshotError::Hash { expected: bytes(&expected), found: bytes(found.as_ref()) }) }
}

/// Bytes as Go prints them.
fn bytes(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(" "))
}

/// etcd's database in a file.
pub struct Snapshot {
    database: Database,
    shown: String,
}

impl Snapshot {
    pub fn open(path: &Path) -> Result<Self, SnapshotError> {
        let file = File::open(path).map_err(|source| SnapshotError::Io { path: path.to_owned(), source })?;
        Ok(Self { database: Database::new(file)?, shown: path.display().to_string() })
    }

    /// Looks at all of the file, its pages first.
    pub fn status(&self) -> Result<Status, SnapshotError> {
        let faults = self.database.check()?;
        if !faults.is_empty() {
            return Err(SnapshotError::Integrity(faults));
        }
        let mut status = Status { hash: 0, revision: 0, total_key: 0, total_size: self.database.size_bytes() };
        for bucket in self.database.root().entries() {
            let Entry { key: name, value } = bucket?;
            let Value::Bucket(bucket) = value else {
                return Err(SnapshotError::NotABucket(String::from_utf8_lossy(&name).into_owned()));
            };
            status.hash = crc32c::crc32c_append(status.hash, &name);
            for entry in bucket.entries() {
                let Entry { key, value } = entry?;
                status.hash = crc32c::crc32c_append(status.hash, &key);
                if let Value::Bytes(value) = &value {
                    status.hash = crc32c::crc32c_append(status.hash, value);
                }
                if name == schema::KEY {
                    status.revision =
                        schema::parse_revision_key(&key).ok_or_else(|| self.fault(schema::KEY, &key, "its key is no revision"))?.0;
                }
                status.total_key += 1;
            }
        }
        Ok(status)
    }

    fn fault(&self, bucket: &[u8], key: &[u8], reason: &'static str) -> SnapshotError {
        let bucket = String::from_utf8_lossy(bucket).into_owned();
        SnapshotError::Row { file: self.shown.clone(), bucket, key: key.escape_ascii().to_string(), reason }
    }

    /// A bucket that may be absent.
    fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_>>, SnapshotError> {
        Ok(self.database.root().bucket(name)?)
    }

    /// All of a bucket that is small.
    fn entries(&self, name: &[u8]) -> Result<Vec<(Bytes, Bytes)>, SnapshotError> {
        let Some(bucket) = self.bucket(name)? else { return Ok(Vec::new()) };
        let mut entries = Vec::new();
        for entry in bucket.entries() {
            let Entry { key, value } = entry?;
            let Value::Bytes(value) = value else { return Err(self.fault(name, &key, "it is a bucket")) };
            entries.push((key, value));
        }
        Ok(entries)
    }

    fn value(&self, bucket: &[u8], key: &[u8]) -> Result<Option<Bytes>, SnapshotError> {
        Ok(self.bucket(bucket)?.map(|bucket| bucket.get(key)).transpose()?.flatten())
    }

    /// Up to where the keys are compacted; 0: not at all. A compaction that was begun counts: etcd would end it when it starts.
    pub fn compact_revision(&self) -> Result<Revision, SnapshotError> {
        let mut compacted = 0;
        for name in [schema::SCHEDULED_COMPACT, schema::FINISHED_COMPACT] {
            if let Some(value) = self.value(schema::META, name)? {
                let (revision, ..) =
                    schema::parse_revision_key(&value).ok_or_else(|| self.fault(schema::META, name, "its value is no revision"))?;
                compacted = compacted.max(revision);
            }
        }
        Ok(compacted)
    }

    /// The revision of the newest row; 1 for a store that was never written to.
    pub fn revision(&self) -> Result<Revision, SnapshotError> {
        let bucket = self.bucket(schema::KEY)?.ok_or(SnapshotError::NoKeys)?;
        let Some(key) = bucket.last_key()? else { return Ok(1) };
        Ok(schema::parse_revision_key(&key).ok_or_else(|| self.fault(schema::KEY, &key, "its key is no revision"))?.0)
    }

    pub fn leases(&self) -> Result<Vec<LeaseRecord>, SnapshotError> {
        let mut leases = Vec::new();
        for (key, value) in self.entries(schema::LEASE)? {
            let lease = Lease::decode(value).map_err(|_| self.fault(schema::LEASE, &key, "its value is no lease"))?;
            if key != Lease::key(lease.id) {
                return Err(self.fault(schema::LEASE, &key, "its value is another lease"));
            }
            leases.push(lease.to_record().map_err(|reason| self.fault(schema::LEASE, &key, reason))?);
        }
        Ok(leases)
    }

    pub fn auth(&self) -> Result<AuthRecord, SnapshotError> {
        let buckets = Buckets {
            auth: self.entries(schema::AUTH)?,
            users: self.entries(schema::AUTH_USERS)?,
            roles: self.entries(schema::AUTH_ROLES)?,
        };
        buckets.to_record().map_err(|(bucket, key, reason)| self.fault(bucket, &key, reason))
    }

    pub fn alarms(&self) -> Result<Alarms, SnapshotError> {
        let alarms = self
            .entries(schema::ALARM)?
            .into_iter()
            .map(|(key, _)| schema::parse_alarm_key(&key).ok_or_else(|| self.fault(schema::ALARM, &key, "it is no alarm")));
        Ok(Alarms(alarms.collect::<Result<_, _>>()?))
    }

    /// Every version with its place in its revision, in their order.
    pub fn versions(&self) -> Result<impl Iterator<Item = Result<(KeyValue, u32), SnapshotError>> + '_, SnapshotError> {
        let bucket = self.bucket(schema::KEY)?.ok_or(SnapshotError::NoKeys)?;
        Ok(bucket.entries().filter_map(|entry| self.version(entry).transpose()))
    }

    fn version(&self, entry: Result<Entry<'_>, bbolt::Error>) -> Result<Option<(KeyValue, u32)>, SnapshotError> {
        let Entry { key, value } = entry?;
        let Value::Bytes(value) = value else { return Err(self.fault(schema::KEY, &key, "it is a bucket")) };
        schema::parse_row(&key, value).map_err(|reason| self.fault(schema::KEY, &key, reason))
    }
}
