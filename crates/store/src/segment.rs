//! Files of saved versions. A segment holds versions in the order of (revision, sub); it grows at its end and is otherwise never changed. Knows neither
//! which versions are still wanted nor how far a checkpoint is.
//!
//! A segment is a row of blocks; keys lie apart from values, so that a start reads no values:
//!
//! ```text
//! block header  magic u32 | count u32 | bytes of keys u32 | 0 u32 | bytes of values u64 | CRC32C u32 (of these, the block's place and the keys) | 0 u32
//! keys          per version: revision | sub | key | create revision | version | lease | length of the value, as in `codec`
//! values        per version with a value: the bytes | CRC32C u32 (of these, revision and sub)
//! ```

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DecodeError, Reader, put_bytes, put_int, put_uint};
use crate::disk::File;
use crate::kv::{KeyValue, KvError, LeaseId, Revision};

const MAGIC: u32 = 0x6f78_6b62;
const HEADER_BYTES: usize = 32;
const CRC_BYTES: usize = 4;
/// A block is written when its keys and values are so large: what one write and sync puts on the disk at once.
const BLOCK_BYTES: usize = 1 << 20;

/// A version as it is saved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Record<'a> {
    pub revision: Revision,
    pub sub: u32,
    pub key: &'a [u8],
    pub create_revision: Revision,
    pub version: i64,
    pub lease: LeaseId,
    /// Bytes of the value.
    pub length: u32,
}

impl Record<'_> {
    pub fn to_kv(self, value: &[u8]) -> KeyValue {
        KeyValue {
            key: Bytes::copy_from_slice(self.key),
            value: Bytes::copy_from_slice(value),
            create_revision: self.create_revision,
            mod_revision: self.revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// Where a version's value is.
#[derive(Clone, Copy, Debug)]
struct Entry {
    revision: Revision,
    sub: u32,
    offset: u32,
}

impl Entry {
    fn place(&self) -> (Revision, u32) {
        (self.revision, self.sub)
    }
}

pub(crate) struct Segment {
    pub id: u64,
    path: String,
    file: Arc<dyn File>,
    /// Never empty.
    entries: Vec<Entry>,
    /// What of the file is valid.
    pub bytes: u64,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Segment").field("id", &self.id).field("versions", &self.entries.len()).field("bytes", &self.bytes).finish()
    }
}

/// One block in memory.
pub(crate) struct Block {
    data: Vec<u8>,
    keys: usize,
    count: u32,
}

impl Segment {
    /// Opens a segment whose first `bytes` are valid and reads its keys; `each` sees every version with its number in the segment.
    pub fn open(id: u64, path: String, file: Arc<dyn File>, bytes: u64, mut each: impl FnMut(usize, Record<'_>)) -> Result<Self, KvError> {
        let mut segment = Self { id, path, file, entries: Vec::new(), bytes };
        let mut offset = 0;
        while offset < bytes {
            let (block, end) = segment.block(offset, false)?;
            let mut value_offset = offset + (HEADER_BYTES + block.keys) as u64;
            for record in block.records() {
                let record = record.map_err(|error| segment.damaged(offset, &error.to_string()))?;
                let entry = Entry {
                    revision: record.revision,
                    sub: record.sub,
                    offset: u32::try_from(value_offset).map_err(|_| segment.damaged(offset, "it is too large"))?,
                };
                if segment.entries.last().is_some_and(|last| last.place() >= entry.place()) {
                    return Err(segment.damaged(offset, &format!("change {} of revision {} is out of order", entry.sub, entry.revision)));
                }
                value_offset += stored_bytes(record.length);
                each(segment.entries.len(), record);
                segment.entries.push(entry);
            }
            if value_offset != end {
                return Err(segment.damaged(offset, "its values are not as long as its keys say"));
            }
            offset = end;
        }
        if segment.entries.is_empty() {
            return Err(segment.damaged(0, "it is empty"));
        }
        segment.entries.shrink_to_fit();
        Ok(segment)
    }

    /// Number of versions.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Place of the first version.
    pub fn first(&self) -> (Revision, u32) {
        self.entries[0].place()
    }

    /// Place of the last version.
    pub fn last(&self) -> (Revision, u32) {
        self.entries[self.entries.len() - 1].place()
    }

    /// The number of a version in this segment.
    pub fn find(&self, revision: Revision, sub: u32) -> Option<usize> {
        self.entries.binary_search_by_key(&(revision, sub), Entry::place).ok()
    }

    /// Offset in the file of the value of a version by its number.
    pub fn offset(&self, number: usize) -> u64 {
        u64::from(self.entries[number].offset)
    }

    /// Reads the part of the file in which some values lie.
    pub fn read(&self, offset: u64, length: usize) -> Result<Vec<u8>, KvError> {
        let mut data = vec![0; length];
        self.file.read_at(offset, &mut data).map_err(|error| self.unreadable(&error))?;
        Ok(data)
    }

    /// The value of a version, checked, in a part of the file that starts at `base`.
    pub fn value_in<'a>(&self, number: usize, length: u32, base: u64, data: &'a [u8]) -> Result<&'a [u8], KvError> {
        let entry = &self.entries[number];
        let start = usize::try_from(u64::from(entry.offset) - base).expect("an offset in a buffer");
        let value = data.get(start..).and_then(|rest| open_value(rest, length, entry.revision, entry.sub));
        value.ok_or_else(|| {
            let what = format!("the checksum of the value of change {} of revision {} is wrong", entry.sub, entry.revision);
            self.damaged(u64::from(entry.offset), &what)
        })
    }

    /// The block at `offset`, with or without its values, and where the next one is.
    pub fn block(&self, offset: u64, values: bool) -> Result<(Block, u64), KvError> {
        let mut header = [0; HEADER_BYTES];
        self.file.read_at(offset, &mut header).map_err(|error| self.unreadable(&error))?;
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let value_bytes = u64::from(word(16)) | u64::from(word(20)) << 32;
        let (count, keys) = (word(4), word(8) as usize);
        let rest = self.bytes - offset;
        let whole = (HEADER_BYTES as u64 + keys as u64).checked_add(value_bytes).filter(|whole| *whole <= rest && word(0) == MAGIC);
        let whole = whole.ok_or_else(|| self.damaged(offset, "there is no block of versions"))?;
        let wanted = if values { whole as usize - HEADER_BYTES } else { keys };
        let data = self.read(offset + HEADER_BYTES as u64, wanted)?;
        if block_crc(self.id, offset, &header[..24], &data[..keys]) != word(24) {
            return Err(self.damaged(offset, "the checksum of a block of keys is wrong"));
        }
        Ok((Block { data, keys, count }, offset + whole))
    }

    fn unreadable(&self, error: &io::Error) -> KvError {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return self.damaged(self.bytes, "it is cut off");
        }
        KvError::Unavailable(format!("the checkpoint file {} cannot be read: {error}", self.path))
    }

    pub fn damaged(&self, offset: u64, reason: &str) -> KvError {
        KvError::Corrupt(format!(
            "the checkpoint file {} is damaged at offset {offset}: {reason}. Nothing was changed. Check the disk, then restore this data folder from a \
             snapshot or backup, or copy it from another member",
            self.path
        ))
    }
}

