//! The applied state on disk: a redb database of versions by (revision, sub), leases, and one record that says how far the log is in it. Each save is
//! one transaction, so a crash leaves the checkpoint before it or after it.

use std::io;
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, StorageBackend, TableDefinition, WriteTransaction};

use crate::codec::{DecodeError, Reader, put_bytes, put_int, put_uint};
use crate::disk::{File, Files, is_full};
use crate::index::Version;
use crate::kv::{KvError, Revision};
use crate::lease::LeaseRecord;
use crate::state::Extras;

const NAME: &str = "checkpoint.redb";
const NEW: &str = "checkpoint.tmp";
const FORMAT: u64 = 1;
/// redb's page cache; values live in the engine's memory, so the checkpoint is read only at start.
const CACHE_BYTES: usize = 4 << 20;

const VERSIONS: TableDefinition<(i64, u32), &[u8]> = TableDefinition::new("versions");
const LEASES: TableDefinition<i64, &[u8]> = TableDefinition::new("leases");
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const EXTRAS: TableDefinition<&str, &[u8]> = TableDefinition::new("extras");

/// How far the checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub store: u64,
    /// Last log record that is in it.
    pub applied_index: u64,
    pub revision: Revision,
    pub compact_revision: Revision,
}

/// Everything that a checkpoint holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub meta: Meta,
    pub leases: Vec<LeaseRecord>,
    pub extras: Extras,
    /// In the order of (revision, sub).
    pub versions: Vec<Version>,
}

pub(crate) struct Checkpoint {
    files: Arc<dyn Files>,
    /// Closed after a failure, since redb wants to be opened again then.
    database: Option<Database>,
}

impl Checkpoint {
    /// Opens the checkpoint and reads it whole; `None` when there is none yet.
    pub fn open(files: Arc<dyn Files>) -> Result<(Self, Option<Loaded>), KvError> {
        let mut checkpoint = Self { files, database: None };
        let names = checkpoint.files.list().map_err(|error| checkpoint.failure(&error.into()))?;
        if names.iter().any(|name| name == NEW) {
            checkpoint.files.remove(NEW).map_err(|error| checkpoint.failure(&error.into()))?;
        }
        if !names.iter().any(|name| name == NAME) {
            return Ok((checkpoint, None));
        }
        let loaded = checkpoint.load()?;
        Ok((checkpoint, Some(loaded)))
    }

    /// Adds `versions` and takes over everything else; durable on return.
    pub fn save(&mut self, meta: &Meta, leases: &[LeaseRecord], extras: &Extras, versions: &[Arc<Version>]) -> Result<(), KvError> {
        self.change(|write| {
            let mut table = write.open_table(VERSIONS)?;
            let mut bytes = Vec::new();
            for version in versions {
                encode_version(&mut bytes, version);
                table.insert((version.mod_revision, version.sub), &bytes[..])?;
            }
            write.delete_table(LEASES)?;
            let mut table = write.open_table(LEASES)?;
            for lease in leases {
                bytes.clear();
                put_uint(&mut bytes, lease.ttl_ms);
                put_uint(&mut bytes, lease.checkpoint_ms);
                seal(&mut bytes, lease.id as u64);
                table.insert(lease.id, &bytes[..])?;
            }
            write.delete_table(EXTRAS)?;
            let mut table = write.open_table(EXTRAS)?;
            for (name, section) in extras {
                bytes.clear();
                bytes.extend_from_slice(section);
                seal(&mut bytes, u64::from(crc32c::crc32c(name.as_bytes())));
                table.insert(&name[..], &bytes[..])?;
            }
            write.open_table(META)?.insert("meta", &encode_meta(meta)[..])?;
            Ok(())
        })
    }

    /// Removes versions that nobody can see any more.
    pub fn remove(&mut self, versions: &[Arc<Version>]) -> Result<(), KvError> {
        self.change(|write| {
            let mut table = write.open_table(VERSIONS)?;
            for version in versions {
                table.remove((version.mod_revision, version.sub))?;
            }
            Ok(())
        })
    }

