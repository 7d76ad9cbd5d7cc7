//! The start of a store on disk: checkpoint, then log, then the threads that serve it.

use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::{Checkpoint, Loaded, Meta};
use crate::codec;
use crate::commit::{Message, QUEUE_COMMANDS, Sink, Writer};
use crate::disk::{Files, Folder, Lock};
use crate::keeper::{Desk, Keeper};
use crate::kv::KvError;
use crate::options::EngineOptions;
use crate::raft::records::is_members;
use crate::shelf::{Residents, Shelf};
use crate::state::State;
use crate::wal::{Segments, Wal};
use crate::watch::Shared;

/// A store as it was when it stopped, and the two who go on with it.
pub(crate) struct Recovered {
    pub shared: Arc<Shared>,
    pub writer: Writer,
    pub keeper: Keeper,
}

/// Opens the store in `dir` and starts its threads, supervised by `tasks`.
pub(crate) fn open(dir: &Path, options: &EngineOptions, tasks: &base::Tasks) -> Result<(Arc<Shared>, Sink), KvError> {
    let cannot = |error: std::io::Error| KvError::Unavailable(format!("the data folder {} cannot be used: {error}", dir.display()));
    let files = Folder::open(dir).map_err(cannot)?;
    let lock = Lock::take(dir)?;
    let log_files = Folder::open(&dir.join("wal")).map_err(cannot)?;
    let Recovered { shared, writer, keeper } = recover(Arc::new(files), Arc::new(log_files), options)?;
    let desk = writer.keeper.clone();
    let (messages, inbox) = mpsc::channel::<Message>(QUEUE_COMMANDS);
    spawn("store-writer", "store writer", tasks, move |healthy| writer.run(inbox, healthy))?;
    let keeper_desk = desk.clone();
    spawn("store-keeper", "store keeper", tasks, move |healthy| Keeper::run(Arc::new(Mutex::new(keeper)), &keeper_desk, healthy, lock))?;
    Ok((shared, Sink::Log { writer: messages, keeper: desk }))
}

/// Runs a thread of the store. It blocks on the disk for all its life, so it is no task; a task stands for it and fails when it dies.
pub(crate) fn spawn(
    thread: &'static str,
    task: &'static str,
    tasks: &base::Tasks,
    body: impl FnOnce(oneshot::Sender<()>) + Send + 'static,
) -> Result<(), KvError> {
    let (healthy, ended) = oneshot::channel();
    let runtime = tokio::runtime::Handle::current();
    std::thread::Builder::new()
        .name(thread.into())
        .spawn(move || {
            // The clock of the runtime, paused or not, is the clock of its store.
            let _clock = runtime.enter();
            body(healthy);
        })
        .map_err(|error| KvError::Unavailable(format!("the thread {thread} cannot be started: {error}")))?;
    tasks.spawn_critical(task, async move {
        if ended.await.is_ok() {
            // Closed in order: nothing is left to supervise.
            std::future::pending().await
        }
    });
    Ok(())
}

/// What a checkpoint holds.
pub(crate) struct Restored {
    pub state: State,
    pub checkpoint: Checkpoint,
    /// Identity of the data folder, where it has one already.
    pub store: Option<u64>,
    saved: Meta,
}

/// Rebuilds the state from its files.
pub(crate) fn recover(files: Arc<dyn Files>, log_files: Arc<dyn Files>, options: &EngineOptions) -> Result<Recovered, KvError> {
    let started = base::clock::monotonic();
    let mut restored = load(files, options, 0)?;
    let saved_index = restored.saved.applied_index;
    let mut replayed_bytes = 0;
    let wal = Wal::open(log_files, options.wal_segment_bytes, restored.store, saved_index, |index, record| {
        replayed_bytes += record.len() as u64;
        if is_members(record) {
            return Err(KvError::Corrupt("it is a member's of a cluster: start it as one, with 'oxikube etcd'".into()));
        }
        let command = codec::decode(record).map_err(|error| KvError::Corrupt(format!("the command cannot be understood: {error}")))?;
        // What it answered was told when it was first applied.
        let _ = restored.state.apply(index, command, 0);
        Ok(())
    })?;
    // Who was logged in logs in again: nobody knows how long ago the token was used.
    restored.state.auth.forget_tokens(restored.state.applied_index);
    // The log may have changed what is known to remain of leases.
    restored.state.leases.promote(0, 0);
    tracing::info!(
        revision = restored.state.revision,
        replayed = restored.state.applied_index - saved_index,
        took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "the store is open"
    );
    let (shared, keeper, desk) = serve(restored, wal.segments(), wal.store());
    let writer = Writer {
        shared: shared.clone(),
        wal,
        keeper: desk,
        checkpoint_bytes: options.checkpoint_wal_bytes,
        uncheckpointed_bytes: replayed_bytes,
    };
    Ok(Recovered { shared, writer, keeper })
}

/// Reads the checkpoint, or begins without one.
pub(crate) fn load(files: Arc<dyn Files>, options: &EngineOptions, now_ms: u64) -> Result<Restored, KvError> {
    let (mut checkpoint, loaded) = Checkpoint::open(files, options.checkpoint_wal_bytes)?;
    let store = loaded.as_ref().map(|loaded| loaded.saved.meta.store);
    let state = restore(&mut checkpoint, loaded, options.value_cache_bytes, now_ms)?;
    let saved = Meta {
        store: store.unwrap_or(0),
        applied_index: state.applied_index,
        revision: state.revision,
        compact_revision: state.compact_revision,
    };
    Ok(Restored { state, checkpoint, store, saved })
}

/// The state that a checkpoint holds.
pub(crate) fn restore(checkpoint: &mut Checkpoint, loaded: Option<Loaded>, cache_bytes: u64, now_ms: u64) -> Result<State, KvError> {
    let saved = loaded.as_ref().map_or(State::default().revision, |loaded| loaded.saved.meta.revision);
    let shelf = Arc::new(Shelf::new(checkpoint.segments(), Arc::new(Residents::new(cache_bytes, saved))));
    let Some(Loaded { saved, versions }) = loaded else { return Ok(State::new(shelf)) };
    let mut removed = Vec::new();
    let state = State::restore(&saved, versions, shelf, now_ms, &mut removed)?;
    checkpoint.bury(&removed);
    Ok(state)
}

/// Puts the state where it is used, and its checkpoint under a keeper.
pub(crate) fn serve(restored: Restored, segments: Segments, store: u64) -> (Arc<Shared>, Keeper, Arc<Desk>) {
    let Restored { state, checkpoint, saved, .. } = restored;
    let shared = Arc::new(Shared::new(state));
    let keeper = Keeper { shared: shared.clone(), checkpoint, segments, marks: None, saved: Meta { store, ..saved } };
    (shared, keeper, Arc::new(Desk::default()))
}

#[cfg(test)]
mod tests;
