//! Where values are: in memory while they are new or often read, else in the segments of the checkpoint. Bounded memory; no order of keys.
//!
//! A version that is not saved yet keeps its value. Whoever holds a `Shelf` from under the state's lock finds every value that the state had then.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::index::{Item, Version};
use crate::kv::{KvError, Revision};
use crate::segment::{Segment, stored_bytes};

/// Two values so near to each other are read together.
const GAP_BYTES: u64 = 4 << 10;
const READ_BYTES: u64 = 1 << 20;
/// What is read for a larger answer does not push everything else out of memory.
const KEPT_OF_ONE_READ: usize = 2048;
/// What a value in memory costs beside its bytes.
const RESIDENT_OVERHEAD_BYTES: u64 = 64;
/// Values that were read since they came in get another turn, so many at a time.
const TURNS: usize = 16;

/// The saved versions, and the values in memory.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    /// In order.
    segments: Vec<Arc<Segment>>,
    pub residents: Arc<Residents>,
}

impl Shelf {
    pub fn new(segments: Vec<Arc<Segment>>, residents: Arc<Residents>) -> Self {
        Self { segments, residents }
    }

    /// A version's value; reads the disk when it is not in memory.
    pub fn value(&self, version: &Arc<Version>) -> Result<Bytes, KvError> {
        let mut item = Item::of(version);
        self.fill(std::slice::from_mut(&mut item))?;
        Ok(item.value.expect("filled just now"))
    }

    /// Finds the values of all items. Blocks on the disk where they are not in memory.
    pub fn fill(&self, items: &mut [Item]) -> Result<(), KvError> {
        let mut cold = Vec::new();
        for (n, item) in items.iter_mut().enumerate() {
            if item.value.is_some() {
                continue;
            }
            item.value = item.version.resident();
            if item.value.is_none() {
                let (segment, number) = self.find(&item.version)?;
                cold.push(Cold { segment, number, offset: self.segments[segment].offset(number), item: n });
            }
        }
        cold.sort_unstable_by_key(|cold| (cold.segment, cold.offset));
        let keep = cold.len() <= KEPT_OF_ONE_READ;
        let mut rest = &cold[..];
        while let [first, ..] = rest {
            let end_of = |cold: &Cold| cold.offset + stored_bytes(items[cold.item].version.length);
            let mut end = end_of(first);
            let together = rest.iter().take_while(|cold| {
                let near = cold.segment == first.segment && cold.offset <= end + GAP_BYTES && end_of(cold) - first.offset <= READ_BYTES;
                end = if near { end.max(end_of(cold)) } else { end };
                near
            });
            // The first one is read however large it is.
            let (now, later) = rest.split_at(together.count().max(1));
            self.read(now, end, items, keep)?;
            rest = later;
        }
        Ok(())
    }

    fn read(&self, run: &[Cold], end: u64, items: &mut [Item], keep: bool) -> Result<(), KvError> {
        let segment = &self.segments[run[0].segment];
        let base = run[0].offset;
        let data = segment.read(base, usize::try_from(end - base).expect("a run fits into memory"))?;
        for cold in run {
            let item = &mut items[cold.item];
            let value = Bytes::copy_from_slice(segment.value_in(cold.number, item.version.length, base, &data)?);
            if keep {
                self.residents.add(&item.version, value.clone());
            }
            item.value = Some(value);
        }
        Ok(())
    }

    fn find(&self, version: &Version) -> Result<(usize, usize), KvError> {
        let place = (version.mod_revision, version.sub);
        let after = self.segments.partition_point(|segment| segment.first() <= place);
        let found = after.checked_sub(1).and_then(|at| Some((at, self.segments[at].find(place.0, place.1)?)));
        found.ok_or_else(|| KvError::Internal(format!("the value of change {} of revision {} is nowhere", place.1, place.0)))
    }
}

struct Cold {
    segment: usize,
    number: usize,
    offset: u64,
    item: usize,
}

/// The values in memory, oldest first.
#[derive(Debug)]
pub(crate) struct Residents {
    queue: Mutex<Queue>,
    /// `None`: nothing is ever saved, so everything stays.
    budget_bytes: Option<u64>,
    /// Versions up to here can be read from the segments.
    saved: AtomicI64,
}

#[derive(Debug, Default)]
struct Queue {
    versions: VecDeque<Arc<Version>>,
    bytes: u64,
}

impl Default for Residents {
    fn default() -> Self {
        Self { queue: Mutex::default(), budget_bytes: None, saved: AtomicI64::new(0) }
    }
}

impl Residents {
    pub fn new(budget_bytes: u64, saved: Revision) -> Self {
        Self { budget_bytes: Some(budget_bytes), saved: AtomicI64::new(saved), ..Self::default() }
    }

    /// Everything up to `revision` is saved, and whoever asks the state for its shelf finds it there.
    pub fn set_saved(&self, revision: Revision) {
        self.saved.store(revision, Ordering::Release);
        if let Some(budget) = self.budget_bytes {
            self.make_room(&mut self.queue.lock(), budget);
        }
    }

    /// Counts a version that came with its value.
    pub fn added(&self, version: &Arc<Version>) {
        let Some(budget) = self.budget_bytes.filter(|_| version.length > 0) else { return };
        let mut queue = self.queue.lock();
        queue.bytes += u64::from(version.length) + RESIDENT_OVERHEAD_BYTES;
        queue.versions.push_back(version.clone());
        self.make_room(&mut queue, budget);
    }

    /// Keeps a value that was read.
    fn add(&self, version: &Arc<Version>, value: Bytes) {
        let small = self.budget_bytes.is_none_or(|budget| (value.len() as u64) < budget / 16);
        if small && version.set_resident(value) {
            self.added(version);
        }
    }

    fn make_room(&self, queue: &mut Queue, budget: u64) {
        let saved = self.saved.load(Ordering::Acquire);
        let mut turns = TURNS;
        while queue.bytes > budget
            && let Some(oldest) = queue.versions.front()
            && oldest.mod_revision <= saved
        {
            let oldest = queue.versions.pop_front().expect("front was just seen");
            if turns > 0 && oldest.was_touched() {
                turns -= 1;
                queue.versions.push_back(oldest);
                continue;
            }
            queue.bytes -= u64::from(oldest.length) + RESIDENT_OVERHEAD_BYTES;
            oldest.release();
        }
    }
}
