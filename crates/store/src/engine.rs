//! The embedded store: glue between callers, the log, the state machine and the watchers. Holds no rule of its own about keys or revisions.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Notify;

use crate::auth::{self, AuthError, Caller, Identity};
use crate::check;
use crate::codec;
use crate::commit::Sink;
use crate::export::{History, SnapshotMeta, SnapshotReader};
use crate::index::Found;
use crate::kv::*;
use crate::lease::MAX_TTL_S;
use crate::options::EngineOptions;
use crate::planted::planted;
use crate::raft::reads::LeaseAsk;
use crate::range;
use crate::recovery;
use crate::reply::{Reply, beside};
use crate::shelf::Shelf;
use crate::state::{Command, State};
use crate::stats::stats;
use crate::watch::{EngineWatch, Hub, Shared, WatchSet};

/// Keys that a read visits under one hold of the lock.
const SCAN_BUDGET: usize = if cfg!(test) { 2 } else { 2048 };
/// Leases longer than this have their remaining time recorded so often (lease.go's default checkpoint interval).
const LEASE_CHECKPOINT_MS: u64 = 300_000;
const LEASES_ENDED_AT_ONCE: usize = 64;
const LEASE_RETRY_MS: u64 = 1000;

/// etcd's model in this process. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
    /// In whose name the store is used.
    pub(crate) identity: Identity,
}

struct Inner {
    shared: Arc<Shared>,
    options: EngineOptions,
    sink: Sink,
    /// The next deadline of a lease may have become earlier.
    lease_changed: Arc<Notify>,
}

impl Engine {
    /// Opens the store in `dir`, or makes it. Blocks while it reads the checkpoint and the log. Call it inside a tokio runtime.
    ///
    /// Fails with `Corrupt` when the files are damaged or written by a newer program and with `Unavailable` when they cannot be used, as while another
    /// process holds them. Nothing is changed then, and the text says what to do.
    pub fn open(dir: &Path, options: EngineOptions, tasks: &base::Tasks) -> Result<Self, KvError> {
        let (shared, sink) = recovery::open(dir, &options, tasks)?;
        Ok(Self::start(shared, sink, options, tasks))
    }

    /// A store without files, for tests and throw-away clusters.
    pub fn in_memory(options: EngineOptions, tasks: &base::Tasks) -> Self {
        let shared = Arc::new(Shared::new(State::default()));
        Self::start(shared.clone(), Sink::memory(shared), options, tasks)
    }

    /// A member of a cluster, whose leases its leader looks after.
    pub(crate) fn start_member(shared: Arc<Shared>, sink: Sink, options: EngineOptions) -> Self {
        let inner = Arc::new(Inner { shared, options, sink, lease_changed: Arc::default() });
        Self { inner, identity: Identity::Anonymous }
    }

    pub(crate) fn start(shared: Arc<Shared>, sink: Sink, options: EngineOptions, tasks: &base::Tasks) -> Self {
        let engine = Self::start_member(shared, sink, options);
        let lease_changed = engine.inner.lease_changed.clone();
        let weak = Arc::downgrade(&engine.inner);
        tasks.spawn_critical("store leases", async move {
            // Holds the store only while it works, so that dropping the last handle closes it.
            let mut checkpoint_at_ms = LEASE_CHECKPOINT_MS;
            while let Some(inner) = weak.upgrade() {
                let engine = Engine { inner, identity: Identity::Server };
                if engine.inner.sink.check_open().is_err() {
                    break;
                }
                if engine.inner.shared.now_ms() >= checkpoint_at_ms {
                    checkpoint_at_ms = engine.inner.shared.now_ms() + LEASE_CHECKPOINT_MS;
                    engine.checkpoint_leases().await;
                }
                let wait_ms = engine.end_leases().await;
                drop(engine);
                let _ = tokio::time::timeout(Duration::from_millis(wait_ms), lease_changed.notified()).await;
            }
            std::future::pending().await
        });
        engine
    }

    /// Finishes what is under way, writes a checkpoint, ends all watches and lets go of the files. Later calls answer `Unavailable`.
    pub async fn close(&self) -> Result<(), KvError> {
        let result = self.inner.sink.close().await;
        self.inner.shared.hub.close(closed());
        result
    }

