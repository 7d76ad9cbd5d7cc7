//! One member of a run: its disk, and the store on it while it runs. Drives by hand what threads drive in production.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::network::Chunks;
use crate::commit::{Message, QUEUE_COMMANDS, Sink, Writer};
use crate::disk::sim::SimFiles;
use crate::engine::Engine;
use crate::keeper::Keeper;
use crate::kv::KvError;
use crate::options::EngineOptions;
use crate::raft::serve::Loop;
use crate::raft::{MemberOptions, Transport};
use crate::recovery::{Recovered, recover};

/// The part of a running store that is no caller: what threads do in production.
pub(crate) trait Driver {
    /// Serves about `most` of what waits.
    fn turn(&mut self, now_ms: u64, most: usize);
    /// Saves the applied state, and removes what is compacted.
    fn keep(&mut self, sweep: bool) -> Result<(), KvError>;
    /// Whether the store takes no more writes until it is started again.
    fn has_failed(&self) -> bool {
        false
    }
}

pub(crate) struct Live {
    pub engine: Engine,
    pub driver: Box<dyn Driver>,
    tasks: base::Tasks,
}

impl Live {
    pub fn has_failed(&self) -> bool {
        self.driver.has_failed() || self.engine.raft_status().is_some_and(|status| status.stopped.is_some())
    }

    /// Receiving a snapshot waits for the member's turn, so it is done on a thread of its own. Nothing else moves meanwhile.
    pub fn receive_snapshot(&mut self, from: u64, chunks: Chunks, now_ms: u64) -> Result<(), KvError> {
        self.driver.turn(now_ms, usize::MAX);
        let engine = self.engine.clone();
        let runtime = tokio::runtime::Handle::current();
        let receiver = std::thread::spawn(move || {
            let _clock = runtime.enter();
            engine.receive_snapshot(from, &mut chunks.into_iter())
        });
        while !receiver.is_finished() {
            self.driver.turn(now_ms, usize::MAX);
            std::thread::yield_now();
        }
        receiver.join().unwrap_or_else(|_| Err(KvError::Internal("receiving a snapshot panicked".into())))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

/// A store without peers on this disk.
pub(crate) fn start_single(files: &SimFiles, options: &EngineOptions) -> Result<Live, KvError> {
    let Recovered { shared, writer, keeper } = recover(Arc::new(files.clone()), Arc::new(files.clone()), options)?;
    let (messages, inbox) = mpsc::channel(QUEUE_COMMANDS);
    let sink = Sink::Log { writer: messages, keeper: writer.keeper.clone() };
    let tasks = base::Tasks::new();
    let engine = Engine::start(shared, sink, options.clone(), &tasks);
    Ok(Live { engine, driver: Box::new(Single { writer, inbox, keeper }), tasks })
}

/// A member of a cluster on this disk.
pub(crate) fn start_member(
    files: &SimFiles,
    options: &EngineOptions,
    member: MemberOptions,
    transport: Arc<dyn Transport>,
    now_ms: u64,
) -> Result<Live, KvError> {
    let (engine, work, keeper) =
        Engine::member_on(Arc::new(files.clone()), Arc::new(files.clone()), options.clone(), member, transport, now_ms)?;
    Ok(Live { engine, driver: Box::new(Seated { work, keeper }), tasks: base::Tasks::new() })
}

struct Seated {
    work: Loop,
    keeper: Arc<Mutex<Keeper>>,
}

impl Driver for Seated {
    fn turn(&mut self, now_ms: u64, _most: usize) {
        self.work.turn_alone(now_ms, &self.keeper);
    }

    fn keep(&mut self, sweep: bool) -> Result<(), KvError> {
        let mut keeper = self.keeper.lock();
        keeper.save()?;
        if sweep { keeper.sweep(&|_| ()) } else { Ok(()) }
    }
}

struct Single {
    writer: Writer,
    inbox: mpsc::Receiver<Message>,
    keeper: Keeper,
}

impl Driver for Single {
    fn turn(&mut self, _now_ms: u64, most: usize) {
        let mut batch = Vec::new();
        while batch.len() < most
            && let Ok(message) = self.inbox.try_recv()
        {
            if let Message::Propose(proposal) = message {
                batch.push(proposal);
            }
        }
        if !batch.is_empty() {
            self.writer.commit(batch);
        }
    }

    fn keep(&mut self, sweep: bool) -> Result<(), KvError> {
        self.keeper.save()?;
        if sweep { self.keeper.sweep(&|_| ()) } else { Ok(()) }
    }

    fn has_failed(&self) -> bool {
        self.writer.wal.failed().is_some()
    }
}
