//! The applied state on disk: segments of versions and a head, a small file that says how far the log is in them, which segments there are and which of
//! their versions are gone. A new head replaces the old one in one step, so a crash leaves the checkpoint before a save or after it.
//!
//! What of a segment the head does not name is of no account: a save adds to the last segment before its head is there.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::disk::{Files, is_full};
use crate::index::{Item, Version};
use crate::kv::{KeyValue, KvError, Revision};
use crate::lease::LeaseRecord;
use crate::segment::{Appender, Record, Segment, stored_bytes};
use crate::state::Extras;

mod head;

use head::{Dead, Head, Part};

const HEAD: &str = "checkpoint";
const HEAD_NEW: &str = "checkpoint.tmp";
/// Space that a full disk still has for a save and for what frees space.
const RESERVE: &str = "reserve.tmp";
const SUFFIX: &str = ".segment";
/// There are not many more segments than this: each is an open file.
const MAX_SEGMENTS: u64 = 128;

/// How far a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub store: u64,
    /// Last log record that is in it.
    pub applied_index: u64,
    pub revision: Revision,
    pub compact_revision: Revision,
}

/// All but the versions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub meta: Meta,
    pub leases: Vec<LeaseRecord>,
    pub extras: Extras,
}

/// Everything that a checkpoint holds.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub saved: Saved,
    /// In the order of (revision, sub); without their values.
    pub versions: Vec<Arc<Version>>,
}

/// A segment and what lives in it.
type LoadedPart = (Held, Vec<Arc<Version>>);

#[derive(Clone, Debug)]
struct Held {
    segment: Arc<Segment>,
    dead: Dead,
}

impl Held {
    fn live_bytes(&self) -> u64 {
        self.segment.bytes.saturating_sub(self.dead.bytes)
    }

    fn is_dead(&self) -> bool {
        self.dead.count == self.segment.len()
    }
}

/// Called after each block that was written, with the time that took.
pub(crate) type Pace = Box<dyn Fn(Duration) + Send + Sync>;

/// One writer, who changes it, and many readers, who hold segments of it.
pub(crate) struct Checkpoint {
    files: Arc<dyn Files>,
    /// In order.
    held: Vec<Held>,
    saved: Option<Saved>,
    next_id: u64,
    /// A segment that has reached this is not added to.
    segment_bytes: u64,
    reserve_bytes: u64,
    reserved: bool,
    /// The last segment must not be added to: it is not known which head is on the disk.
    sealed: bool,
    /// Files that no head names.
    strays: Vec<String>,
    pub pace: Pace,
}

fn name(id: u64) -> String {
    format!("{id:010}{SUFFIX}")
}

fn id_of(name: &str) -> Option<u64> {
    name.strip_suffix(SUFFIX)?.parse().ok()
}

impl Checkpoint {
    /// Opens the checkpoint and reads all but the values; `None` when there is none yet. `save_bytes` is about what one save adds.
    pub fn open(files: Arc<dyn Files>, save_bytes: u64) -> Result<(Self, Option<Loaded>), KvError> {
        let mut checkpoint = Self {
            files,
            held: Vec::new(),
            saved: None,
            next_id: 1,
            segment_bytes: 2 * save_bytes,
            reserve_bytes: 2 * save_bytes,
            reserved: false,
            sealed: false,
            strays: Vec::new(),
            pace: Box::new(|_| ()),
        };
        let names = checkpoint.files.list().map_err(|error| checkpoint.failure(&error))?;
        if names.iter().any(|name| name == "checkpoint.redb") {
            let path = checkpoint.files.path("checkpoint.redb");
            return Err(KvError::Unavailable(format!(
                "{path} was written by a version before the first release: start with an empty folder"
            )));
        }
        let loaded = if names.iter().any(|name| name == HEAD) { Some(checkpoint.load()?) } else { None };
        let is_stray = |name: &&String| id_of(name).is_some_and(|id| checkpoint.held.iter().all(|held| held.segment.id != id));
        checkpoint.strays = names.iter().filter(is_stray).cloned().collect();
        let last = names.iter().filter_map(|name| id_of(name)).max();
        checkpoint.next_id = last.map_or(1, |last| last + 1);
        Ok((checkpoint, loaded))
    }

