//! Answers as the state machine gives them: what was found while the state was held, whose values may still have to be read from the disk.

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::index::{Found, Item};
use crate::kv::{KvError, OpResponse, RangeRequest, Revision, TxnResponse};
use crate::range;
use crate::shelf::Shelf;

#[derive(Debug)]
pub(crate) enum Reply {
    Txn(Pending),
    Token(String),
    Done,
}

/// A transaction that is done, and where its values are.
#[derive(Debug)]
pub(crate) struct Pending {
    pub parts: Parts,
    pub shelf: Arc<Shelf>,
}

#[derive(Debug)]
pub(crate) struct Parts {
    pub revision: Revision,
    pub succeeded: bool,
    pub parts: Vec<Part>,
}

#[derive(Debug)]
pub(crate) enum Part {
    /// With the store's revision at the time.
    Range(RangeRequest, Revision, Found),
    Put(Option<Item>),
    Delete {
        deleted: i64,
        previous: Vec<Item>,
    },
    Txn(Parts),
}

impl Pending {
    /// Whether all values are in memory.
    fn is_ready(&self) -> bool {
        self.parts.is_ready()
    }

    /// The answer; blocks on the disk unless it is ready.
    fn read(self) -> Result<TxnResponse, KvError> {
        self.parts.read(&self.shelf)
    }

    /// The answer; the disk is read beside the workers of the runtime.
    pub async fn finish(self) -> Result<TxnResponse, KvError> {
        if self.is_ready() { self.read() } else { beside(move || self.read()).await }
    }

    #[cfg(test)]
    pub fn finish_now(self) -> Result<TxnResponse, KvError> {
        self.read()
    }
}

/// Runs what reads the disk on a thread that may block.
pub(crate) async fn beside<T: Send + 'static>(read: impl FnOnce() -> Result<T, KvError> + Send + 'static) -> Result<T, KvError> {
    if reads_in_place() {
        return read();
    }
    let ended = |error: tokio::task::JoinError| KvError::Internal(format!("a read of the checkpoint did not end: {error}"));
    tokio::task::spawn_blocking(read).await.map_err(ended)?
}

/// A runtime of one thread has no other work to keep going while that thread reads; so a simulation on it does the same each time.
pub(crate) fn reads_in_place() -> bool {
    Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread
}

impl Parts {
    fn is_ready(&self) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Range(_, _, found) => found.is_ready(),
            Part::Put(previous) => previous.as_ref().is_none_or(|item| item.value.is_some()),
            Part::Delete { previous, .. } => previous.iter().all(|item| item.value.is_some()),
            Part::Txn(inner) => inner.is_ready(),
        })
    }

    fn read(self, shelf: &Shelf) -> Result<TxnResponse, KvError> {
        let mut responses = Vec::with_capacity(self.parts.len());
        for part in self.parts {
            responses.push(match part {
                Part::Range(request, revision, found) => OpResponse::Range(range::respond(&request, revision, found, shelf)?),
                Part::Put(None) => OpResponse::Put(None),
                Part::Put(Some(mut item)) => {
                    shelf.fill(std::slice::from_mut(&mut item))?;
                    OpResponse::Put(Some(item.into_kv()))
                }
                Part::Delete { deleted, mut previous } => {
                    shelf.fill(&mut previous)?;
                    OpResponse::Delete { deleted, prev_kvs: previous.into_iter().map(Item::into_kv).collect() }
                }
                Part::Txn(inner) => OpResponse::Txn(inner.read(shelf)?),
            });
        }
        Ok(TxnResponse { revision: self.revision, succeeded: self.succeeded, responses })
    }
}
