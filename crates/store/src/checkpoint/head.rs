//! The head of a checkpoint as bytes. Pure.
//!
//! Integers and byte strings as in `codec`, but for the random identity of the store, which has eight bytes; at the end a CRC32C of everything before it.

use crate::checkpoint::{Meta, Saved};
use crate::codec::{DecodeError, Reader, put_bytes, put_int, put_uint};
use crate::lease::LeaseRecord;

const MAGIC: &[u8] = b"oxikube-checkpoint";
const FORMAT: u64 = 2;

pub(crate) struct Head {
    pub saved: Saved,
    pub parts: Vec<Part>,
}

/// What the head says of a segment.
pub(crate) struct Part {
    pub id: u64,
    /// What of the file is valid.
    pub bytes: u64,
    /// Its versions, those that are gone included.
    pub count: usize,
    pub dead: Dead,
}

/// Which versions of a segment are gone, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dead {
    bits: Vec<u8>,
    pub count: usize,
    /// What they take in the file, about.
    pub bytes: u64,
}

impl Dead {
    pub fn add(&mut self, number: usize, bytes: u64) {
        if !self.contains(number) {
            self.bits.resize(self.bits.len().max(number / 8 + 1), 0);
            self.bits[number / 8] |= 1 << (number % 8);
            self.count += 1;
            self.bytes += bytes;
        }
    }

    pub fn contains(&self, number: usize) -> bool {
        self.bits.get(number / 8).is_some_and(|byte| byte & 1 << (number % 8) != 0)
    }
}

impl Head {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_uint(&mut out, FORMAT);
        let Saved { meta, leases, extras } = &self.saved;
        out.extend_from_slice(&meta.store.to_le_bytes());
        put_uint(&mut out, meta.applied_index);
        put_int(&mut out, meta.revision);
        put_int(&mut out, meta.compact_revision);
        put_uint(&mut out, leases.len() as u64);
        for lease in leases {
            put_int(&mut out, lease.id);
            put_uint(&mut out, lease.ttl_ms);
            put_uint(&mut out, lease.checkpoint_ms);
        }
        put_uint(&mut out, extras.len() as u64);
        for (name, section) in extras {
            put_bytes(&mut out, name.as_bytes());
            put_bytes(&mut out, section);
        }
        put_uint(&mut out, self.parts.len() as u64);
        for Part { id, bytes, count, dead } in &self.parts {
            put_uint(&mut out, *id);
            put_uint(&mut out, *bytes);
            put_uint(&mut out, *count as u64);
            put_uint(&mut out, dead.bytes);
            put_bytes(&mut out, &dead.bits);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub fn decode(data: &[u8]) -> Result<Self, DecodeError> {
        let (body, crc) = data.split_last_chunk::<4>().ok_or(DecodeError("it is too short"))?;
        let body = body.strip_prefix(MAGIC).ok_or(DecodeError("it is no checkpoint"))?;
        if crc32c::crc32c(&data[..data.len() - 4]) != u32::from_le_bytes(*crc) {
            return Err(DecodeError("its checksum is wrong"));
        }
        let mut reader = Reader(body);
        if reader.uint()? > FORMAT {
            return Err(DecodeError("a newer version wrote it, use that version"));
        }
        let meta = Meta { store: reader.fixed()?, applied_index: reader.uint()?, revision: reader.int()?, compact_revision: reader.int()? };
        let leases = reader.list(|reader| Ok(LeaseRecord { id: reader.int()?, ttl_ms: reader.uint()?, checkpoint_ms: reader.uint()? }))?;
        let extras = reader.list(|reader| {
            let name = String::from_utf8(reader.slice()?.to_vec()).map_err(|_| DecodeError("the name of a section is no text"))?;
            Ok((name, reader.slice()?.to_vec()))
        })?;
        let parts = reader.list(part)?;
        reader.end()?;
        Ok(Self { saved: Saved { meta, leases, extras }, parts })
    }
}

fn part(reader: &mut Reader<'_>) -> Result<Part, DecodeError> {
    let (id, bytes) = (reader.uint()?, reader.uint()?);
    let count = usize::try_from(reader.uint()?).map_err(|_| DecodeError("a count beyond this machine"))?;
    let dead_bytes = reader.uint()?;
    let bits = reader.slice()?.to_vec();
    let dead = bits.iter().map(|byte| byte.count_ones() as usize).sum();
    Ok(Part { id, bytes, count, dead: Dead { bits, count: dead, bytes: dead_bytes } })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_survives_and_damage_is_seen() {
        let mut dead = Dead::default();
        for number in [3, 70, 3] {
            dead.add(number, 10);
        }
        assert_eq!((dead.count, dead.bytes, dead.contains(70), dead.contains(71), dead.contains(7000)), (2, 20, true, false, false));
        let meta = Meta { store: 1, applied_index: 2, revision: 3, compact_revision: 4 };
        let leases = vec![LeaseRecord { id: -5, ttl_ms: 6, checkpoint_ms: 7 }];
        let saved = Saved { meta, leases, extras: vec![("auth".into(), vec![1, 2, 3])] };
        let head = Head { saved, parts: vec![Part { id: 9, bytes: 1000, count: 80, dead }] };
        let bytes = head.encode();
        let again = Head::decode(&bytes).unwrap();
        assert_eq!((&again.saved, again.parts[0].count, &again.parts[0].dead), (&head.saved, 80, &head.parts[0].dead));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert!(Head::decode(&damaged).is_err());
            assert!(Head::decode(&bytes[..at]).is_err());
        }
    }
}
