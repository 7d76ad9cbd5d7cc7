//! What goes on behind the writer's back: saving the applied state, so that the log can be short, and removing what is compacted, in small steps.
//!
//! Only saved versions are swept, so the changes after the last save are always complete in the index. After each step it rests: whoever writes comes first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::checkpoint::{Checkpoint, Meta, Saved, View};
use crate::commit::sweep_step;
use crate::index::Item;
use crate::kv::{KvError, Revision};
use crate::planted::planted;
use crate::raft::journal::Marks;
use crate::shelf::Shelf;
use crate::stats::stats;
use crate::wal::Segments;
use crate::watch::Shared;

/// Versions collected under one read lock.
const COLLECT_BUDGET: usize = if cfg!(test) { 8 } else { 2048 };
/// A sweep rests this many times as long as it holds the state.
const SWEEP_REST: u32 = 3;
const MAX_REST: Duration = Duration::from_millis(200);
/// A failed save is tried again after this.
const RETRY: Duration = Duration::from_secs(5);

type Done = oneshot::Sender<Result<(), KvError>>;

#[derive(Default)]
struct Orders {
    checkpoint: bool,
    sweep: bool,
    waiting: Vec<Done>,
    views: Vec<oneshot::Sender<Result<View, KvError>>>,
    close: Option<Option<Done>>,
}

/// Where the keeper finds what it should do next; orders that were not begun yet merge.
#[derive(Default)]
pub(crate) struct Desk {
    orders: Mutex<Orders>,
    changed: Condvar,
    disk_bytes: AtomicU64,
    /// The disk is so full that the store must not grow.
    is_short: AtomicBool,
}

impl Desk {
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

    /// Everything as it is now, to be read at leisure.
    pub fn order_view(&self) -> oneshot::Receiver<Result<View, KvError>> {
        let (sender, view) = oneshot::channel();
        self.order(|orders| {
            orders.checkpoint = true;
            orders.views.push(sender);
        });
        view
    }

    /// The last order. `done` is told when everything is saved and the files are let go.
    pub fn order_close(&self, done: Option<Done>) {
        self.order(|orders| orders.close = Some(done));
    }

    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// Whether what makes the store bigger must be refused.
    pub fn is_short(&self) -> bool {
        self.is_short.load(Ordering::Relaxed)
    }

    fn take(&self) -> Orders {
        let mut orders = self.orders.lock();
        while !orders.checkpoint && !orders.sweep && orders.close.is_none() {
            if !self.is_short() {
                self.changed.wait(&mut orders);
            } else if self.changed.wait_for(&mut orders, RETRY).timed_out() {
                orders.checkpoint = true;
            }
        }
        std::mem::take(&mut orders)
    }