impl Block {
    pub fn records(&self) -> impl Iterator<Item = Result<Record<'_>, DecodeError>> {
        let mut reader = Reader(&self.data[..self.keys]);
        let mut left = self.count;
        std::iter::from_fn(move || {
            if left == 0 {
                return if reader.end().is_err() { Some(Err(DecodeError("bytes after the last key"))) } else { None };
            }
            left -= 1;
            let record = decode(&mut reader);
            if record.is_err() {
                (left, reader) = (0, Reader(&[]));
            }
            Some(record)
        })
    }

    /// Every version with its value, where the block was read with values.
    pub fn versions(&self) -> impl Iterator<Item = Result<(Record<'_>, &[u8]), DecodeError>> {
        let mut rest = &self.data[self.keys..];
        self.records().map(move |record| {
            let record = record?;
            let value = open_value(rest, record.length, record.revision, record.sub);
            let value = value.ok_or(DecodeError("the checksum of a value is wrong"))?;
            rest = &rest[stored_bytes(record.length) as usize..];
            Ok((record, value))
        })
    }
}

/// What a value takes in the file.
pub(crate) fn stored_bytes(length: u32) -> u64 {
    if length == 0 { 0 } else { u64::from(length) + CRC_BYTES as u64 }
}

fn open_value(data: &[u8], length: u32, revision: Revision, sub: u32) -> Option<&[u8]> {
    if length == 0 {
        return Some(&[]);
    }
    let (value, rest) = data.split_at_checked(length as usize)?;
    let crc = rest.first_chunk::<CRC_BYTES>()?;
    (value_crc(value, revision, sub) == u32::from_le_bytes(*crc)).then_some(value)
}

