//! The way of a command into the store: through the log, then the state machine, then the watchers, then back to its sender.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use crate::checkpoint::View;
use crate::engine::closed;
use crate::index::{Change, Version};
use crate::keeper::Desk;
use crate::kv::{KvError, Revision};
use crate::planted::planted;
use crate::raft::member::Input;
use crate::raft::proposals::NAME_BYTES;
use crate::raft::serve::Handle;
use crate::reply::Reply;
use crate::state::{Command, State};
use crate::wal::Wal;
use crate::watch::Shared;

/// Versions that a sweep looks at under one hold of the lock.
const SWEEP_BUDGET: usize = if cfg!(test) { 8 } else { 256 };
/// Commands that are applied under one hold of the lock.
pub(crate) const APPLY_BUDGET: usize = 64;
/// One write to the disk carries at most so many commands and about so many bytes.
const BATCH_COMMANDS: usize = 1024;
const BATCH_BYTES: usize = 2 << 20;
/// Commands that may wait for the writer; more wait with their senders.
pub(crate) const QUEUE_COMMANDS: usize = 1024;

pub(crate) type Answer = Result<Reply, KvError>;

/// Where commands go.
pub(crate) enum Sink {
    /// Applied by their senders: no thread and no waiting, so that a paused clock stands still.
    Memory { shared: Arc<Shared>, closed: AtomicBool },
    /// Through the writer's log.
    Log { writer: mpsc::Sender<Message>, keeper: Arc<Desk> },
    /// Through the log of a cluster.
    Member(Handle),
}

#[derive(Debug)]
pub(crate) struct Proposal {
    pub command: Command,
    pub encoded: Vec<u8>,
    pub reply: oneshot::Sender<Answer>,
}

pub(crate) enum Message {
    Propose(Proposal),
    Close(oneshot::Sender<Result<(), KvError>>),
}

impl Sink {
    pub fn memory(shared: Arc<Shared>) -> Self {
        Self::Memory { shared, closed: AtomicBool::new(false) }
    }

    pub fn check_open(&self) -> Result<(), KvError> {
        let is_closed = match self {
            Self::Memory { closed, .. } => closed.load(Ordering::Relaxed),
            Self::Log { writer, .. } => writer.is_closed(),
            Self::Member(member) => return member.check_open(),
        };
        if is_closed { Err(closed()) } else { Ok(()) }
    }

    /// Zeros that an encoded command begins with here.
    pub fn room(&self) -> usize {
        if matches!(self, Self::Member(_)) { NAME_BYTES } else { 0 }
    }

    /// The cluster, where there is one.
    pub fn member(&self) -> Option<&Handle> {
        if let Self::Member(member) = self { Some(member) } else { None }
    }

    fn keeper(&self) -> Option<&Arc<Desk>> {
        match self {
            Self::Memory { .. } => None,
            Self::Log { keeper, .. } => Some(keeper),
            Self::Member(member) => Some(&member.keeper),
        }
    }

    /// Returns when the command is durable and applied.
    pub async fn propose(&self, command: Command, encoded: Vec<u8>) -> Answer {
        self.check_open()?;
        match self {
            Self::Memory { shared, .. } => apply(shared, vec![command]).pop().unwrap_or_else(|| Err(closed())),
            Self::Log { writer, .. } => {
                let (reply, answer) = oneshot::channel();
                writer.send(Message::Propose(Proposal { command, encoded, reply })).await.map_err(|_| closed())?;
                answer.await.map_err(|_| closed())?
            }
            Self::Member(member) => member.request(|reply| Input::Propose(Proposal { command, encoded, reply })).await,
        }
    }

    /// Removes what is compacted, in small steps. Without `wait` it is only begun where that needs the disk.
    pub async fn sweep(&self, wait: bool) -> Result<(), KvError> {
        match (self, self.keeper()) {
            (Self::Memory { shared, .. }, _) => {
                while sweep_step(shared, Revision::MAX, &mut Vec::new()) {
                    tokio::task::yield_now().await;
                }
                Ok(())
            }
            (_, Some(keeper)) if wait => keeper.order_sweep_and_wait().await.unwrap_or_else(|_| Err(closed())),
            (_, keeper) => {
                keeper.inspect(|keeper| keeper.order_sweep());
                Ok(())
            }
        }
    }

