//! Whole states between members. Out: a view of the checkpoint as checked chunks. In: chunks into one file, and when Raft says so that file becomes the state.
//!
//! A state is replaced in steps that a crash may part: the file is complete and synced; then the log says that the state up to its index comes from it; then
//! the checkpoint is made anew from it in one step. Recovery goes on where that stopped.
//!
//! A chunk is a CRC32C and: 0 | message | revision | compacted | leases | sections, or 1 | versions, or 2 | number of versions (the end).

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use raft::eraftpb::{Message, MessageType, Snapshot};
use tokio::sync::oneshot;

use super::cluster::{Cluster, SECTION};
use super::member::Input;
use super::records::conf_to_raft;
use super::serve::{Handle, Receiving};
use super::{OutgoingSnapshot, Transport, message};
use crate::checkpoint::{Checkpoint, Meta, Saved, View};
use crate::codec::{DecodeError, Reader, put_bytes, put_int, put_uint};
use crate::disk::{File, Files, is_full};
use crate::engine::closed;
use crate::export::SnapshotReader;
use crate::keeper::Keeper;
use crate::kv::{KeyValue, KvError, Revision};
use crate::lease::LeaseRecord;
use crate::options::EngineOptions;
use crate::planted::planted;
use crate::recovery;
use crate::state::Extras;
use crate::watch::Shared;

const INCOMING: &str = "incoming.tmp";
/// A view that nobody has taken for so long is let go: it keeps old files alive.
const VIEW_MS: u64 = 600_000;
/// No honest chunk is larger.
const CHUNK_BYTES: usize = 64 << 20;

/// A state that has come whole.
#[derive(Debug)]
pub(crate) struct Incoming {
    message: Message,
    reply: Option<oneshot::Sender<Result<(), KvError>>>,
}

impl Incoming {
    pub fn new(message: Message, reply: oneshot::Sender<Result<(), KvError>>) -> Self {
        Self { message, reply: Some(reply) }
    }

