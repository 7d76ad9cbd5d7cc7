//! One member of a run: its disk, and the store on it while it runs. Drives by hand what threads drive in production.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::commit::{Message, QUEUE_COMMANDS, Sink, Writer};
use crate::disk::sim::SimFiles;
use crate::engine::Engine;
use crate::keeper::Keeper;
use crate::kv::KvError;
use crate::options::EngineOptions;
use crate::recovery::{Recovered, recover};

/// The part of a running store that is no caller: what threads do in production.
pub(crate) trait Driver {
    /// Serves about `most` of what waits.
    fn turn(&mut self, now_ms: u64, most: usize);
    /// Saves the applied state, and removes what is compacted.
    fn keep(&mut self, sweep: bool) -> Result<(), KvError>;
    /// Whether the store takes no more writes until it is started again.
    fn has_failed(&self) -> bool;
}

pub(crate) struct Live {
    pub engine: Engine,
    pub driver: Box<dyn Driver>,
    tasks: base::Tasks,
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