    /// Everything as it is now; `None` without a disk.
    pub async fn view(&self) -> Result<Option<View>, KvError> {
        match self.keeper() {
            None => Ok(None),
            Some(keeper) => keeper.order_view().await.unwrap_or_else(|_| Err(closed())).map(Some),
        }
    }

    /// Bytes on disk; `None` without a disk.
    pub fn size_bytes(&self) -> Option<u64> {
        self.keeper().map(|keeper| keeper.disk_bytes())
    }

    pub async fn close(&self) -> Result<(), KvError> {
        match self {
            Self::Memory { closed, .. } => {
                closed.store(true, Ordering::Relaxed);
                Ok(())
            }
            Self::Log { writer, .. } => {
                let (reply, done) = oneshot::channel();
                if writer.send(Message::Close(reply)).await.is_err() {
                    return Ok(());
                }
                done.await.unwrap_or_else(|_| Err(KvError::Unavailable("the store ended before it was closed".into())))
            }
            Self::Member(member) => member.close().await,
        }
    }
}

/// The only one who writes to the log.
pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub wal: Wal,
    pub keeper: Arc<Desk>,
    /// Log bytes after which a checkpoint is due.
    pub checkpoint_bytes: u64,
    pub uncheckpointed_bytes: u64,
}

impl Writer {
    /// Serves until the store is closed or its last handle is gone. `healthy` is dropped when the log fails; then only errors are answered.
    pub fn run(mut self, mut messages: mpsc::Receiver<Message>, healthy: oneshot::Sender<()>) {
        let mut healthy = Some(healthy);
        let mut close = None;
        while close.is_none()
            && let Some(first) = messages.blocking_recv()
        {
            let mut batch = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Propose(proposal) => {
                        bytes += proposal.encoded.len();
                        batch.push(proposal);
                    }
                    Message::Close(reply) => {
                        close = Some(reply);
                        break;
                    }
                }
                if batch.len() < BATCH_COMMANDS && bytes < BATCH_BYTES {
                    next = messages.try_recv().ok();
                }
            }
            self.commit(batch);
            if self.wal.failed().is_some() {
                healthy = None;
            }
        }
        // From here on senders find the channel closed.
        drop(messages);
        self.keeper.order_close(close);
        if let Some(healthy) = healthy {
            let _ = healthy.send(());
        }
    }

    /// Makes a batch durable, applies it, answers.
    pub fn commit(&mut self, batch: Vec<Proposal>) {
        let batch = self.refuse_growth(batch);
        if batch.is_empty() {
            return;
        }
        let mut commands = Vec::with_capacity(batch.len());
        let mut records = Vec::with_capacity(batch.len());
        let mut replies = Vec::with_capacity(batch.len());
        for proposal in batch {
            commands.push(proposal.command);
            records.push(proposal.encoded);
            replies.push(proposal.reply);
        }
        #[cfg(test)]
        if planted!(ApplyBeforeCommit) || planted!(AnswerBeforeCommit) {
            return self.commit_backwards(commands, &records, replies);
        }
        if let Err(error) = self.wal.append(&records) {
            for reply in replies {
                let _ = reply.send(Err(error.clone()));
            }
            return;
        }
        let mut replies = replies.into_iter();
        let mut commands = commands.into_iter().peekable();
        while commands.peek().is_some() {
            for answer in apply(&self.shared, commands.by_ref().take(APPLY_BUDGET).collect()) {
                if let Some(reply) = replies.next() {
                    // Whoever does not wait any more does not mind.
                    let _ = reply.send(answer);
                }
            }
        }
        self.uncheckpointed_bytes += records.iter().map(|record| record.len() as u64).sum::<u64>();
        if self.uncheckpointed_bytes >= self.checkpoint_bytes {
            self.uncheckpointed_bytes = 0;
            self.keeper.order_checkpoint();
        }
    }

    #[cfg(test)]
    fn commit_backwards(&mut self, commands: Vec<Command>, records: &[Vec<u8>], replies: Vec<oneshot::Sender<Answer>>) {
        let answers = apply(&self.shared, commands);
        let appended = if planted!(ApplyBeforeCommit) { self.wal.append(records) } else { Ok(()) };
        for (reply, answer) in replies.into_iter().zip(answers) {
            let _ = reply.send(appended.clone().and(answer));
        }
        if planted!(AnswerBeforeCommit) {
            let _ = self.wal.append(records);
        }
    }

    /// On a full disk the rest of the log is kept for commands that make room; the others are answered with `NoSpace`. Where the log cannot grow for
    /// another reason all are refused.
    fn refuse_growth(&mut self, batch: Vec<Proposal>) -> Vec<Proposal> {
        let room = if self.keeper.is_short() { Err(KvError::NoSpace) } else { self.wal.reserve() };
        let Err(error) = room else { return batch };
        if error == KvError::NoSpace && self.uncheckpointed_bytes > 0 {
            // What is saved leaves the log.
            self.uncheckpointed_bytes = 0;
            self.keeper.order_checkpoint();
        }
        let mut rest = Vec::with_capacity(batch.len());
        for proposal in batch {
            let grows = proposal.command.grows();
            if grows || error != KvError::NoSpace {
                let _ = proposal.reply.send(Err(error.clone()));
            } else {
                rest.push(proposal);
            }
        }
        rest
    }
}