    /// Rests, but not longer than until the store is closed.
    fn rest(&self, time: Duration) {
        let mut orders = self.orders.lock();
        if orders.close.is_none() {
            self.changed.wait_while_for(&mut orders, |orders| orders.close.is_none(), time.min(MAX_REST));
        }
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
    /// What a member of a cluster still needs of its log.
    pub marks: Option<Arc<Marks>>,
    /// How far the last save is.
    pub saved: Meta,
}

impl Keeper {
    /// Serves until the store is closed. `guard` is let go before the closing is reported.
    pub fn run<G>(keeper: Arc<Mutex<Self>>, desk: &Arc<Desk>, healthy: oneshot::Sender<()>, guard: G) {
        let pace = desk.clone();
        keeper.lock().checkpoint.pace = Box::new(move |took| pace.rest(took));
        keeper.lock().measure(desk);
        loop {
            let orders = desk.take();
            let mut this = keeper.lock();
            let mut result = this.save();
            if orders.sweep && result.is_ok() {
                result = this.sweep(&|took| desk.rest(took * SWEEP_REST));
            }
            this.measure(desk);
            for view in orders.views {
                let none = || KvError::Internal("nothing is saved".into());
                let _ = view.send(result.clone().and_then(|()| this.checkpoint.view().ok_or_else(none)));
            }
            drop(this);
            if let Err(error) = &result {
                tracing::warn!(%error, "the applied state could not be saved; nothing is lost, but the log grows until it can");
            }
            for done in orders.waiting {
                let _ = done.send(result.clone());
            }
            if let Some(close) = orders.close {
                drop((keeper, guard));
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

    fn measure(&mut self, desk: &Desk) {
        let is_short = !self.checkpoint.has_reserve();
        if is_short != desk.is_short.swap(is_short, Ordering::Relaxed) {
            if is_short {
                tracing::warn!("the disk is full: the store takes only what makes room, until there is space");
            } else {
                tracing::info!("there is space on the disk again");
            }
        }
        desk.disk_bytes.store(self.segments.size_bytes() + self.checkpoint.size_bytes(), Ordering::Relaxed);
    }

    /// Saves what was applied since the last save and shortens the log.
    pub fn save(&mut self) -> Result<(), KvError> {
        let saved = {
            let state = self.shared.state.read();
            let meta = Meta {
                store: self.saved.store,
                applied_index: if planted!(SavedWithoutIndex) { self.saved.applied_index } else { state.applied_index },
                revision: state.revision,
                compact_revision: state.compact_revision,
            };
            Saved { meta, leases: state.leases.records(), extras: state.extras() }
        };
        let meta = saved.meta;
        if meta != self.saved || self.checkpoint.is_new() {
            if planted!(LogCutBeforeSave) {
                let _ = self.segments.remove_up_to(meta.applied_index);
            }
            let versions = self.collect(meta.revision - Revision::from(planted!(SavedAheadOfContent)));
            let began = base::clock::monotonic();
            self.checkpoint.save(saved, &versions)?;
            stats().saves.observe(began.elapsed());
            self.saved = meta;
            self.publish();
        }
        let cannot = |error: std::io::Error| KvError::Unavailable(format!("old log files cannot be removed: {error}"));
        let applied = self.saved.applied_index;
        self.segments.remove_up_to(self.marks.as_ref().map_or(applied, |marks| marks.removable(applied))).map_err(cannot)
    }

    fn collect(&self, last: Revision) -> Vec<Item> {
        let mut versions = Vec::new();
        let mut from = Some(self.saved.revision + 1);
        while let Some(revision) = from.filter(|revision| *revision <= last) {
            let state = self.shared.state.read();
            from = state.index.changes_from(revision, COLLECT_BUDGET, |version| {
                if version.mod_revision <= last {
                    versions.push(Item::of(version));
                }
                1
            });
        }
        versions
    }

    /// Shows readers where the values are now; what is saved need not stay in memory after that.
    fn publish(&self) {
        let segments = self.checkpoint.segments();
        let residents = {
            let mut state = self.shared.state.write();
            let residents = state.index.shelf.residents.clone();
            state.index.shelf = Arc::new(Shelf::new(segments, residents.clone()));
            residents
        };
        residents.set_saved(self.saved.revision);
    }

    /// Removes what is compacted and saved, first from memory, then from the checkpoint. `rest` is called with the time that each step took.
    pub fn sweep(&mut self, rest: &dyn Fn(Duration)) -> Result<(), KvError> {
        let mut removed = Vec::new();
        loop {
            let started = base::clock::monotonic();
            let more = sweep_step(&self.shared, self.saved.revision, &mut removed);
            let took = started.elapsed();
            if planted!(DeletedKeyVisible) {
                removed.retain(|version| version.is_deletion());
            }
            self.checkpoint.bury(&removed);
            removed.clear();
            if !more {
                break;
            }
            rest(took);
        }
        self.checkpoint.settle()?;
        self.publish();
        while self.checkpoint.tidy()? {
            self.publish();
        }
        Ok(())
    }
}
