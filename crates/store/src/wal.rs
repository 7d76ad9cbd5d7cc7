//! The write-ahead log: records in order, durable when `append` returns. Knows nothing of what is in a record.
//!
//! A log is a folder of segments of reserved size, each named by its first record's index. A segment is a header and frames; a frame is one `append`:
//!
//! ```text
//! segment header  "oxikube-wal" (16 bytes) | format u32 | 0 u32 | salt u64 | store u64 | first index u64 | 0 u64 | CRC32C u32 | 0 u32
//! frame header    salt u64 | first index u64 | payload length u32 | record count u32 | CRC32C u32 (of these and the payload) | 0 u32
//! payload         per record: length u32 | bytes;  then zeros up to a multiple of 8
//! ```
//!
//! All integers are little-endian. The salt is random per segment: nothing that a user stores can look like a frame. One frame is written at a time
//! and synced before the next, so a broken frame with a good one after it is damage, and one with nothing after it was never acknowledged.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::disk::{File, Files, is_full};
use crate::kv::KvError;
use crate::planted::planted;
use crate::stats::stats;

mod frame;

use frame::{Parsed, SEGMENT_HEADER_BYTES, SegmentHeader};

const SPARE: &str = "spare.tmp";

#[derive(Clone, Debug)]
struct Segment {
    name: String,
    first_index: u64,
    bytes: u64,
}

/// The segments on disk, shared by the writer, who adds, and the checkpointer, who removes.
#[derive(Clone)]
pub(crate) struct Segments {
    files: Arc<dyn Files>,
    list: Arc<Mutex<Vec<Segment>>>,
}

/// What writes itself into the log.
pub(crate) trait Record {
    fn write(&self, out: &mut Vec<u8>);
}

impl<R: AsRef<[u8]>> Record for R {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_ref());
    }
}

pub(crate) struct Wal {
    segments: Segments,
    store: u64,
    segment_bytes: u64,
    current: Box<dyn File>,
    current_bytes: u64,
    salt: u64,
    offset: u64,
    next_index: u64,
    /// The next segment, reserved ahead: with it deletions still find room on a full disk.
    spare: Option<Box<dyn File>>,
    buffer: Vec<u8>,
    /// Why nothing can be written any more.
    failed: Option<String>,
}

impl Wal {
    /// Opens the log and hands every record after `applied` to `replay`, in order. `store` is the identity that the checkpoint has, if there is one.
    ///
    /// A last frame that is not whole is dropped: nobody was told that it is safe. Any other damage is refused.
    pub fn open(
        files: Arc<dyn Files>,
        segment_bytes: u64,
        store: Option<u64>,
        applied: u64,
        replay: impl FnMut(u64, &[u8]) -> Result<(), KvError>,
    ) -> Result<Self, KvError> {
        Self::open_from(files, segment_bytes, store, Some(applied), replay)
    }

    /// Opens the log and hands every record that there is to `replay`, which judges itself whether the first ones may be missing.
    pub fn open_whole(
        files: Arc<dyn Files>,
        segment_bytes: u64,
        store: Option<u64>,
        replay: impl FnMut(u64, &[u8]) -> Result<(), KvError>,
    ) -> Result<Self, KvError> {
        Self::open_from(files, segment_bytes, store, None, replay)
    }

    fn open_from(
        files: Arc<dyn Files>,
        segment_bytes: u64,
        store: Option<u64>,
        applied: Option<u64>,
        replay: impl FnMut(u64, &[u8]) -> Result<(), KvError>,
    ) -> Result<Self, KvError> {
        let is_whole = applied.is_none();
        let applied = applied.unwrap_or(0);
        let unreadable = |error: io::Error| KvError::Unavailable(format!("the log {} cannot be read: {error}", files.path("")));
        let segments = Segments { files: files.clone(), list: Arc::default() };
        let found = segments.find().map_err(unreadable)?;
        if found.is_empty() {
            if applied > 0 {
                return Err(KvError::Corrupt(format!(
                    "the log {} has no files but the checkpoint beside it ends at record {applied}: restore the missing files or a snapshot",
                    files.path("")
                )));
            }
            return Self::create(segments, segment_bytes, store.unwrap_or_else(rand::random));
        }
        *segments.list.lock() = found;
        Recovery { segments: &segments, store, applied, is_whole, replay }.run(segment_bytes)
    }

