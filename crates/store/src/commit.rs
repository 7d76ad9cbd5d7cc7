//! The way of a command into the store: through the log, then the state machine, then the watchers, then back to its sender.

use std::path::Path;
use std::sync::Arc;

use crate::engine::closed;
use crate::kv::{KvError, Revision};
use crate::options::EngineOptions;
use crate::state::{Command, Reply};
use crate::watch::Shared;

/// Versions that a sweep looks at under one hold of the lock.
const SWEEP_BUDGET: usize = 256;

pub(crate) type Answer = Result<Reply, KvError>;

/// Where commands go.
pub(crate) enum Sink {
    Memory(Memory),
}

pub(crate) struct Memory {
    shared: Arc<Shared>,
    closed: std::sync::atomic::AtomicBool,
}

pub(crate) fn open(_dir: &Path, _options: &EngineOptions, _tasks: &base::Tasks) -> Result<(Arc<Shared>, Sink), KvError> {
    Err(KvError::Unavailable("this build keeps its store in memory only".into()))
}

impl Sink {
    pub fn memory(shared: Arc<Shared>) -> Self {
        Self::Memory(Memory { shared, closed: Default::default() })
    }

    pub fn check_open(&self) -> Result<(), KvError> {
        match self {
            Self::Memory(memory) if memory.closed.load(std::sync::atomic::Ordering::Relaxed) => Err(closed()),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Returns when the command is durable and applied.
    pub async fn propose(&self, command: Command, _encoded: Vec<u8>) -> Answer {
        self.check_open()?;
        match self {
            Self::Memory(memory) => {
                let mut answers = apply(&memory.shared, vec![command]);
                answers.pop().unwrap_or_else(|| Err(closed()))
            }
        }
    }

    /// Removes what is compacted, in small steps.
    pub async fn sweep(&self, _wait: bool) -> Result<(), KvError> {
        match self {
            Self::Memory(memory) => {
                while sweep_step(&memory.shared, Revision::MAX, &mut Vec::new()) {
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
        }
    }

    /// Bytes on disk; `None` without a disk.
    pub fn size_bytes(&self) -> Option<u64> {
        match self {
            Self::Memory(_) => None,
        }
    }

    pub async fn close(&self) -> Result<(), KvError> {
        match self {
            Self::Memory(memory) => {
                memory.closed.store(true, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

/// Applies commands in order and tells the watchers.
pub(crate) fn apply(shared: &Shared, commands: Vec<Command>) -> Vec<Answer> {
    let now_ms = shared.now_ms();
    let mut answers = Vec::with_capacity(commands.len());
    let mut changes = Vec::new();
    let mut state = shared.state.write();
    for command in commands {
        let index = state.applied_index + 1;
        let mut applied = state.apply(index, command, now_ms);
        changes.append(&mut applied.changes);
        answers.push(applied.result);
    }
    let revision = state.revision;
    // Taken before the state is let go: see the watch module.
    let watchers = shared.hub.lock();
    drop(state);
    shared.hub.publish(watchers, &changes, revision);
    answers
}

/// One small step of removing what is compacted and not newer than `limit`; returns whether there is more to do.
pub(crate) fn sweep_step(shared: &Shared, limit: Revision, removed: &mut Vec<Arc<crate::index::Version>>) -> bool {
    let mut state = shared.state.write();
    let compacted = state.compact_revision;
    state.index.sweep(compacted, limit, SWEEP_BUDGET, removed)
}