    fn load(&mut self) -> Result<Loaded, KvError> {
        let read = || {
            let file = self.files.open(HEAD)?;
            let mut data = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
            file.read_at(0, &mut data).map(|()| data)
        };
        let data = read().map_err(|error| self.failure(&error))?;
        let Head { saved, parts } = Head::decode(&data).map_err(|error| self.corrupt(HEAD, &error.to_string()))?;
        let mut versions = Vec::new();
        for (held, mut part) in self.load_parts(&parts)? {
            let last = self.held.last().map(|held: &Held| held.segment.last());
            if last.is_some_and(|last| last >= held.segment.first()) {
                return Err(self.corrupt(&name(held.segment.id), "it is not in order with the one before it"));
            }
            versions.append(&mut part);
            self.held.push(held);
        }
        self.saved = Some(saved.clone());
        Ok(Loaded { saved, versions })
    }

    /// Reads segments in order, on two threads.
    fn load_parts(&self, parts: &[Part]) -> Result<Vec<LoadedPart>, KvError> {
        let (first, second) = parts.split_at(parts.len() / 2);
        let load = |parts: &[Part]| parts.iter().map(|part| load_part(&*self.files, part)).collect::<Result<Vec<_>, _>>();
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| load(second));
            (load(first), second.join())
        });
        let second = second.map_err(|_| KvError::Internal("a reader of the checkpoint panicked".into()))?;
        let mut all = first?;
        all.append(&mut second?);
        Ok(all)
    }

    /// Adds `versions`, which have their values, and takes over everything else; durable on return.
    pub fn save(&mut self, saved: Saved, versions: &[Item]) -> Result<(), KvError> {
        self.with_reserve(|checkpoint| checkpoint.try_save(&saved, versions))
    }

    fn try_save(&mut self, saved: &Saved, versions: &[Item]) -> Result<(), KvError> {
        let mut held = self.held.clone();
        let room = self.wanted_bytes();
        let tail = held.pop_if(|last| !self.sealed && last.segment.bytes < room);
        let mut spool = Spool::new(self, tail.as_ref().map(|tail| &tail.segment));
        for item in versions {
            let value = item.value.as_ref().ok_or_else(|| KvError::Internal("a version without its value was to be saved".into()));
            let pushed = value.and_then(|value| spool.push(&item.version.record(), value));
            if let Err(error) = pushed {
                spool.abandon();
                return Err(error);
            }
        }
        let mut segments = spool.finish()?.into_iter();
        if let Some(tail) = tail {
            let segment = segments.next().expect("the extended segment comes first");
            held.push(Held { segment: Arc::new(segment), dead: tail.dead });
        }
        held.extend(segments.map(|segment| Held { segment: Arc::new(segment), dead: Dead::default() }));
        self.replace(held, saved.clone())
    }

    /// Makes a checkpoint of what another store held. What was in this one is gone when it returns.
    pub fn import(&mut self, saved: Saved, versions: impl IntoIterator<Item = Result<(KeyValue, u32), KvError>>) -> Result<(), KvError> {
        let mut spool = Spool::new(self, None);
        for item in versions {
            let pushed = item.and_then(|(kv, sub)| {
                let record = Record {
                    revision: kv.mod_revision,
                    sub,
                    key: &kv.key,
                    create_revision: kv.create_revision,
                    version: kv.version,
                    lease: kv.lease,
                    length: 0,
                };
                spool.push(&record, &kv.value)
            });
            if let Err(error) = pushed {
                spool.abandon();
                return Err(error);
            }
        }
        let segments = spool.finish()?;
        let held = segments.into_iter().map(|segment| Held { segment: Arc::new(segment), dead: Dead::default() });
        self.replace(held.collect(), saved)
    }

    /// Counts versions as gone. The next head says so.
    pub fn bury(&mut self, versions: &[Arc<Version>]) {
        for version in versions {
            let place = (version.mod_revision, version.sub);
            let after = self.held.partition_point(|held| held.segment.first() <= place);
            let Some(held) = after.checked_sub(1).map(|at| &mut self.held[at]) else { continue };
            if let Some(number) = held.segment.find(place.0, place.1) {
                held.dead.add(number, version.key.len() as u64 + stored_bytes(version.length));
            }
        }
    }

    /// Writes what `bury` was told.
    pub fn settle(&mut self) -> Result<(), KvError> {
        let Some(saved) = self.saved.clone() else { return Ok(()) };
        self.with_reserve(|checkpoint| {
            // A segment of which nothing is left goes at once.
            let held = checkpoint.held.iter().filter(|held| !held.is_dead()).cloned().collect();
            checkpoint.replace(held, saved.clone())
        })
    }

    /// Frees the space of versions that are gone from one segment, or joins small ones; returns whether there was anything to do.
    pub fn tidy(&mut self) -> Result<bool, KvError> {
        let Some(run) = self.untidy() else { return Ok(false) };
        self.with_reserve(|checkpoint| checkpoint.rewrite(run.clone()))?;
        Ok(true)
    }

    /// Half empty segments, the emptiest first since it needs the least space; then neighbours that are small together.
    fn untidy(&self) -> Option<Range<usize>> {
        let half_empty = self.held.iter().enumerate().filter(|(_, held)| held.dead.bytes * 2 >= held.segment.bytes);
        let emptiest = half_empty.min_by_key(|(_, held)| held.live_bytes()).map(|(at, _)| at..at + 1);
        let small = self.wanted_bytes() / 2;
        emptiest.or_else(|| {
            let pair = self.held.windows(2).position(|pair| pair[0].live_bytes() + pair[1].live_bytes() <= small);
            pair.map(|at| at..at + 2)
        })
    }

    fn rewrite(&mut self, run: Range<usize>) -> Result<(), KvError> {
        let old = self.held[run.clone()].to_vec();
        let mut spool = Spool::new(self, None);
        for held in &old {
            if let Err(error) = spool.copy(held) {
                spool.abandon();
                return Err(error);
            }
        }
        let new = spool.finish()?.into_iter().map(|segment| Held { segment: Arc::new(segment), dead: Dead::default() });
        let mut held = self.held.clone();
        held.splice(run, new);
        let saved = self.saved.clone().expect("segments belong to a save");
        self.replace(held, saved)
    }

    /// The segments, for those who read values.
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.held.iter().map(|held| held.segment.clone()).collect()
    }

    /// Everything as it was saved last; what follows changes nothing of it.
    pub fn view(&self) -> Option<View> {
        let saved = self.saved.clone()?;
        Some(View { saved, held: self.held.clone(), segment: 0, offset: 0 })
    }

    /// Whether nothing was ever saved.
    pub fn is_new(&self) -> bool {
        self.saved.is_none()
    }

    pub fn size_bytes(&self) -> u64 {
        let head = self.files.open(HEAD).and_then(|file| file.len()).unwrap_or(0);
        let reserve = if self.reserved { self.reserve_bytes } else { 0 };
        self.held.iter().map(|held| held.segment.bytes).sum::<u64>() + head + reserve
    }

    /// Takes hold of the reserve if that is possible; without it the store should not grow.
    pub fn has_reserve(&mut self) -> bool {
        if !self.reserved {
            self.reserved = self.files.create(RESERVE, self.reserve_bytes).is_ok();
        }
        self.reserved
    }

    fn wanted_bytes(&self) -> u64 {
        let all: u64 = self.held.iter().map(|held| held.segment.bytes).sum();
        self.segment_bytes.max(all / MAX_SEGMENTS)
    }

    /// Tries again with the space of the reserve when the disk is full.
    fn with_reserve(&mut self, mut work: impl FnMut(&mut Self) -> Result<(), KvError>) -> Result<(), KvError> {
        let result = work(self);
        if result != Err(KvError::NoSpace) || !std::mem::take(&mut self.reserved) {
            return result;
        }
        self.files.remove(RESERVE).map_err(|error| self.failure(&error))?;
        work(self)
    }

    /// Makes `held` and `saved` the checkpoint; durable on return.
    fn replace(&mut self, held: Vec<Held>, saved: Saved) -> Result<(), KvError> {
        let fresh: Vec<String> =
            held.iter().map(|held| held.segment.id).filter(|id| self.held.iter().all(|old| old.segment.id != *id)).map(name).collect();
        let parts = held.iter().map(|Held { segment, dead }| Part {
            id: segment.id,
            bytes: segment.bytes,
            count: segment.len(),
            dead: dead.clone(),
        });
        let head = Head { saved, parts: parts.collect() };
        if let Err(error) = self.write_new(&head.encode()) {
            // The old head stands.
            for name in fresh {
                let _ = self.files.remove(&name);
            }
            return Err(self.failure(&error));
        }
        if let Err(error) = self.files.rename(HEAD_NEW, HEAD).and_then(|()| self.files.sync()) {
            self.sealed = true;
            self.strays.extend(fresh);
            return Err(self.failure(&error));
        }
        self.sealed = false;
        let old = self.held.iter().map(|old| old.segment.id).filter(|id| held.iter().all(|held| held.segment.id != *id)).map(name);
        self.strays.extend(old);
        self.held = held;
        self.saved = Some(head.saved);
        self.remove_strays();
        Ok(())
    }

    fn write_new(&self, data: &[u8]) -> io::Result<()> {
        let file = self.files.create(HEAD_NEW, 0)?;
        file.write_at(0, data)?;
        file.sync()
    }

    fn remove_strays(&mut self) {
        for name in std::mem::take(&mut self.strays) {
            match self.files.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::debug!(%error, name, "an old file stays for now");
                    self.strays.push(name);
                }
                _ => {}
            }
        }
    }

    fn failure(&self, error: &io::Error) -> KvError {
        failure(&*self.files, error)
    }

    fn corrupt(&self, name: &str, reason: &str) -> KvError {
        corrupt(&*self.files, name, reason)
    }
}