    fn create(segments: Segments, segment_bytes: u64, store: u64) -> Result<Self, KvError> {
        let full = |error: io::Error| {
            if is_full(&error) { KvError::NoSpace } else { KvError::Unavailable(format!("the log cannot be made: {error}")) }
        };
        let spare = segments.files.create(SPARE, segment_bytes).map_err(full)?;
        let (current, salt) = segments.start(&*spare, store, 1).map(|salt| (spare, salt)).map_err(full)?;
        Ok(Self {
            segments,
            store,
            segment_bytes,
            current,
            current_bytes: segment_bytes,
            salt,
            offset: SEGMENT_HEADER_BYTES as u64,
            next_index: 1,
            spare: None,
            buffer: Vec::new(),
            failed: None,
        })
    }

    pub fn store(&self) -> u64 {
        self.store
    }

    /// Number of the newest record.
    pub fn last_record(&self) -> u64 {
        self.next_index - 1
    }

    pub fn segments(&self) -> Segments {
        self.segments.clone()
    }

    /// Why the log takes no more records, ever.
    pub fn failed(&self) -> Option<&str> {
        self.failed.as_deref()
    }

    /// Reserves the next segment unless that is done. `NoSpace`: what makes the store bigger should not be written now.
    pub fn reserve(&mut self) -> Result<(), KvError> {
        if self.spare.is_some() {
            return Ok(());
        }
        match self.segments.files.create(SPARE, self.segment_bytes) {
            Ok(file) => {
                self.spare = Some(file);
                Ok(())
            }
            Err(error) if is_full(&error) => Err(KvError::NoSpace),
            Err(error) => Err(KvError::Unavailable(format!("the log cannot grow: {error}"))),
        }
    }

