//! Clients and watchers of a run: they send, wait, and write down what they saw.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::history::{Call, Moment, Outcome, Request, Response, WatchLog};
use crate::engine::Engine;
use crate::kv::*;

pub(crate) type Waiting = Pin<Box<dyn Future<Output = Outcome>>>;

/// A call that is under way, by its place in the history.
pub(crate) struct InFlight {
    pub call: usize,
    pub waiting: Waiting,
}

pub(crate) fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// For what only waits to let others go first.
pub(crate) fn finish<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    (0..100_000).find_map(|_| poll(future.as_mut()))
}

pub(crate) fn send(engine: &Engine, request: Request) -> Waiting {
    let engine = engine.clone();
    Box::pin(async move {
        Ok(match request {
            Request::Txn(txn) => Response::Txn(engine.txn(txn).await?),
            Request::Range(range) => Response::Range(engine.range(range).await?),
            Request::Compact(revision) => engine.compact(revision, false).await.map(|()| Response::Done)?,
            Request::Grant { id, ttl_ms } => engine.lease_grant(id, Duration::from_millis(ttl_ms)).await.map(|_| Response::Done)?,
            Request::Revoke(id) => engine.lease_revoke(id).await.map(|()| Response::Done)?,
            Request::KeepAlive(id) => Response::Kept(engine.lease_keep_alive(id).await?),
            Request::TimeToLive(id) => Response::TimeToLive(engine.lease_status(id).await?),
            Request::Leases => Response::Leases(engine.leases().await?),
        })
    })
}

pub(crate) fn new_call(id: u64, node: usize, request: Request, began: Moment) -> Call {
    Call { id, node, request, began, ended: None }
}

/// One watch and what came of it.
pub(crate) struct Watcher {
    pub log: WatchLog,
    watch: Box<dyn Watch>,
}

impl Watcher {
    /// Creating never waits; an error says why there is no watch.
    pub fn create(engine: &Engine, id: u64, node: usize, request: WatchRequest, now: Moment) -> Option<Result<Self, KvError>> {
        let created = poll(std::pin::pin!(engine.watch(request.clone())))?;
        let log = WatchLog { id, node, request, created: now, responses: Vec::new(), error: None, complete: false };
        Some(created.map(|watch| Self { log, watch }))
    }

    /// What has come, if anything has.
    pub fn next(&mut self) -> Option<Result<WatchResponse, KvError>> {
        poll(self.watch.next().as_mut())
    }

    pub fn request_progress(&mut self) {
        // Asking never waits in the engine.
        let _ = poll(std::pin::pin!(self.watch.request_progress()));
    }

    /// Where a client would go on.
    pub fn resume_at(&self) -> Revision {
        self.log.responses.last().map_or(self.log.request.start_revision, |(_, response)| response.revision + 1)
    }
}