fn failure(files: &dyn Files, error: &io::Error) -> KvError {
    if is_full(error) {
        return KvError::NoSpace;
    }
    KvError::Unavailable(format!("the checkpoint {} cannot be read or written: {error}", files.path(HEAD)))
}

fn corrupt(files: &dyn Files, name: &str, reason: &str) -> KvError {
    KvError::Corrupt(format!(
        "the checkpoint file {} is damaged: {reason}. Nothing was changed. Check the disk, then restore this data folder from a snapshot or backup, or \
         copy it from another member",
        files.path(name)
    ))
}

fn load_part(files: &dyn Files, part: &Part) -> Result<LoadedPart, KvError> {
    let name = name(part.id);
    let file = files.open(&name).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => corrupt(files, &name, "it is missing"),
        _ => failure(files, &error),
    })?;
    let mut versions = Vec::with_capacity(part.count.min(1 << 20));
    let segment = Segment::open(part.id, files.path(&name), file.into(), part.bytes, |number, record| {
        if !part.dead.contains(number) {
            versions.push(Arc::new(Version::saved(&record)));
        }
    })?;
    if segment.len() != part.count {
        return Err(corrupt(files, &name, &format!("it has {} versions and should have {}", segment.len(), part.count)));
    }
    Ok((Held { segment: Arc::new(segment), dead: part.dead.clone() }, versions))
}