    pub fn refuse(self, error: &KvError) {
        if let Some(reply) = self.reply {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

struct Made {
    view: View,
    snapshot: Snapshot,
    since_ms: u64,
}

pub(super) struct Snapshots {
    files: Arc<dyn Files>,
    keeper: Arc<Mutex<Keeper>>,
    options: EngineOptions,
    /// A member wants a snapshot.
    wanted: bool,
    /// A view was asked for and has not come.
    asked: bool,
    made: Option<Made>,
    incoming: Option<Incoming>,
    /// Who was to get a snapshot that was no longer there.
    failed: Vec<u64>,
}

impl Snapshots {
    pub fn new(files: Arc<dyn Files>, keeper: Arc<Mutex<Keeper>>, options: EngineOptions) -> Self {
        Self { files, keeper, options, wanted: false, asked: false, made: None, incoming: None, failed: Vec::new() }
    }

    pub fn want(&mut self) {
        self.wanted = true;
    }

    /// Whether a view must be made for a member that wants a snapshot; said once.
    pub fn take_request(&mut self) -> bool {
        std::mem::take(&mut self.wanted) && !std::mem::replace(&mut self.asked, true)
    }

    /// What can be offered now, from a view that was asked for.
    pub fn made(&mut self, view: Result<View, KvError>, now_ms: u64) -> Option<Snapshot> {
        self.asked = false;
        let made = view.and_then(|view| {
            let mut snapshot = describe(&view.saved)?;
            if planted!(SnapshotAheadOfContent) {
                snapshot.mut_metadata().index += 1;
            }
            Ok(Made { view, snapshot, since_ms: now_ms })
        });
        match made {
            Ok(made) => {
                let snapshot = made.snapshot.clone();
                self.made = Some(made);
                Some(snapshot)
            }
            Err(error) => {
                tracing::warn!(%error, "a snapshot for another member could not be made");
                None
            }
        }
    }

    /// Lets go of what nobody takes; returns whether something was.
    pub fn tidy(&mut self, now_ms: u64) -> bool {
        self.made.take_if(|made| now_ms >= made.since_ms + VIEW_MS).is_some()
    }

    pub fn send(&mut self, message: &Message, transport: &dyn Transport) {
        let made = self.made.as_ref().filter(|made| made.snapshot.get_metadata().index == message.get_snapshot().get_metadata().index);
        let (Some(made), Some(encoded)) = (made, message::encode(message)) else {
            self.failed.push(message.to);
            return;
        };
        tracing::info!(
            to = format_args!("{:x}", message.to),
            index = made.view.saved.meta.applied_index,
            "a member is far behind: it gets a snapshot"
        );
        transport.send_snapshot(message.to, outgoing(made.view.clone(), encoded));
    }

    pub fn take_failed(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.failed)
    }

    /// A state came whole: the message that tells Raft so.
    pub fn came(&mut self, incoming: Incoming) -> Message {
        let message = incoming.message.clone();
        self.incoming = Some(incoming);
        message
    }

    /// Makes what came the state of this member. The log already says so.
    pub fn install(&mut self, shared: &Shared, index: u64, now_ms: u64) -> Result<(), KvError> {
        let mut keeper = self.keeper.lock();
        let store = keeper.saved.store;
        import(&self.files, &mut keeper.checkpoint, store, index)?;
        let (mut checkpoint, loaded) = Checkpoint::open(self.files.clone(), self.options.checkpoint_wal_bytes)?;
        let saved = loaded.as_ref().map(|loaded| loaded.saved.meta);
        let mut new = recovery::restore(&mut checkpoint, loaded, self.options.value_cache_bytes, now_ms)?;
        std::mem::swap(&mut checkpoint.pace, &mut keeper.checkpoint.pace);
        keeper.checkpoint = checkpoint;
        keeper.saved = saved.ok_or_else(|| KvError::Internal("a checkpoint is gone that was just made".into()))?;
        let mut state = shared.state.write();
        new.auth.keep_settings(&state.auth);
        *state = new;
        // Whoever watches goes on from the history of the new state.
        let revision = state.revision;
        let watchers = shared.hub.lock();
        drop(state);
        if !planted!(WatchLostOnSnapshot) {
            shared.hub.rebase(watchers, revision);
        }
        self.made = None;
        Ok(())
    }

    /// Nothing will come of what came, at least not in this life.
    pub fn refuse_incoming(&mut self, error: &KvError) {
        if let Some(incoming) = self.incoming.take() {
            incoming.refuse(error);
        }
    }

    /// Raft has taken what came, or had no use for it.
    pub fn forget_incoming(&mut self) -> Result<(), KvError> {
        let Some(incoming) = self.incoming.take() else { return Ok(()) };
        self.files.remove(INCOMING).map_err(|error| failure(&*self.files, &error))?;
        if let Some(reply) = incoming.reply {
            let _ = reply.send(Ok(()));
        }
        Ok(())
    }
}

/// What Raft must know of a saved state.
fn describe(saved: &Saved) -> Result<Snapshot, KvError> {
    let (_, section) = saved
        .extras
        .iter()
        .find(|(name, _)| name == SECTION)
        .ok_or_else(|| KvError::Internal("a saved state of a member has no members".into()))?;
    let cluster = Cluster::decode(section).map_err(|error| KvError::Corrupt(format!("the section of members: {error}")))?;
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    metadata.index = saved.meta.applied_index;
    metadata.term = cluster.term;
    metadata.set_conf_state(conf_to_raft(&cluster.conf));
    Ok(snapshot)
}

fn outgoing(mut view: View, message: Bytes) -> OutgoingSnapshot {
    view.rewind();
    let size_hint = view.size_bytes();
    let mut head = vec![0; 4];
    head.push(0);
    put_bytes(&mut head, &message);
    put_int(&mut head, view.saved.meta.revision);
    put_int(&mut head, view.saved.meta.compact_revision);
    put_uint(&mut head, view.saved.leases.len() as u64);
    for lease in &view.saved.leases {
        put_int(&mut head, lease.id);
        put_uint(&mut head, lease.ttl_ms);
        put_uint(&mut head, lease.checkpoint_ms);
    }
    put_uint(&mut head, view.saved.extras.len() as u64);
    for (name, section) in &view.saved.extras {
        put_bytes(&mut head, name.as_bytes());
        put_bytes(&mut head, section);
    }
    let mut reader = SnapshotReader::saved(view);
    let mut head = Some(head);
    let mut count = 0u64;
    let mut over = false;
    let chunks = std::iter::from_fn(move || {
        if over {
            return None;
        }
        if let Some(head) = head.take() {
            return Some(Ok(seal(head)));
        }
        let mut chunk = vec![0; 4];
        match reader.next_batch() {
            Err(error) => {
                over = true;
                return Some(Err(error));
            }
            Ok(None) => {
                over = true;
                chunk.push(2);
                put_uint(&mut chunk, count);
            }
            Ok(Some(batch)) => {
                count += batch.len() as u64;
                chunk.push(1);
                put_uint(&mut chunk, batch.len() as u64);
                batch.iter().for_each(|(version, sub)| put_version(&mut chunk, version, *sub));
            }
        }
        Some(Ok(seal(chunk)))
    });
    OutgoingSnapshot { size_hint, chunks: Box::new(chunks) }
}

fn put_version(chunk: &mut Vec<u8>, version: &KeyValue, sub: u32) {
    put_bytes(chunk, &version.key);
    put_bytes(chunk, &version.value);
    for value in [version.create_revision, version.mod_revision, version.version, version.lease, i64::from(sub)] {
        put_int(chunk, value);
    }
}

fn read_version(reader: &mut Reader<'_>) -> Result<(KeyValue, u32), DecodeError> {
    let version = KeyValue {
        key: reader.bytes()?,
        value: reader.bytes()?,
        create_revision: reader.int()?,
        mod_revision: reader.int()?,
        version: reader.int()?,
        lease: reader.int()?,
    };
    let sub = u32::try_from(reader.int()?).map_err(|_| DecodeError("a place beyond all"))?;
    Ok((version, sub))
}

/// Fills in the checksum that the first four bytes are left for.
fn seal(mut chunk: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&chunk[4..]);
    chunk[..4].copy_from_slice(&crc.to_le_bytes());
    chunk.into()
}

struct Head {
    message: Bytes,
    revision: Revision,
    compact_revision: Revision,
    leases: Vec<LeaseRecord>,
    extras: Extras,
}

enum Chunk {
    Head(Head),
    Versions(Vec<(KeyValue, u32)>),
    End(u64),
}

fn open_chunk(chunk: &[u8]) -> Result<Chunk, DecodeError> {
    let (crc, body) = chunk.split_first_chunk::<4>().ok_or(DecodeError("a chunk is too short"))?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
        return Err(DecodeError("the checksum of a chunk is wrong"));
    }
    let mut reader = Reader(body);
    let chunk = match reader.byte()? {
        0 => Chunk::Head(Head {
            message: reader.bytes()?,
            revision: reader.int()?,
            compact_revision: reader.int()?,
            leases: reader.list(|reader| Ok(LeaseRecord { id: reader.int()?, ttl_ms: reader.uint()?, checkpoint_ms: reader.uint()? }))?,
            extras: reader.list(|reader| {
                let name = String::from_utf8(reader.slice()?.to_vec()).map_err(|_| DecodeError("a section's name is no text"))?;
                Ok((name, reader.slice()?.to_vec()))
            })?,
        }),
        1 => Chunk::Versions(reader.list(read_version)?),
        2 => Chunk::End(reader.uint()?),
        _ => return Err(DecodeError("an unknown chunk")),
    };
    reader.end()?;
    Ok(chunk)
}