/// Applies commands in order and tells the watchers.
pub(crate) fn apply(shared: &Shared, commands: Vec<Command>) -> Vec<Answer> {
    let now_ms = shared.now_ms();
    let mut state = shared.state.write();
    let first = state.applied_index + 1;
    let mut batch = Batch::default();
    for (index, command) in (first..).zip(commands) {
        batch.apply(&mut state, index, command, now_ms);
    }
    batch.publish(shared, state)
}

/// Applies entries of a cluster's log, each at its index and of its term; one without a command changes nothing.
pub(crate) fn apply_entries(shared: &Shared, entries: &mut Vec<(u64, u64, Option<Command>)>, now_ms: u64) -> Vec<Answer> {
    let mut state = shared.state.write();
    let mut batch = Batch::default();
    for (index, term, command) in entries.drain(..) {
        state.cluster.term = term;
        match command {
            Some(command) => batch.apply(&mut state, index, command, now_ms),
            None => {
                state.applied_index = index;
                batch.answers.push(Ok(Reply::Done));
            }
        }
    }
    batch.publish(shared, state)
}

/// What was applied under one hold of the lock.
#[derive(Default)]
struct Batch {
    answers: Vec<Answer>,
    changes: Vec<Change>,
}

impl Batch {
    fn apply(&mut self, state: &mut State, index: u64, command: Command, now_ms: u64) {
        let mut applied = state.apply(index, command, now_ms);
        self.changes.append(&mut applied.changes);
        self.answers.push(applied.result);
    }

    fn publish(self, shared: &Shared, state: parking_lot::RwLockWriteGuard<'_, State>) -> Vec<Answer> {
        let revision = state.revision;
        // Taken before the state is let go: see the watch module.
        let watchers = shared.hub.lock();
        drop(state);
        shared.hub.publish(watchers, self.changes, revision);
        self.answers
    }
}

/// One small step of removing what is compacted and not newer than `limit`; returns whether there is more to do.
pub(crate) fn sweep_step(shared: &Shared, limit: Revision, removed: &mut Vec<Arc<Version>>) -> bool {
    let mut state = shared.state.write();
    let compacted = state.compact_revision + Revision::from(planted!(CompactedTooMuch));
    state.index.sweep(compacted, limit, SWEEP_BUDGET, removed)
}