fn value_crc(value: &[u8], revision: Revision, sub: u32) -> u32 {
    let place = ((revision as u64).rotate_left(32) ^ u64::from(sub)).to_le_bytes();
    crc32c::crc32c_append(crc32c::crc32c(&place), value)
}

fn block_crc(id: u64, offset: u64, header: &[u8], keys: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&id.to_le_bytes()), &offset.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(crc, header), keys)
}

fn decode<'a>(reader: &mut Reader<'a>) -> Result<Record<'a>, DecodeError> {
    let small = |value: u64| u32::try_from(value).map_err(|_| DecodeError("a number beyond its bounds"));
    Ok(Record {
        revision: reader.int()?,
        sub: small(reader.uint()?)?,
        key: reader.slice()?,
        create_revision: reader.int()?,
        version: reader.int()?,
        lease: reader.int()?,
        length: small(reader.uint()?)?,
    })
}

/// Adds versions at the end of a segment, block by block.
pub(crate) struct Appender {
    id: u64,
    path: String,
    file: Arc<dyn File>,
    entries: Vec<Entry>,
    bytes: u64,
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Versions of the block under way begin here in `entries`, with offsets in `values`.
    flushed: usize,
}

impl Appender {
    pub fn new(id: u64, path: String, file: Arc<dyn File>) -> Self {
        Self { id, path, file, entries: Vec::new(), bytes: 0, keys: Vec::new(), values: Vec::new(), flushed: 0 }
    }

    /// Goes on at the end of `segment`, which stays as it is for those who read it.
    pub fn extend(segment: &Segment) -> Self {
        let Segment { id, path, file, entries, bytes } = segment;
        let flushed = entries.len();
        Self { entries: entries.clone(), bytes: *bytes, flushed, ..Self::new(*id, path.clone(), file.clone()) }
    }

    pub fn id(&self) -> u64 {
        self.id
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a version; returns whether a block is full and should be written.
    pub fn push(&mut self, record: &Record<'_>, value: &[u8]) -> bool {
        let keys = &mut self.keys;
        put_int(keys, record.revision);
        put_uint(keys, u64::from(record.sub));
        put_bytes(keys, record.key);
        put_int(keys, record.create_revision);
        put_int(keys, record.version);
        put_int(keys, record.lease);
        put_uint(keys, value.len() as u64);
        let offset = u32::try_from(self.values.len()).expect("a block is a little larger than one request at most");
        self.entries.push(Entry { revision: record.revision, sub: record.sub, offset });
        if !value.is_empty() {
            self.values.extend_from_slice(value);
            self.values.extend_from_slice(&value_crc(value, record.revision, record.sub).to_le_bytes());
        }
        self.keys.len() + self.values.len() >= BLOCK_BYTES
    }

    /// Writes the block under way; durable on return.
    pub fn flush(&mut self) -> io::Result<()> {
        let count = self.entries.len() - self.flushed;
        if count == 0 {
            return Ok(());
        }
        let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, "a segment of more than 4 GiB");
        let start = self.bytes + (HEADER_BYTES + self.keys.len()) as u64;
        let end = start + self.values.len() as u64;
        u32::try_from(end).map_err(|_| too_large())?;
        let mut data = Vec::with_capacity(HEADER_BYTES + self.keys.len() + self.values.len());
        for word in [MAGIC, count as u32, self.keys.len() as u32, 0] {
            data.extend_from_slice(&word.to_le_bytes());
        }
        data.extend_from_slice(&(self.values.len() as u64).to_le_bytes());
        let crc = block_crc(self.id, self.bytes, &data, &self.keys);
        data.extend_from_slice(&crc.to_le_bytes());
        data.extend_from_slice(&[0; 4]);
        data.append(&mut self.keys);
        data.append(&mut self.values);
        self.file.write_at(self.bytes, &data)?;
        self.file.sync()?;
        for entry in &mut self.entries[self.flushed..] {
            entry.offset += start as u32;
        }
        self.flushed = self.entries.len();
        self.bytes = end;
        Ok(())
    }

    /// What was flushed, as a segment.
    pub fn finish(mut self) -> Segment {
        self.entries.truncate(self.flushed);
        let Self { id, path, file, mut entries, bytes, .. } = self;
        entries.shrink_to_fit();
        Segment { id, path, file, entries, bytes }
    }

    /// Gives back what was written after `bytes`, as well as that is possible: on a full disk every block counts.
    pub fn cut(&self, bytes: u64) {
        if let Err(error) = self.file.set_len(bytes) {
            tracing::debug!(%error, path = self.path, "what was written in vain stays");
        }
    }
}
