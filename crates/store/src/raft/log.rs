//! The part of Raft's log that is kept in memory, as the `raft` crate reads it: everything that is not applied, and of what is applied enough for followers
//! that are a little behind. Who needs more gets a snapshot.

use std::cell::Cell;
use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

/// What an entry costs beside its data.
const ENTRY_OVERHEAD_BYTES: usize = 96;

pub(super) struct Log {
    entries: VecDeque<Entry>,
    /// Index and term of the entry before the first.
    before: (u64, u64),
    bytes: usize,
    /// What `raft` reads once at its start.
    start: RaftState,
    /// A snapshot that can be sent now.
    offered: Option<Snapshot>,
    /// A snapshot was asked for that is not there.
    wanted: Cell<bool>,
}

fn cost(entry: &Entry) -> usize {
    ENTRY_OVERHEAD_BYTES + entry.data.len()
}

impl Log {
    /// A log that begins after `before`, an index and its term.
    pub fn new(before: (u64, u64), conf: ConfState) -> Self {
        let start = RaftState::new(HardState::default(), conf);
        Self { entries: VecDeque::new(), before, bytes: 0, start, offered: None, wanted: Cell::new(false) }
    }

    /// What the log on disk says about votes and commits.
    pub fn set_hard_state(&mut self, hard: HardState) {
        self.start.hard_state = hard;
    }

    pub fn first(&self) -> u64 {
        self.before.0 + 1
    }

    pub fn last(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    fn last_term(&self) -> u64 {
        self.entries.back().map_or(self.before.1, |entry| entry.term)
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first())?).ok()
    }

    pub fn term_of(&self, index: u64) -> Option<u64> {
        if index == self.before.0 {
            return Some(self.before.1);
        }
        self.entries.get(self.place(index)?).map(|entry| entry.term)
    }

    /// Adds entries that are durable. They take the place of what is there from their first index on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        if let Some(place) = self.place(first.index)
            && place < self.entries.len()
        {
            self.bytes -= self.entries.drain(place..).map(|entry| cost(&entry)).sum::<usize>();
        }
        debug_assert_eq!(first.index, self.last() + 1, "entries follow one another");
        self.bytes += entries.iter().map(cost).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// The state up to `index` came from elsewhere: nothing before it counts any more, nor what follows it.
    pub fn reset(&mut self, index: u64, term: u64) {
        self.entries.clear();
        self.bytes = 0;
        self.before = (index, term);
        self.offered = None;
    }

    /// Forgets applied entries that are more than allowed. `applied` is the last that may go.
    pub fn trim(&mut self, applied: u64, keep_entries: u64, keep_bytes: usize) {
        while let Some(oldest) = self.entries.front()
            && oldest.index <= applied
            && (self.bytes > keep_bytes || applied - oldest.index >= keep_entries)
        {
            self.before = (oldest.index, oldest.term);
            self.bytes -= cost(oldest);
            self.entries.pop_front();
        }
        // A snapshot that the log does not reach any more is of no use.
        if self.offered.as_ref().is_some_and(|offered| offered.get_metadata().index < self.before.0) {
            self.offered = None;
        }
    }

    /// Whether somebody could not get a snapshot since the last call.
    pub fn take_wanted(&mut self) -> bool {
        self.wanted.take()
    }

    pub fn withdraw(&mut self) {
        self.offered = None;
    }

    pub fn offer(&mut self, snapshot: Snapshot) {
        self.offered = Some(snapshot);
    }
}

impl Storage for Log {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.start.clone())
    }

    fn entries(&self, low: u64, high: u64, max_size: impl Into<Option<u64>>, _: GetEntriesContext) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let (Some(start), Some(end)) = (self.place(low), self.place(high)) else {
            return Err(raft::Error::Store(StorageError::Unavailable));
        };
        if end > self.entries.len() || start > end {
            return Err(raft::Error::Store(StorageError::Unavailable));
        }
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0;
        let taken = self.entries.range(start..end).enumerate().take_while(|(place, entry)| {
            size += entry.data.len() as u64 + 24;
            *place == 0 || size <= limit
        });
        Ok(taken.map(|(_, entry)| entry.clone()).collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_of(index) {
            Some(term) => Ok(term),
            None if index < self.before.0 => Err(raft::Error::Store(StorageError::Compacted)),
            None => Err(raft::Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        match &self.offered {
            Some(offered) if offered.get_metadata().index >= request_index => Ok(offered.clone()),
            _ => {
                self.wanted.set(true);
                Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

/// The last index and term, for a new node to compare.
impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Log({}..={} of term {})", self.first(), self.last(), self.last_term())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(terms: &[u64], first: u64) -> Vec<Entry> {
        (first..).zip(terms).map(|(index, term)| Entry { term: *term, index, data: vec![0; 10].into(), ..Entry::default() }).collect()
    }

    fn terms(log: &Log) -> Vec<u64> {
        (log.first()..=log.last()).map(|index| log.term_of(index).unwrap()).collect()
    }

    #[test]
    fn newer_entries_replace_older() {
        let mut log = Log::new((0, 0), ConfState::default());
        log.append(&entries(&[1, 1, 1, 1], 1));
        log.append(&entries(&[2, 2], 3));
        assert_eq!(terms(&log), [1, 1, 2, 2]);
        log.append(&entries(&[3], 2));
        assert_eq!((terms(&log), log.last()), (vec![1, 3], 2));
        assert_eq!(log.bytes, 2 * (10 + ENTRY_OVERHEAD_BYTES));
        log.reset(9, 4);
        assert_eq!((log.first(), log.last(), log.term_of(9), log.bytes), (10, 9, Some(4), 0));
    }

    #[test]
    fn only_applied_entries_are_forgotten() {
        let check = |applied, keep_entries, keep_bytes, first| {
            let mut log = Log::new((0, 0), ConfState::default());
            log.append(&entries(&[1; 10], 1));
            log.trim(applied, keep_entries, keep_bytes);
            assert_eq!(log.first(), first, "{applied} {keep_entries} {keep_bytes}");
            assert!(log.term_of(first - 1).is_some());
        };
        check(5, 0, usize::MAX, 6);
        check(5, 2, usize::MAX, 4);
        check(5, 100, 0, 6);
        check(5, 100, 7 * (10 + ENTRY_OVERHEAD_BYTES), 4);
        check(0, 0, 0, 1);
    }
}