    /// Writes the records as one frame and syncs it. After `NoSpace` nothing was written and the log goes on when there is space again; after any other
    /// error it is unknown what reached the disk, and the log takes nothing more.
    pub fn append<R: Record>(&mut self, records: &[R]) -> Result<(), KvError> {
        if let Some(reason) = &self.failed {
            return Err(KvError::Unavailable(reason.clone()));
        }
        frame::write(&mut self.buffer, self.salt, self.next_index, records);
        let size = self.buffer.len() as u64;
        if self.offset + size > self.current_bytes {
            self.rotate(size)?;
            // A segment's frames carry its own salt.
            frame::write(&mut self.buffer, self.salt, self.next_index, records);
        }
        let began = base::clock::monotonic();
        if let Err(error) =
            self.current.write_at(self.offset, &self.buffer).and_then(|()| if planted!(SkipFsync) { Ok(()) } else { self.current.sync() })
        {
            return Err(self.fail("written", &error));
        }
        stats().log_syncs.observe(began.elapsed());
        stats().log_bytes.fetch_add(size, Ordering::Relaxed);
        self.offset += size;
        self.next_index += records.len() as u64;
        if self.buffer.capacity() > 4 << 20 {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn fail(&mut self, what: &str, error: &io::Error) -> KvError {
        let reason = format!(
            "the log {} could not be {what}: {error}; the store takes no writes until it is restarted on a sound disk",
            self.segments.files.path("")
        );
        tracing::error!("{reason}");
        self.failed = Some(reason.clone());
        KvError::Unavailable(reason)
    }

    /// Goes on in a new segment with room for `frame_bytes`.
    fn rotate(&mut self, frame_bytes: u64) -> Result<(), KvError> {
        let needed = SEGMENT_HEADER_BYTES as u64 + frame_bytes;
        if needed > self.segment_bytes {
            // One request larger than a segment gets a segment of its own; the spare is made anew.
            self.spare = None;
            match self.segments.files.create(SPARE, needed) {
                Ok(file) => self.spare = Some(file),
                Err(error) if is_full(&error) => return Err(KvError::NoSpace),
                Err(error) => return Err(self.fail("extended", &error)),
            }
        }
        self.reserve()?;
        let spare = self.spare.take().expect("reserved just now");
        match self.segments.start(&*spare, self.store, self.next_index) {
            Ok(salt) => self.salt = salt,
            Err(error) => return Err(self.fail("extended", &error)),
        }
        self.current = spare;
        self.current_bytes = needed.max(self.segment_bytes);
        self.offset = SEGMENT_HEADER_BYTES as u64;
        Ok(())
    }
}

impl Segments {
    fn find(&self) -> io::Result<Vec<Segment>> {
        let mut found = Vec::new();
        for name in self.files.list()? {
            if name == SPARE {
                self.files.remove(&name)?;
            } else if let Some(first_index) = name.strip_suffix(".wal").and_then(|number| number.parse().ok()) {
                let bytes = self.files.open(&name)?.len()?;
                found.push(Segment { name, first_index, bytes });
            }
        }
        found.sort_by_key(|segment| segment.first_index);
        Ok(found)
    }

    /// Makes the spare file the segment that starts at `first_index`; returns its salt. Durable on return.
    fn start(&self, spare: &dyn File, store: u64, first_index: u64) -> io::Result<u64> {
        let header = SegmentHeader { salt: rand::random(), store, first_index };
        spare.write_at(0, &header.to_bytes())?;
        spare.sync()?;
        let name = format!("{first_index:020}.wal");
        self.files.rename(SPARE, &name)?;
        self.files.sync()?;
        self.list.lock().push(Segment { name, first_index, bytes: spare.len()? });
        Ok(header.salt)
    }

    /// Removes the segments that hold only records up to `applied`.
    pub fn remove_up_to(&self, applied: u64) -> io::Result<()> {
        loop {
            let oldest = {
                let list = self.list.lock();
                match &list[..] {
                    [oldest, next, ..] if next.first_index <= applied + 1 => oldest.clone(),
                    _ => return Ok(()),
                }
            };
            self.files.remove(&oldest.name)?;
            self.list.lock().remove(0);
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.list.lock().iter().map(|segment| segment.bytes).sum()
    }
}

/// Reads a log after a start.
struct Recovery<'a, R> {
    segments: &'a Segments,
    store: Option<u64>,
    applied: u64,
    /// The first records may be missing.
    is_whole: bool,
    replay: R,
}

/// Where one segment's frames end.
struct End {
    offset: usize,
    next_index: u64,
    /// There is something after the end that is not empty space.
    torn: Option<&'static str>,
}

impl<R: FnMut(u64, &[u8]) -> Result<(), KvError>> Recovery<'_, R> {
    fn run(mut self, segment_bytes: u64) -> Result<Wal, KvError> {
        let cannot = |error: io::Error| KvError::Unavailable(format!("old log files cannot be removed: {error}"));
        self.segments.remove_up_to(self.applied).map_err(cannot)?;
        let list = self.segments.list.lock().clone();
        let (last, earlier) = list.split_last().expect("a log without segments is created, not recovered");
        let first = list[0].first_index;
        if first > self.applied + 1 && !self.is_whole {
            return Err(self.corrupt(
                &list[0],
                0,
                &format!(
                    "the log starts at record {first} but the checkpoint ends at {}, so files are missing (the checkpoint or a part of the log)",
                    self.applied
                ),
            ));
        }
        for (segment, next) in earlier.iter().zip(&list[1..]) {
            let (_, data) = self.read(segment)?;
            let header = self.header(segment, &data)?;
            let end = self.frames(segment, &header, &data)?;
            // A next segment is begun only when this one is complete.
            if next.first_index != end.next_index {
                let missing = format!("records {} to {} are not there", end.next_index, next.first_index.wrapping_sub(1));
                return Err(self.corrupt(segment, end.offset, &missing));
            }
        }
        let (file, data) = self.read(last)?;
        let header = self.header(last, &data)?;
        let end = self.frames(last, &header, &data)?;
        if let Some(reason) = end.torn {
            tracing::warn!(
                file = self.segments.files.path(&last.name),
                offset = end.offset,
                reason,
                "the last write of the log was cut off and is dropped: it was never acknowledged"
            );
        }
        if end.next_index <= self.applied {
            let reason = format!("the log ends at record {} but the checkpoint has {} applied", end.next_index - 1, self.applied);
            return Err(self.corrupt(last, end.offset, &reason));
        }
        Ok(Wal {
            segments: self.segments.clone(),
            store: header.store,
            segment_bytes,
            current_bytes: data.len() as u64,
            current: file,
            salt: header.salt,
            offset: end.offset as u64,
            next_index: end.next_index,
            spare: None,
            buffer: Vec::new(),
            failed: None,
        })
    }

    fn read(&self, segment: &Segment) -> Result<(Box<dyn File>, Vec<u8>), KvError> {
        let path = self.segments.files.path(&segment.name);
        let cannot = |error: io::Error| KvError::Unavailable(format!("the log file {path} cannot be read: {error}"));
        let file = self.segments.files.open(&segment.name).map_err(cannot)?;
        let length = usize::try_from(segment.bytes).map_err(|_| KvError::Corrupt(format!("the log file {path} is too large")))?;
        let mut data = vec![0; length];
        file.read_at(0, &mut data).map_err(cannot)?;
        Ok((file, data))
    }

    fn header(&self, segment: &Segment, data: &[u8]) -> Result<SegmentHeader, KvError> {
        let header = SegmentHeader::parse(data).map_err(|reason| self.corrupt(segment, 0, &reason))?;
        if header.first_index != segment.first_index {
            return Err(self.corrupt(segment, 0, &format!("it says that it starts at record {}: it was renamed", header.first_index)));
        }
        if self.store.is_some_and(|store| store != header.store) {
            return Err(self.corrupt(segment, 0, "it belongs to another store than the checkpoint: files of two stores were mixed"));
        }
        Ok(header)
    }

    fn frames(&mut self, segment: &Segment, header: &SegmentHeader, data: &[u8]) -> Result<End, KvError> {
        let mut offset = SEGMENT_HEADER_BYTES;
        let mut next_index = header.first_index;
        self.store = Some(header.store);
        loop {
            let torn = match frame::parse(data, offset, header.salt) {
                Parsed::Frame(found) if found.first_index == next_index => {
                    for (index, record) in (next_index..).zip(found.records()) {
                        if index > self.applied {
                            (self.replay)(index, record).map_err(|error| self.corrupt(segment, offset, &error.to_string()))?;
                        }
                    }
                    next_index += u64::from(found.count);
                    offset = found.end;
                    continue;
                }
                Parsed::Frame(found) => {
                    let reason = format!("record {} is there where {next_index} belongs", found.first_index);
                    return Err(self.corrupt(segment, offset, &reason));
                }
                Parsed::Broken(reason) => Some(reason),
                Parsed::Empty => None,
            };
            if let Some(later) = frame::find_later(data, offset, header.salt).filter(|_| !planted!(DamageTakenForTheEnd)) {
                let reason = format!("the record there is damaged, good ones follow at offset {later}");
                return Err(self.corrupt(segment, offset, &reason));
            }
            return Ok(End { offset, next_index, torn });
        }
    }

    fn corrupt(&self, segment: &Segment, offset: usize, reason: &str) -> KvError {
        KvError::Corrupt(format!(
            "the log file {} is damaged at offset {offset}: {reason}. Nothing was changed. Check the disk, then restore this data folder from a \
             snapshot or backup, or copy it from another member",
            self.segments.files.path(&segment.name)
        ))
    }
}

/// Where the last frame of a log file begins.
#[cfg(test)]
pub(crate) fn last_frame_start(data: &[u8]) -> Option<usize> {
    let header = SegmentHeader::parse(data).ok()?;
    let mut last = None;
    let mut offset = SEGMENT_HEADER_BYTES;
    while let Parsed::Frame(found) = frame::parse(data, offset, header.salt) {
        last = Some(offset);
        offset = found.end;
    }
    last
}

#[cfg(test)]
mod tests;