fn failure(files: &dyn Files, error: &std::io::Error) -> KvError {
    if is_full(error) { KvError::NoSpace } else { KvError::Unavailable(format!("{} cannot be used: {error}", files.path(INCOMING))) }
}

/// Takes what a peer sends into one file, checked and synced; returns the message about it. Blocks on the disk and on the network.
pub(crate) fn receive(
    files: &dyn Files,
    from: u64,
    to: u64,
    chunks: &mut dyn Iterator<Item = Result<Bytes, KvError>>,
) -> Result<Message, KvError> {
    let cannot = |error: std::io::Error| failure(files, &error);
    let file = files.create(INCOMING, 0).map_err(cannot)?;
    let result = receive_into(&*file, chunks, cannot).and_then(|head| {
        files.sync().map_err(cannot)?;
        let message =
            message::decode(&head, to).map_err(|error| KvError::Internal(format!("a snapshot with a message that is none: {error}")))?;
        let fits = message.get_msg_type() == MessageType::MsgSnapshot && message.from == from;
        if fits { Ok(message) } else { Err(KvError::Internal("a snapshot with a message about something else".into())) }
    });
    if result.is_err() {
        drop(file);
        files.remove(INCOMING).map_err(cannot)?;
    }
    result
}

fn receive_into(
    file: &dyn File,
    chunks: &mut dyn Iterator<Item = Result<Bytes, KvError>>,
    cannot: impl Fn(std::io::Error) -> KvError,
) -> Result<Bytes, KvError> {
    let bad = |error: &str| KvError::Unavailable(format!("a snapshot came damaged: {error}"));
    let (mut offset, mut count, mut head, mut whole) = (0, 0, None, false);
    for chunk in chunks {
        let chunk = chunk?;
        if whole || chunk.len() > CHUNK_BYTES {
            return Err(bad("it goes on after its end, or a chunk is too large"));
        }
        match open_chunk(&chunk).map_err(|error| bad(error.0))? {
            Chunk::Head(found) if head.is_none() => head = Some(found.message),
            Chunk::Versions(versions) if head.is_some() => count += versions.len() as u64,
            Chunk::End(all) if head.is_some() && all == count => whole = true,
            _ => return Err(bad("its chunks are not in order")),
        }
        let length = u32::try_from(chunk.len()).map_err(|_| bad("a chunk is too large"))?;
        file.write_at(offset, &length.to_le_bytes()).and_then(|()| file.write_at(offset + 4, &chunk)).map_err(&cannot)?;
        offset += 4 + u64::from(length);
    }
    file.sync().map_err(&cannot)?;
    head.filter(|_| whole).ok_or_else(|| bad("it ends too early"))
}

