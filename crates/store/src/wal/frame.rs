//! The bytes of segments and frames: writing them, and reading them without trusting any.

use super::Record;
use crate::planted::planted;

/// Format 1; a program reads every format up to its own.
const FORMAT: u32 = 1;
const MAGIC: &[u8; 16] = b"oxikube-wal\0\0\0\0\0";
pub(super) const SEGMENT_HEADER_BYTES: usize = 64;
pub(super) const FRAME_HEADER_BYTES: usize = 32;
const ALIGNMENT: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub salt: u64,
    /// Random identity of the store.
    pub store: u64,
    pub first_index: u64,
}

impl SegmentHeader {
    pub fn to_bytes(self) -> [u8; SEGMENT_HEADER_BYTES] {
        let mut bytes = [0; SEGMENT_HEADER_BYTES];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[16..20].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.store.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_index.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..56]);
        bytes[56..60].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub fn parse(data: &[u8]) -> Result<Self, String> {
        let header = data.get(..SEGMENT_HEADER_BYTES).ok_or("it is shorter than its header")?;
        if &header[..16] != MAGIC {
            return Err("it does not begin as a log file does".into());
        }
        let format = u32_at(header, 16);
        if format > FORMAT {
            return Err(format!(
                "its format is {format} and this program reads up to {FORMAT}: a newer version wrote it, use that version"
            ));
        }
        if crc32c::crc32c(&header[..56]) != u32_at(header, 56) {
            return Err("the checksum of its header is wrong".into());
        }
        Ok(Self { salt: u64_at(header, 24), store: u64_at(header, 32), first_index: u64_at(header, 40) })
    }
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(data[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().expect("eight bytes"))
}

/// Replaces the content of `out` by a frame.
pub(super) fn write<R: Record>(out: &mut Vec<u8>, salt: u64, first_index: u64, records: &[R]) {
    out.clear();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
    for record in records {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        record.write(out);
        let length = u32::try_from(out.len() - start - 4).expect("requests are limited to far less than 4 GiB");
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    }
    let payload = u32::try_from(out.len() - FRAME_HEADER_BYTES).expect("a batch is limited to far less than 4 GiB");
    let count = u32::try_from(records.len()).expect("a batch is limited to far fewer records");
    out[..8].copy_from_slice(&salt.to_le_bytes());
    out[8..16].copy_from_slice(&first_index.to_le_bytes());
    out[16..20].copy_from_slice(&payload.to_le_bytes());
    out[20..24].copy_from_slice(&count.to_le_bytes());
    let crc = crc(&out[..24], &out[FRAME_HEADER_BYTES..]);
    out[24..28].copy_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
}

fn crc(header: &[u8], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), payload)
}

#[derive(Debug)]
pub(super) struct Frame<'a> {
    pub first_index: u64,
    pub count: u32,
    payload: &'a [u8],
    /// Offset after the frame.
    pub end: usize,
}

impl<'a> Frame<'a> {
    pub fn records(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.payload;
        std::iter::from_fn(move || {
            let (record, after) = split_record(rest)?;
            rest = after;
            Some(record)
        })
    }
}

fn split_record(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = payload.split_at_checked(4)?;
    rest.split_at_checked(usize::try_from(u32_at(length, 0)).ok()?)
}

#[derive(Debug)]
pub(super) enum Parsed<'a> {
    Frame(Frame<'a>),
    /// A frame was begun here but is not whole.
    Broken(&'static str),
    /// No frame was begun here.
    Empty,
}

/// Reads the frame at `offset`.
pub(super) fn parse(data: &[u8], offset: usize, salt: u64) -> Parsed<'_> {
    let Some(header) = data.get(offset..).and_then(|rest| rest.get(..FRAME_HEADER_BYTES)) else { return Parsed::Empty };
    if u64_at(header, 0) != salt {
        let empty = header.iter().all(|byte| *byte == 0);
        return if empty { Parsed::Empty } else { Parsed::Broken("no frame begins there") };
    }
    let length = u32_at(header, 16) as usize;
    let start = offset + FRAME_HEADER_BYTES;
    let Some(payload) = data[start..].get(..length) else { return Parsed::Broken("the frame is longer than the file") };
    if crc(&header[..24], payload) != u32_at(header, 24) && !planted!(TornTailAccepted) {
        return Parsed::Broken("the checksum of the frame is wrong");
    }
    let end = (start + length).next_multiple_of(ALIGNMENT);
    let frame = Frame { first_index: u64_at(header, 8), count: u32_at(header, 20), payload, end };
    let whole = frame.records().map(|record| 4 + record.len()).sum::<usize>() == length && frame.records().count() == frame.count as usize;
    if whole { Parsed::Frame(frame) } else { Parsed::Broken("the frame's records do not fill it") }
}

/// The offset of a good frame after `offset`, if there is one.
pub(super) fn find_later(data: &[u8], offset: usize, salt: u64) -> Option<usize> {
    let salt_bytes = salt.to_le_bytes();
    let mut at = (offset + 1).next_multiple_of(ALIGNMENT);
    while let Some(start) = data.get(at..at + 8) {
        if start == salt_bytes && matches!(parse(data, at, salt), Parsed::Frame(_)) {
            return Some(at);
        }
        at += ALIGNMENT;
    }
    None
}