    /// Number of running watches.
    pub fn watcher_count(&self) -> usize {
        self.inner.shared.hub.watcher_count()
    }

    /// The newest revision.
    pub fn revision(&self) -> Revision {
        self.inner.shared.state.read().revision
    }

    /// How many commands were applied since the store was made, those without a revision included.
    pub fn applied_index(&self) -> u64 {
        self.inner.shared.state.read().applied_index
    }

    /// Every version up to `revision` (0: the newest) that is not compacted, deletions included, in the order in which they were written.
    pub async fn history(&self, revision: Revision) -> Result<History, KvError> {
        'again: loop {
            let mut found = Vec::new();
            let mut from = None;
            let mut pinned = None;
            loop {
                {
                    let state = self.inner.shared.state.read();
                    let (at, compacted) = match pinned {
                        None => *pinned.insert((state.pin(revision)?, state.compact_revision)),
                        // A compaction in between removes from both sides of the scan.
                        Some((_, compacted)) if compacted != state.compact_revision => continue 'again,
                        Some(pinned) => pinned,
                    };
                    from = state.index.history(from.as_ref(), compacted, at, SCAN_BUDGET, &mut found);
                    if from.is_none() {
                        return Ok(History::new(at, compacted, found, state.index.shelf.clone()));
                    }
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// The whole store at this moment. What is read from it does not change, whatever is written or compacted meanwhile.
    pub async fn snapshot(&self) -> Result<SnapshotReader, KvError> {
        self.inner.sink.check_open()?;
        if let Some(view) = self.inner.sink.view().await? {
            return Ok(SnapshotReader::saved(view));
        }
        let state = self.inner.shared.state.read();
        let meta = SnapshotMeta {
            store: 0,
            applied_index: state.applied_index,
            revision: state.revision,
            compact_revision: state.compact_revision,
        };
        let mut items = Vec::new();
        state.index.history(None, state.compact_revision, state.revision, usize::MAX, &mut items);
        let (leases, extras) = (state.leases.records(), state.extras());
        drop(state);
        Ok(SnapshotReader::memory(meta, leases, extras, items))
    }

    /// What a range has in memory, with the store's revision. Large ranges are scanned in steps.
    fn scan(&self, request: &RangeRequest) -> Result<(Revision, Found, Arc<Shelf>), KvError> {
        let shared = &self.inner.shared;
        let mut budget = SCAN_BUDGET;
        'again: loop {
            let mut found = Found::default();
            let mut from = None;
            let mut pinned = None;
            loop {
                let state = shared.state.read();
                let (at, revision) = match pinned {
                    None => {
                        state.auth.check_read(&self.caller(&state)?, &request.range)?;
                        *pinned.insert((state.read_revision(request)?, state.revision))
                    }
                    Some((at, _)) if at < state.compact_revision && request.revision <= 0 => {
                        // The newest revision of a moment ago is compacted already: read the present one, in one go.
                        budget = usize::MAX;
                        continue 'again;
                    }
                    Some((at, _)) if at < state.compact_revision => {
                        return Err(KvError::Compacted { compact_revision: state.compact_revision });
                    }
                    Some(pinned) => pinned,
                };
                from = state.scan(request, from.as_ref(), at, budget, &mut found).next;
                if from.is_none() {
                    return Ok((revision, found, state.index.shelf.clone()));
                }
            }
        }
    }

    /// Reads the values that a transaction needs before it can be done, so that the state machine need not wait for the disk.
    async fn warm(&self, txn: &Txn) -> Result<(), KvError> {
        let (mut items, shelf) = {
            let state = self.inner.shared.state.read();
            (state.cold(txn), state.index.shelf.clone())
        };
        if items.is_empty() { Ok(()) } else { beside(move || shelf.fill(&mut items)).await }
    }

    pub(crate) fn sink(&self) -> &Sink {
        &self.inner.sink
    }

    /// An empty set of watches, for whoever serves many at once.
    pub fn watch_set(&self) -> WatchSet {
        WatchSet::new(self.inner.shared.clone(), self.inner.options.watch_progress_interval)
    }

    /// Adds a watch to a set; returns its key there.
    pub fn watch_in(&self, set: &mut WatchSet, request: WatchRequest) -> Result<u64, KvError> {
        self.inner.sink.check_open()?;
        self.check_watch(&request)?;
        set.add_checked(request)
    }

    fn check_watch(&self, request: &WatchRequest) -> Result<(), KvError> {
        let state = self.inner.shared.state.read();
        Ok(state.auth.check_read(&self.caller(&state)?, &request.range)?)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// Who uses the store, while authentication is on.
    pub(crate) fn caller(&self, state: &State) -> Result<Caller, KvError> {
        Ok(state.auth.resolve(&self.identity, self.inner.shared.now_ms())?)
    }

    /// Has a command carried out in the name of whoever uses the store. Where users or roles change on its way, he is looked at anew.
    pub(crate) async fn propose(&self, command: Command) -> Result<Reply, KvError> {
        let mut attempts = if self.identity.may_change() { auth::ATTEMPTS } else { 1 };
        loop {
            let caller = match self.identity {
                Identity::Anonymous => Caller::Anonymous,
                _ => self.caller(&self.inner.shared.state.read())?,
            };
            if caller == Caller::Anonymous {
                return self.send(command).await;
            }
            attempts -= 1;
            if attempts == 0 {
                return self.send(Command::As(caller, Box::new(command))).await;
            }
            match self.send(Command::As(caller, Box::new(command.clone()))).await {
                Err(KvError::Auth(AuthError::AuthOldRevision)) => {}
                answer => return answer,
            }
        }
    }

    async fn send(&self, command: Command) -> Result<Reply, KvError> {
        let encoded = codec::encode_after(self.inner.sink.room(), &command);
        if encoded.len() > self.inner.options.max_request_bytes && command.is_txn() {
            return Err(KvError::RequestTooLarge);
        }
        self.inner.sink.propose(command, encoded).await
    }

    fn check_quota(&self) -> Result<(), KvError> {
        let used = self.inner.shared.state.read().index.size_bytes();
        if used > self.inner.options.quota_bytes { Err(KvError::NoSpace) } else { Ok(()) }
    }

    /// Records the remaining time of long leases, so that a restart does not give them all of it again.
    async fn checkpoint_leases(&self) {
        let shared = &self.inner.shared;
        let remaining = shared.state.write().leases.remaining_of_long(LEASE_CHECKPOINT_MS, shared.now_ms());
        if !remaining.is_empty()
            && let Err(error) = self.propose(Command::LeaseCheckpoint(remaining)).await
        {
            tracing::warn!(%error, "remaining times of leases could not be recorded: after a restart they last longer");
        }
    }

    /// Ends what is due; returns after how many milliseconds to look again.
    async fn end_leases(&self) -> u64 {
        let shared = &self.inner.shared;
        let expired = shared.state.write().leases.take_expired(shared.now_ms(), LEASES_ENDED_AT_ONCE);
        for id in expired {
            stats().leases_expired.fetch_add(1, Ordering::Relaxed);
            match self.propose(Command::LeaseRevoke(id)).await {
                Ok(_) | Err(KvError::LeaseNotFound) => {}
                Err(error) => {
                    tracing::warn!(lease = id, %error, "a lease is over but its end could not be written, trying again");
                    shared.state.write().leases.end_failed(id, shared.now_ms() + LEASE_RETRY_MS);
                }
            }
        }
        let now_ms = shared.now_ms();
        let deadline_ms = shared.state.read().leases.next_deadline_ms();
        deadline_ms.map_or(LEASE_CHECKPOINT_MS, |deadline| deadline.saturating_sub(now_ms).min(LEASE_CHECKPOINT_MS))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.hub.close(closed());
    }
}

pub(crate) fn closed() -> KvError {
    KvError::Unavailable("the store is closed".into())
}

#[async_trait::async_trait]
impl Kv for Engine {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, KvError> {
        self.inner.sink.check_open()?;
        check::key(&request.range.key)?;
        if !request.serializable {
            self.read_barrier().await?;
        }
        let (revision, found, shelf) = self.scan(&request)?;
        let ready = found.is_ready();
        let respond = move || range::respond(&request, revision, found, &shelf);
        if ready { respond() } else { beside(respond).await }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnResponse, KvError> {
        self.inner.sink.check_open()?;
        check::txn(&txn, self.inner.options.max_txn_ops)?;
        if check::is_read_only(&txn) {
            if !check::is_serializable(&txn) {
                self.read_barrier().await?;
            }
            self.warm(&txn).await?;
            let pending = {
                let state = self.inner.shared.state.read();
                state.auth.check_txn(&self.caller(&state)?, &txn, &state.leases)?;
                state.read_txn(&txn)?
            };
            return pending.finish().await;
        }
        if check::has_put(&txn) {
            self.check_quota()?;
        }
        self.warm(&txn).await?;
        match self.propose(Command::Txn(txn)).await? {
            Reply::Txn(pending) => pending.finish().await,
            _ => Err(KvError::Internal("a transaction got another command's answer".into())),
        }
    }

    async fn compact(&self, revision: Revision, physical: bool) -> Result<(), KvError> {
        self.propose(Command::Compact(revision)).await?;
        self.inner.sink.sweep(physical).await
    }

    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watch>, KvError> {
        self.inner.sink.check_open()?;
        self.check_watch(&request)?;
        let interval = self.inner.options.watch_progress_interval;
        Ok(Box::new(EngineWatch::new(self.inner.shared.clone(), request, interval)?))
    }

    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus, KvError> {
        // etcd counts whole seconds.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        if seconds > MAX_TTL_S {
            return Err(KvError::LeaseTtlTooLarge);
        }
        let id = if id == 0 { rand::random_range(1..LeaseId::MAX) } else { id };
        let granted_ttl = Duration::from_secs(seconds).max(self.inner.options.min_lease_ttl);
        let ttl_ms = u64::try_from(granted_ttl.as_millis()).map_err(|_| KvError::LeaseTtlTooLarge)?;
        self.propose(Command::LeaseGrant { id, ttl_ms }).await?;
        self.inner.lease_changed.notify_one();
        Ok(LeaseStatus { id, granted_ttl, remaining_ttl: granted_ttl, keys: Vec::new() })
    }

    async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError> {
        self.propose(Command::LeaseRevoke(id)).await.map(|_| ())
    }

    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError> {
        self.inner.sink.check_open()?;
        let shared = &self.inner.shared;
        if self.inner.sink.member().is_some() {
            {
                let state = shared.state.read();
                state.auth.check_renew(&self.caller(&state)?, id, &state.leases)?;
            }
            return Ok(self.ask_lease(LeaseAsk::Renew(id)).await?.remaining_ttl);
        }
        let (renewed, shortened) = {
            let mut state = shared.state.write();
            state.auth.check_renew(&self.caller(&state)?, id, &state.leases)?;
            (state.leases.renew(id, shared.now_ms())?, state.leases.has_checkpoint(id))
        };
        if shortened && !planted!(CheckpointOutlivesRenewal) {
            self.propose(Command::LeaseCheckpoint(vec![(id, 0)])).await?;
        }
        Ok(renewed)
    }

    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, KvError> {
        self.inner.sink.check_open()?;
        let shared = &self.inner.shared;
        if self.inner.sink.member().is_some() {
            {
                let state = shared.state.read();
                state.auth.check_known(&self.caller(&state)?)?;
            }
            return self.ask_lease(LeaseAsk::Status(id)).await;
        }
        let state = shared.state.read();
        state.auth.check_known(&self.caller(&state)?)?;
        state.leases.status(id, shared.now_ms())
    }

    async fn leases(&self) -> Result<Vec<LeaseId>, KvError> {
        self.inner.sink.check_open()?;
        let state = self.inner.shared.state.read();
        state.auth.check_all_leases(&self.caller(&state)?, &state.leases)?;
        Ok(state.leases.ids())
    }

    async fn status(&self) -> Result<StoreStatus, KvError> {
        self.inner.sink.check_open()?;
        let (revision, compact_revision, db_size_in_use) = {
            let state = self.inner.shared.state.read();
            (state.revision, state.compact_revision, state.index.size_bytes())
        };
        let db_size = self.inner.sink.size_bytes().unwrap_or(db_size_in_use);
        Ok(StoreStatus { revision, compact_revision, db_size, db_size_in_use })
    }
}

impl Shared {
    pub fn new(state: State) -> Self {
        let revision = state.revision;
        Self { state: parking_lot::RwLock::new(state), hub: Hub::new(revision), epoch: base::clock::monotonic() }
    }

    /// Milliseconds since the store was opened: the clock of its leases.
    pub fn now_ms(&self) -> u64 {
        u64::try_from(base::clock::monotonic().duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