/// `receive`, then the member's loop decides what becomes of it.
pub(super) fn receive_for(member: &Handle, from: u64, chunks: &mut dyn Iterator<Item = Result<Bytes, KvError>>) -> Result<(), KvError> {
    let _receiving = Receiving::begin(&member.receiving)?;
    let message = receive(&*member.files, from, member.options.member_id, chunks)?;
    let (reply, answer) = oneshot::channel();
    member.tell_surely(Input::SnapshotCame(Incoming::new(message, reply)))?;
    answer.blocking_recv().unwrap_or_else(|_| Err(closed()))
}

/// The chunks of the file, one after the other.
struct Chunks<'a> {
    files: &'a dyn Files,
    file: Box<dyn File>,
    offset: u64,
    bytes: u64,
}

impl Chunks<'_> {
    fn next(&mut self) -> Result<Option<Chunk>, KvError> {
        if self.offset >= self.bytes {
            return Ok(None);
        }
        let damaged = |reason: &str| KvError::Corrupt(format!("{} is damaged: {reason}", self.files.path(INCOMING)));
        let mut length = [0; 4];
        let read = |offset, out: &mut [u8]| self.file.read_at(offset, out).map_err(|error| failure(self.files, &error));
        read(self.offset, &mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > CHUNK_BYTES {
            return Err(damaged("a chunk is too large"));
        }
        let mut chunk = vec![0; length];
        read(self.offset + 4, &mut chunk)?;
        let opened = open_chunk(&chunk).map_err(|error| damaged(error.0))?;
        self.offset += 4 + length as u64;
        Ok(Some(opened))
    }
}

/// Makes the checkpoint anew from the file that came, which must be of this index. Done again after a crash, it does the same.
pub(super) fn import(files: &Arc<dyn Files>, checkpoint: &mut Checkpoint, store: u64, index: u64) -> Result<(), KvError> {
    let cannot = |error: std::io::Error| failure(&**files, &error);
    let file = files.open(INCOMING).map_err(cannot)?;
    let bytes = file.len().map_err(cannot)?;
    let mut chunks = Chunks { files: &**files, file, offset: 0, bytes };
    let other = || KvError::Corrupt(format!("{} is not the state up to entry {index} that the log speaks of", files.path(INCOMING)));
    let Some(Chunk::Head(head)) = chunks.next()? else { return Err(other()) };
    let message = message::decode(&head.message, 0).map_err(|_| other())?;
    if message.get_snapshot().get_metadata().index != index {
        return Err(other());
    }
    let meta = Meta { store, applied_index: index, revision: head.revision, compact_revision: head.compact_revision };
    let saved = Saved { meta, leases: head.leases, extras: head.extras };
    let mut batch = Vec::new().into_iter();
    let versions = std::iter::from_fn(|| {
        loop {
            if let Some(version) = batch.next() {
                return Some(Ok(version));
            }
            match chunks.next() {
                Ok(Some(Chunk::Versions(versions))) => batch = versions.into_iter(),
                Ok(_) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    });
    checkpoint.import(saved, versions)
}

/// Removes what came and was not needed.
pub(super) fn remove_stray(files: &dyn Files) -> Result<(), KvError> {
    let cannot = |error: std::io::Error| failure(files, &error);
    if files.list().map_err(cannot)?.iter().any(|name| name == INCOMING) {
        files.remove(INCOMING).map_err(cannot)?;
    }
    Ok(())
}