/// Writes versions into the last segment or new ones.
struct Spool<'a> {
    files: Arc<dyn Files>,
    next_id: &'a mut u64,
    pace: &'a Pace,
    segment_bytes: u64,
    current: Option<Appender>,
    done: Vec<Segment>,
    last: (Revision, u32),
    /// The segment that is extended, and where it ended.
    tail: Option<(u64, u64)>,
}

impl<'a> Spool<'a> {
    fn new(checkpoint: &'a mut Checkpoint, tail: Option<&Arc<Segment>>) -> Self {
        Self {
            segment_bytes: checkpoint.wanted_bytes(),
            files: checkpoint.files.clone(),
            next_id: &mut checkpoint.next_id,
            pace: &checkpoint.pace,
            current: tail.map(|tail| Appender::extend(tail)),
            done: Vec::new(),
            last: tail.map_or((0, 0), |tail| tail.last()),
            tail: tail.map(|tail| (tail.id, tail.bytes)),
        }
    }

    fn push(&mut self, record: &Record<'_>, value: &[u8]) -> Result<(), KvError> {
        let place = (record.revision, record.sub);
        if place <= self.last {
            return Err(KvError::Internal(format!("change {} of revision {} is out of order", place.1, place.0)));
        }
        self.last = place;
        let current = match &mut self.current {
            Some(current) => current,
            none => {
                let id = *self.next_id;
                *self.next_id += 1;
                let file = self.files.create(&name(id), 0).map_err(|error| failure(&*self.files, &error))?;
                none.insert(Appender::new(id, self.files.path(&name(id)), file.into()))
            }
        };
        if current.push(record, value) { self.flush() } else { Ok(()) }
    }