    pub fn size_bytes(&self) -> u64 {
        self.files.open(NAME).and_then(|file| file.len()).unwrap_or(0)
    }

    fn change(&mut self, change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), KvError> {
        match guarded(|| self.try_change(change)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                self.close();
                Err(self.failure(&error))
            }
            Err(panic) => {
                self.close();
                Err(self.corrupt(&panic))
            }
        }
    }

    fn close(&mut self) {
        let database = self.database.take();
        if let Err(panic) = guarded(|| drop(database)) {
            tracing::warn!(panic, "the checkpoint was not closed well");
        }
    }

    fn try_change(&mut self, change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error>) -> Result<(), redb::Error> {
        let new = self.database.is_none() && !self.files.list()?.iter().any(|name| name == NAME);
        let database = match &mut self.database {
            Some(database) => database,
            none => none.insert(open_database(if new { self.files.create(NEW, 0)? } else { self.files.open(NAME)? })?),
        };
        let mut write = database.begin_write()?;
        // A start after a crash then need not walk the whole file.
        write.set_quick_repair(true);
        change(&write)?;
        write.commit()?;
        if new {
            // The file appears under its name only when a first checkpoint is complete in it.
            self.files.rename(NEW, NAME)?;
            self.files.sync()?;
        }
        Ok(())
    }

    fn load(&mut self) -> Result<Loaded, KvError> {
        let file = self.files.open(NAME).map_err(|error| self.failure(&error.into()))?;
        let loaded = guarded(|| {
            let database = self.database.insert(open_database(file)?);
            read_all(database)
        });
        match loaded {
            Ok(Ok(loaded)) => Ok(loaded),
            Ok(Err(ReadError::Redb(error))) => Err(self.failure(&error)),
            Ok(Err(ReadError::Damaged(what))) => Err(self.corrupt(&what)),
            Err(panic) => Err(self.corrupt(&panic)),
        }
    }

    fn failure(&self, error: &redb::Error) -> KvError {
        match error {
            redb::Error::Io(error) if is_full(error) => KvError::NoSpace,
            redb::Error::Io(error) if error.kind() != io::ErrorKind::InvalidData => {
                KvError::Unavailable(format!("the checkpoint {} cannot be read or written: {error}", self.files.path(NAME)))
            }
            other => self.corrupt(&other.to_string()),
        }
    }

    fn corrupt(&self, reason: &str) -> KvError {
        KvError::Corrupt(format!(
            "the checkpoint {} is damaged: {reason}. Nothing was changed. Check the disk, then restore this data folder from a snapshot or backup, \
             or copy it from another member",
            self.files.path(NAME)
        ))
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.close();
    }
}

/// redb reads most pages without checking them and panics on what cannot be: here that is an error like others.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "its pages contradict each other".into())
    })
}

enum ReadError {
    Redb(redb::Error),
    Damaged(String),
}

impl<E: Into<redb::Error>> From<E> for ReadError {
    fn from(error: E) -> Self {
        Self::Redb(error.into())
    }
}

fn damaged(what: &str, error: &DecodeError) -> ReadError {
    ReadError::Damaged(format!("{what}: {error}"))
}

fn open_database(file: Box<dyn File>) -> Result<Database, redb::Error> {
    Ok(Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(Backend(file))?)
}

