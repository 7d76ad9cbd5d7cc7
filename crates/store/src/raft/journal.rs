//! A member's use of the write-ahead log: entries and hard state in, one sync for all that goes in together; and which of it may be removed.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use raft::eraftpb::{Entry, HardState};

use super::records::{Identity, LogRecord};
use crate::kv::KvError;
use crate::planted::planted;
use crate::wal::{Segments, Wal};

/// Bytes of the log between two marks.
const MARK_BYTES: u64 = 1 << 20;

/// Which records of the log are still needed. Shared by the writer, who adds, and the keeper, who removes.
///
/// Needed are: the entries that followers may still want from memory, the newest entry that is in the checkpoint and all after it, and the newest hard
/// state. Without the entry of the checkpoint a start could not tell a log that was made short from one that lost its end.
#[derive(Debug, Default)]
pub(crate) struct Marks(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Up to this record no entry was beyond this index, since the mark before.
    marks: VecDeque<(u64, u64)>,
    /// Record of the newest hard state.
    hard_state: u64,
    /// First entry that is kept in memory.
    kept_from: u64,
}

impl Marks {
    /// The last record that is not needed when the checkpoint has `applied`.
    pub fn removable(&self, applied: u64) -> u64 {
        let mut inner = self.0.lock();
        let limit = applied.min(inner.kept_from);
        let mut removable = 0;
        while let Some((record, index)) = inner.marks.front().copied()
            && index < limit
            && record < inner.hard_state
        {
            removable = record;
            inner.marks.pop_front();
        }
        removable
    }
}

pub(super) struct Journal {
    wal: Wal,
    identity: Identity,
    /// As Raft has it, and what of it is on the disk.
    hard: HardState,
    written: HardState,
    marks: Arc<Marks>,
    /// Highest index, and bytes, since the last mark.
    top: u64,
    unmarked_bytes: u64,
}

impl Journal {
    /// Goes on with a log that was read, in which no entry is beyond `top`.
    pub fn new(wal: Wal, identity: Identity, hard: HardState, hard_state_record: u64, top: u64) -> Self {
        let last = wal.last_record();
        let marks = Marks(Mutex::new(Inner { marks: VecDeque::from([(last, top)]), hard_state: hard_state_record, kept_from: 0 }));
        Self { wal, identity, written: hard.clone(), hard, marks: Arc::new(marks), top: 0, unmarked_bytes: 0 }
    }

    pub fn marks(&self) -> Arc<Marks> {
        self.marks.clone()
    }

    pub fn segments(&self) -> Segments {
        self.wal.segments()
    }

    pub fn store(&self) -> u64 {
        self.wal.store()
    }

    pub fn reserve(&mut self) -> Result<(), KvError> {
        self.wal.reserve()
    }

    /// Makes entries and hard state durable. After `NoSpace` nothing was written. A commit alone is not worth a sync: it waits for the next write.
    pub fn write(&mut self, entries: &[Entry], hard: Option<&HardState>, sync: bool) -> Result<(), KvError> {
        if let Some(hard) = hard {
            self.hard = hard.clone();
        }
        if entries.is_empty() && !sync {
            return Ok(());
        }
        let mut records = Vec::with_capacity(entries.len() + 1);
        if self.hard != self.written && !planted!(VoteNotPersisted) {
            records.push(LogRecord::HardState(self.identity, self.hard.clone()));
        }
        records.extend(entries.iter().map(LogRecord::Entry));
        if records.is_empty() {
            return Ok(());
        }
        self.wal.append(&records)?;
        let has_hard_state = self.hard != self.written;
        self.written = self.hard.clone();
        self.note(entries, has_hard_state.then_some(records.len()));
        Ok(())
    }

    /// Raft's commit moved on after the write.
    pub fn committed(&mut self, commit: u64) {
        self.hard.commit = commit;
    }

    /// The first records of a log.
    pub fn begin(&mut self, entries: &[Entry], hard: &HardState) -> Result<(), KvError> {
        self.hard = hard.clone();
        let mut records = vec![LogRecord::HardState(self.identity, hard.clone())];
        records.extend(entries.iter().map(LogRecord::Entry));
        self.wal.append(&records)?;
        self.written = hard.clone();
        self.note(entries, Some(records.len()));
        Ok(())
    }

    /// From here on the state up to `index` is a snapshot's; the entries before do not count any more.
    pub fn reset(&mut self, index: u64, term: u64) -> Result<(), KvError> {
        self.hard.commit = self.hard.commit.max(index);
        self.wal.append(&[LogRecord::HardState(self.identity, self.hard.clone()), LogRecord::Reset { index, term }])?;
        self.written = self.hard.clone();
        self.top = self.top.max(index);
        self.note(&[], Some(2));
        Ok(())
    }

    fn note(&mut self, entries: &[Entry], records_with_hard_state: Option<usize>) {
        let last = self.wal.last_record();
        self.top = entries.last().map_or(self.top, |entry| self.top.max(entry.index));
        self.unmarked_bytes += entries.iter().map(|entry| entry.data.len() as u64 + 32).sum::<u64>() + 64;
        let mut inner = self.marks.0.lock();
        if let Some(records) = records_with_hard_state {
            inner.hard_state = last + 1 - records as u64;
        }
        if self.unmarked_bytes >= MARK_BYTES || cfg!(test) {
            inner.marks.push_back((last, self.top));
            self.top = 0;
            self.unmarked_bytes = 0;
        }
    }

    pub fn keep_from(&self, first: u64) {
        self.marks.0.lock().kept_from = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_needs_is_removable() {
        let check = |kept_from, hard_state, applied, expected| {
            let marks = VecDeque::from([(10, 5), (20, 9), (30, 14)]);
            let marks = Marks(Mutex::new(Inner { marks, hard_state, kept_from }));
            assert_eq!(marks.removable(applied), expected, "{kept_from} {hard_state} {applied}");
        };
        check(100, 100, 5, 0);
        check(100, 100, 6, 10);
        check(100, 100, 9, 10);
        check(100, 100, 99, 30);
        check(100, 25, 99, 20);
        check(7, 100, 99, 10);
        check(0, 100, 99, 0);
    }
}