    /// Takes over what is not gone.
    fn copy(&mut self, held: &Held) -> Result<(), KvError> {
        let segment = &held.segment;
        let (mut offset, mut number) = (0, 0);
        while !held.is_dead() && offset < segment.bytes {
            let (block, end) = segment.block(offset, true)?;
            for version in block.versions() {
                let (record, value) = version.map_err(|error| segment.damaged(offset, &error.to_string()))?;
                if !held.dead.contains(number) {
                    self.push(&record, value)?;
                }
                number += 1;
            }
            offset = end;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), KvError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        let started = base::clock::monotonic();
        current.flush().map_err(|error| failure(&*self.files, &error))?;
        (self.pace)(started.elapsed());
        if current.bytes() >= self.segment_bytes {
            self.done.extend(self.current.take().map(Appender::finish));
        }
        Ok(())
    }

    /// Everything that was pushed, durable; the extended segment first.
    fn finish(mut self) -> Result<Vec<Segment>, KvError> {
        if let Err(error) = self.flush() {
            self.abandon();
            return Err(error);
        }
        self.done.extend(self.current.take().map(Appender::finish));
        Ok(self.done)
    }

    /// Gives back what was written: no head names it.
    fn abandon(mut self) {
        let current = self.current.take();
        if let (Some(current), Some((_, bytes))) = (&current, self.tail.filter(|_| self.done.is_empty())) {
            current.cut(bytes);
        }
        let fresh = self.done.iter().map(|segment| segment.id).chain(current.iter().map(Appender::id));
        for id in fresh.filter(|id| self.tail.is_none_or(|(tail, _)| tail != *id)) {
            if let Err(error) = self.files.remove(&name(id)) {
                tracing::debug!(%error, "a file that was written in vain stays until the next start");
            }
        }
    }
}

/// A checkpoint at one moment, read from its start to its end.
#[derive(Clone)]
pub(crate) struct View {
    pub saved: Saved,
    held: Vec<Held>,
    /// The block to be read next: its segment, its offset there.
    segment: usize,
    offset: u64,
}

impl View {
    /// The versions of the next block; `None` at the end. Blocks on the disk.
    pub fn next_block(&mut self) -> Result<Option<Vec<(KeyValue, u32)>>, KvError> {
        while let Some(Held { segment, dead }) = self.held.get(self.segment) {
            let (block, end) = segment.block(self.offset, true)?;
            let mut versions = Vec::new();
            for version in block.versions() {
                let (record, value) = version.map_err(|error| segment.damaged(self.offset, &error.to_string()))?;
                if !segment.find(record.revision, record.sub).is_some_and(|number| dead.contains(number)) {
                    versions.push((record.to_kv(value), record.sub));
                }
            }
            self.offset = end;
            if end >= segment.bytes {
                (self.segment, self.offset) = (self.segment + 1, 0);
            }
            if !versions.is_empty() {
                return Ok(Some(versions));
            }
        }
        Ok(None)
    }

    /// About what all of it takes.
    pub fn size_bytes(&self) -> u64 {
        self.held.iter().map(Held::live_bytes).sum()
    }

    /// Starts again.
    pub fn rewind(&mut self) {
        (self.segment, self.offset) = (0, 0);
    }
}