fn read_all(database: &Database) -> Result<Loaded, ReadError> {
    let read = database.begin_read()?;
    let record = read.open_table(META)?.get("meta")?;
    let record = record.ok_or_else(|| ReadError::Damaged("it has no record of how far it is".into()))?;
    let meta = decode_meta(record.value()).map_err(|error| damaged("the record of how far it is", &error))?;
    let mut leases = Vec::new();
    for entry in read.open_table(LEASES)?.iter()? {
        let (id, bytes) = entry?;
        leases.push(decode_lease(id.value(), bytes.value()).map_err(|error| damaged(&format!("lease {}", id.value()), &error))?);
    }
    let mut extras = Extras::new();
    for entry in read.open_table(EXTRAS)?.iter()? {
        let (name, bytes) = entry?;
        let place = u64::from(crc32c::crc32c(name.value().as_bytes()));
        let section = unseal(bytes.value(), place).map_err(|error| damaged(&format!("section {}", name.value()), &error))?;
        extras.push((name.value().to_owned(), section.0.to_vec()));
    }
    let table = read.open_table(VERSIONS)?;
    let mut versions: Vec<Version> = Vec::new();
    for entry in table.iter()? {
        let (key, bytes) = entry?;
        let (revision, sub) = key.value();
        if versions.last().is_some_and(|last| (last.mod_revision, last.sub) >= (revision, sub)) {
            return Err(ReadError::Damaged(format!("change {sub} of revision {revision} is out of order")));
        }
        let version = decode_version(revision, sub, bytes.value());
        versions.push(version.map_err(|error| damaged(&format!("change {sub} of revision {revision}"), &error))?);
    }
    if table.len()? != versions.len() as u64 {
        return Err(ReadError::Damaged(format!("it has {} versions and should have {}", versions.len(), table.len()?)));
    }
    Ok(Loaded { meta, leases, extras, versions })
}

/// Appends a checksum that also covers the place where the bytes belong.
fn seal(bytes: &mut Vec<u8>, place: u64) {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&place.to_le_bytes()), bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

fn unseal(bytes: &[u8], place: u64) -> Result<Reader<'_>, DecodeError> {
    let (body, crc) = bytes.split_last_chunk::<4>().ok_or(DecodeError("it is too short"))?;
    if crc32c::crc32c_append(crc32c::crc32c(&place.to_le_bytes()), body) != u32::from_le_bytes(*crc) {
        return Err(DecodeError("its checksum is wrong"));
    }
    Ok(Reader(body))
}

fn place(revision: Revision, sub: u32) -> u64 {
    (revision as u64).rotate_left(32) ^ u64::from(sub)
}

fn encode_version(bytes: &mut Vec<u8>, version: &Version) {
    bytes.clear();
    put_bytes(bytes, &version.key);
    put_bytes(bytes, &version.value);
    put_int(bytes, version.create_revision);
    put_int(bytes, version.version);
    put_int(bytes, version.lease);
    seal(bytes, place(version.mod_revision, version.sub));
}

fn decode_version(mod_revision: Revision, sub: u32, bytes: &[u8]) -> Result<Version, DecodeError> {
    let mut reader = unseal(bytes, place(mod_revision, sub))?;
    let version = Version {
        key: reader.bytes()?,
        value: reader.bytes()?,
        create_revision: reader.int()?,
        mod_revision,
        version: reader.int()?,
        lease: reader.int()?,
        sub,
    };
    reader.end()?;
    Ok(version)
}

fn decode_lease(id: i64, bytes: &[u8]) -> Result<LeaseRecord, DecodeError> {
    let mut reader = unseal(bytes, id as u64)?;
    let record = LeaseRecord { id, ttl_ms: reader.uint()?, checkpoint_ms: reader.uint()? };
    reader.end()?;
    Ok(record)
}

fn encode_meta(meta: &Meta) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_uint(&mut bytes, FORMAT);
    put_uint(&mut bytes, meta.store);
    put_uint(&mut bytes, meta.applied_index);
    put_int(&mut bytes, meta.revision);
    put_int(&mut bytes, meta.compact_revision);
    seal(&mut bytes, 0);
    bytes
}

fn decode_meta(bytes: &[u8]) -> Result<Meta, DecodeError> {
    let mut reader = unseal(bytes, 0)?;
    if reader.uint()? > FORMAT {
        return Err(DecodeError("a newer version wrote it, use that version"));
    }
    let meta = Meta { store: reader.uint()?, applied_index: reader.uint()?, revision: reader.int()?, compact_revision: reader.int()? };
    reader.end()?;
    Ok(meta)
}

/// Our files under redb, so that the simulator's disk is under it too.
struct Backend(Box<dyn File>);

impl std::fmt::Debug for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Backend")
    }
}

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }
}
