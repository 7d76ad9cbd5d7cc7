//! What a member writes into its write-ahead log. The log itself knows nothing of it.
//!
//! ```text
//! 0xE1  entry       kind u8 | term | index | data to the end of the record
//! 0xE2  hard state  cluster | member | term | vote | commit
//! 0xE3  reset       index | term           the state up to there comes from a snapshot, entries before it do not count
//! ```
//!
//! Integers are LEB128. An entry with an index that was there already takes the place of it and of all that follow. Commands of a store that is no member
//! begin with other bytes, so the one is never taken for the other.

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState};

use super::cluster::Conf;
use crate::codec::{DecodeError, Reader, put_uint};
use crate::wal::Record;

const ENTRY: u8 = 0xE1;
const HARD_STATE: u8 = 0xE2;
const RESET: u8 = 0xE3;

/// Which member's the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub cluster: u64,
    pub member: u64,
}

#[derive(Debug, PartialEq)]
pub(super) enum LogRecord<'a> {
    Entry(&'a Entry),
    HardState(Identity, HardState),
    Reset { index: u64, term: u64 },
}

#[derive(Debug, PartialEq)]
pub(super) enum Recorded {
    Entry(Entry),
    HardState(Identity, HardState),
    Reset { index: u64, term: u64 },
}

impl Record for LogRecord<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry(entry) => {
                out.push(ENTRY);
                out.push(kind_to_byte(entry.get_entry_type()));
                put_uint(out, entry.term);
                put_uint(out, entry.index);
                out.extend_from_slice(&entry.data);
            }
            Self::HardState(identity, hard) => {
                out.push(HARD_STATE);
                for value in [identity.cluster, identity.member, hard.term, hard.vote, hard.commit] {
                    put_uint(out, value);
                }
            }
            Self::Reset { index, term } => {
                out.push(RESET);
                put_uint(out, *index);
                put_uint(out, *term);
            }
        }
    }
}

pub(super) fn decode(record: &[u8]) -> Result<Recorded, DecodeError> {
    let mut reader = Reader(record);
    match reader.byte()? {
        ENTRY => {
            let kind = kind_from_byte(reader.byte()?)?;
            let mut entry = Entry { term: reader.uint()?, index: reader.uint()?, ..Entry::default() };
            entry.set_entry_type(kind);
            entry.data = Bytes::copy_from_slice(reader.0);
            Ok(Recorded::Entry(entry))
        }
        HARD_STATE => {
            let identity = Identity { cluster: reader.uint()?, member: reader.uint()? };
            let hard = HardState { term: reader.uint()?, vote: reader.uint()?, commit: reader.uint()?, ..HardState::default() };
            reader.end()?;
            Ok(Recorded::HardState(identity, hard))
        }
        RESET => {
            let reset = Recorded::Reset { index: reader.uint()?, term: reader.uint()? };
            reader.end()?;
            Ok(reset)
        }
        _ => Err(DecodeError("a record of a store that is no member of a cluster")),
    }
}

/// Whether a record is a member's.
pub(crate) fn is_members(record: &[u8]) -> bool {
    matches!(record.first(), Some(&ENTRY | &HARD_STATE | &RESET))
}

pub(super) fn kind_to_byte(kind: EntryType) -> u8 {
    match kind {
        EntryType::EntryNormal => 0,
        EntryType::EntryConfChange => 1,
        EntryType::EntryConfChangeV2 => 2,
    }
}

pub(super) fn kind_from_byte(byte: u8) -> Result<EntryType, DecodeError> {
    match byte {
        0 => Ok(EntryType::EntryNormal),
        2 => Ok(EntryType::EntryConfChangeV2),
        _ => Err(DecodeError("an unknown kind of entry")),
    }
}

pub(super) fn conf_from_raft(conf: &raft::eraftpb::ConfState) -> Conf {
    let sorted = |ids: &[u64]| {
        let mut ids = ids.to_vec();
        ids.sort_unstable();
        ids
    };
    Conf {
        voters: sorted(&conf.voters),
        learners: sorted(&conf.learners),
        voters_outgoing: sorted(&conf.voters_outgoing),
        learners_next: sorted(&conf.learners_next),
        auto_leave: conf.auto_leave,
    }
}

pub(super) fn conf_to_raft(conf: &Conf) -> raft::eraftpb::ConfState {
    raft::eraftpb::ConfState {
        voters: conf.voters.clone(),
        learners: conf.learners.clone(),
        voters_outgoing: conf.voters_outgoing.clone(),
        learners_next: conf.learners_next.clone(),
        auto_leave: conf.auto_leave,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(record: &LogRecord<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        record.write(&mut out);
        out
    }

    #[test]
    fn records_survive() {
        let mut entry = Entry { term: 3, index: 400, data: "abc".into(), ..Entry::default() };
        entry.set_entry_type(EntryType::EntryConfChangeV2);
        assert_eq!(decode(&bytes(&LogRecord::Entry(&entry))).unwrap(), Recorded::Entry(entry));
        let hard = HardState { term: 9, vote: u64::MAX, commit: 5, ..HardState::default() };
        let identity = Identity { cluster: u64::MAX, member: 7 };
        let encoded = bytes(&LogRecord::HardState(identity, hard.clone()));
        assert_eq!(decode(&encoded).unwrap(), Recorded::HardState(identity, hard));
        assert!(is_members(&encoded) && !is_members(&[1]) && !is_members(&[]));
        assert_eq!(decode(&bytes(&LogRecord::Reset { index: 1, term: 2 })).unwrap(), Recorded::Reset { index: 1, term: 2 });
        for cut in 0..encoded.len() {
            assert!(decode(&encoded[..cut]).is_err());
        }
    }
}
