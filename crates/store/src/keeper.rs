//! What goes on behind the writer's back: saving the applied state, so that the log can be short, and removing what is compacted, in small steps.
//!
//! Only saved versions are swept, so the changes after the last save are always complete in the index.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::checkpoint::{Checkpoint, Meta};
use crate::commit::sweep_step;
use crate::index::Version;
use crate::kv::{KvError, Revision};
use crate::planted::planted;
use crate::stats::stats;
use crate::wal::Segments;
use crate::watch::Shared;

/// Versions collected under one read lock.
const COLLECT_BUDGET: usize = if cfg!(test) { 8 } else { 2048 };
/// Versions removed from the checkpoint in one of its transactions.
const REMOVE_BATCH: usize = 4096;
/// A failed save is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

type Done = oneshot::Sender<Result<(), KvError>>;

#[derive(Default)]
struct Orders {
    checkpoint: bool,
    sweep: bool,
    waiting: Vec<Done>,
    close: Option<Option<Done>>,
}

/// Where the keeper finds what it should do next; orders that were not begun yet merge.
#[derive(Default)]
pub(crate) struct Desk {
    orders: Mutex<Orders>,
    changed: Condvar,
    disk_bytes: AtomicU64,
    /// Identity of the data folder.
    pub store: u64,
}

impl Desk {
    pub fn new(store: u64) -> Self {
        Self { store, ..Self::default() }
    }

    fn order(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock());
        self.changed.notify_one();
    }

    pub fn order_checkpoint(&self) {
        self.order(|orders| orders.checkpoint = true);
    }

    pub fn order_sweep(&self) {
        self.order(|orders| orders.sweep = true);
    }

    pub fn order_sweep_and_wait(&self) -> oneshot::Receiver<Result<(), KvError>> {
        let (done, answer) = oneshot::channel();
        self.order(|orders| {
            orders.sweep = true;
            orders.waiting.push(done);
        });
        answer
    }

    /// The last order. `done` is told when everything is saved and the files are let go.
    pub fn order_close(&self, done: Option<Done>) {
        self.order(|orders| orders.close = Some(done));
    }

    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    fn take(&self) -> Orders {
        let mut orders = self.orders.lock();
        while !orders.checkpoint && !orders.sweep && orders.close.is_none() {
            self.changed.wait(&mut orders);
        }
        std::mem::take(&mut orders)
    }

    /// Waits before a second try, but not longer than until the store is closed.
    fn pause(&self) {
        let mut orders = self.orders.lock();
        if orders.close.is_none() {
            self.changed.wait_while_for(&mut orders, |orders| orders.close.is_none(), RETRY);
        }
    }
}

pub(crate) struct Keeper {
    pub shared: Arc<Shared>,
    pub checkpoint: Checkpoint,
    pub segments: Segments,
    /// How far the last save is.
    pub saved: Meta,
    /// Swept from memory but not yet from the checkpoint. Oldest first for each key, so that a deletion never goes before what it deleted.
    pub unremoved: Vec<Arc<Version>>,
}

impl Keeper {
    /// Serves until the store is closed. `guard` is let go before the closing is reported.
    pub fn run<G>(mut self, desk: &Desk, healthy: oneshot::Sender<()>, guard: G) {
        self.measure(desk);
        loop {
            let orders = desk.take();
            let mut result = self.save();
            if orders.sweep && result.is_ok() {
                result = self.sweep();
            }
            self.measure(desk);
            if let Err(error) = &result {
                tracing::warn!(%error, "the applied state could not be saved; nothing is lost, but the log grows until it can");
            }
            for done in orders.waiting {
                let _ = done.send(result.clone());
            }
            if let Some(close) = orders.close {
                drop((self, guard));
                if let Some(done) = close {
                    let _ = done.send(result);
                }
                let _ = healthy.send(());
                return;
            }
            if result.is_err() {
                desk.order(|again| (again.checkpoint, again.sweep) = (true, again.sweep || orders.sweep));
                desk.pause();
            }
        }
    }

    fn measure(&self, desk: &Desk) {
        desk.disk_bytes.store(self.segments.size_bytes() + self.checkpoint.size_bytes(), Ordering::Relaxed);
    }

    /// Saves what was applied since the last save and shortens the log.
    pub fn save(&mut self) -> Result<(), KvError> {
        let (meta, leases, extras) = {
            let state = self.shared.state.read();
            let meta = Meta {
                store: self.saved.store,
                applied_index: if planted!(SavedWithoutIndex) { self.saved.applied_index } else { state.applied_index },
                revision: state.revision,
                compact_revision: state.compact_revision,
            };
            (meta, state.leases.records(), state.extras())
        };
        if meta != self.saved {
            if planted!(LogCutBeforeSave) {
                let _ = self.segments.remove_up_to(meta.applied_index);
            }
            let versions = self.collect(meta.revision - Revision::from(planted!(SavedAheadOfContent)));
            let began = base::clock::monotonic();
            self.checkpoint.save(&meta, &leases, &extras, &versions)?;
            stats().saves.observe(began.elapsed());
            self.saved = meta;
        }
        let cannot = |error: std::io::Error| KvError::Unavailable(format!("old log files cannot be removed: {error}"));
        self.segments.remove_up_to(self.saved.applied_index).map_err(cannot)
    }

    fn collect(&self, last: Revision) -> Vec<Arc<Version>> {
        let mut versions = Vec::new();
        let mut from = Some(self.saved.revision + 1);
        while let Some(revision) = from.filter(|revision| *revision <= last) {
            let state = self.shared.state.read();
            from = state.index.changes_from(revision, COLLECT_BUDGET, |version| {
                if version.mod_revision <= last {
                    versions.push(version.clone());
                }
            });
        }
        versions
    }

    /// Removes what is compacted and saved, first from memory, then from the checkpoint.
    pub fn sweep(&mut self) -> Result<(), KvError> {
        loop {
            let more = sweep_step(&self.shared, self.saved.revision, &mut self.unremoved);
            if !self.unremoved.is_empty() && (self.unremoved.len() >= REMOVE_BATCH || !more) {
                if planted!(DeletedKeyVisible) {
                    self.unremoved.retain(|version| version.is_deletion());
                }
                self.checkpoint.remove(&self.unremoved)?;
                self.unremoved.clear();
            }
            if !more {
                return Ok(());
            }
        }
    }
}
