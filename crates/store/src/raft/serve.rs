//! What runs a member's loop: it waits for inputs or for time to pass and takes turns. And the handle by which everybody else reaches the loop. Knows nothing
//! of Raft.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::board::Board;
use super::member::{Input, Replica, refuse};
use super::reads::Read;
use super::{MemberOptions, Role, Transport};
use crate::checkpoint::View;
use crate::disk::Files;
use crate::engine::closed;
use crate::keeper::Desk;
use crate::kv::KvError;
use crate::planted::planted;
use crate::watch::Shared;

/// Requests and messages that may wait for the loop. More requests wait with their senders, more messages are dropped.
const QUEUE_REQUESTS: usize = 1024;
const QUEUE_MESSAGES: usize = 4096;
/// One turn takes at most so many of each, and about so many bytes of proposals: they are one write to the disk.
const TURN_INPUTS: usize = 1024;
const TURN_BYTES: usize = 2 << 20;

type Done = oneshot::Sender<Result<(), KvError>>;

/// How callers and peers reach a member's loop.
pub(crate) struct Handle {
    requests: mpsc::Sender<Input>,
    messages: mpsc::Sender<Input>,
    close: mpsc::Sender<Done>,
    pub board: Arc<Board>,
    pub keeper: Arc<Desk>,
    pub transport: Arc<dyn Transport>,
    pub files: Arc<dyn Files>,
    pub options: MemberOptions,
    /// A snapshot is coming in: one at a time.
    pub receiving: AtomicBool,
}

impl Handle {
    /// Why the member takes no part any more.
    fn ended(&self) -> KvError {
        self.board.status().stopped.filter(|reason| *reason != KvError::Stopped).unwrap_or_else(closed)
    }

    pub fn check_open(&self) -> Result<(), KvError> {
        if self.requests.is_closed() || self.board.has_stopped() { Err(self.ended()) } else { Ok(()) }
    }

    /// Has something done by the loop.
    pub async fn request<T>(&self, make: impl FnOnce(oneshot::Sender<Result<T, KvError>>) -> Input) -> Result<T, KvError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(make(reply)).await.map_err(|_| self.ended())?;
        answer.await.map_err(|_| self.ended())?
    }

    /// Tells the loop something; `false` when it has too much to do, or has ended.
    pub fn tell(&self, input: Input) -> bool {
        self.messages.try_send(input).is_ok()
    }

    /// Waits for room, on a thread that may block.
    pub fn tell_surely(&self, input: Input) -> Result<(), KvError> {
        self.messages.blocking_send(input).map_err(|_| self.ended())
    }

    /// See `Engine::read_barrier`.
    pub async fn read_barrier(&self) -> Result<(), KvError> {
        if self.board.is_alone() || planted!(ReadIndexSkipped) {
            return Ok(());
        }
        self.request(|reply| Input::Read(Read::Barrier(reply))).await
    }

    pub async fn close(&self) -> Result<(), KvError> {
        self.hand_over().await;
        let (reply, done) = oneshot::channel();
        if self.close.send(reply).await.is_err() {
            return Ok(());
        }
        done.await.unwrap_or_else(|_| Err(KvError::Unavailable("the store ended before it was closed".into())))
    }

    /// A leader that goes does not make the others wait for an election (server/etcdserver/server.go, TryTransferLeadershipOnShutdown).
    async fn hand_over(&self) {
        let status = self.board.status();
        if status.role != Role::Leader || status.stopped.is_some() {
            return;
        }
        let Some(to) = self.board.successor() else { return };
        if let Err(error) = self.request(|reply| Input::Transfer { to, reply }).await {
            tracing::info!(%error, "the lead could not be handed over before this member stops");
        }
    }
}

/// A member's loop with its inbox.
pub(crate) struct Loop {
    replica: Replica,
    shared: Arc<Shared>,
    keeper: Arc<Desk>,
    requests: mpsc::Receiver<Input>,
    messages: mpsc::Receiver<Input>,
    close: mpsc::Receiver<Done>,
    inputs: Vec<Input>,
    bytes: usize,
    /// Asked for views at once, so that time that stands still does so meanwhile, too.
    #[cfg(test)]
    pub keeper_at_hand: Option<Arc<parking_lot::Mutex<crate::keeper::Keeper>>>,
}

impl Loop {
    pub fn new(replica: Replica, files: Arc<dyn Files>) -> (Self, Handle) {
        let (requests, request_inbox) = mpsc::channel(QUEUE_REQUESTS);
        let (messages, message_inbox) = mpsc::channel(QUEUE_MESSAGES);
        let (close, close_inbox) = mpsc::channel(1);
        let handle = Handle {
            requests,
            messages,
            close,
            board: replica.board.clone(),
            keeper: replica.keeper.clone(),
            transport: replica.transport.clone(),
            files,
            options: replica.options.clone(),
            receiving: AtomicBool::new(false),
        };
        let this = Self {
            shared: replica.shared.clone(),
            keeper: replica.keeper.clone(),
            replica,
            requests: request_inbox,
            messages: message_inbox,
            close: close_inbox,
            inputs: Vec::new(),
            bytes: 0,
            #[cfg(test)]
            keeper_at_hand: None,
        };
        (this, handle)
    }

    /// Serves until the store is closed or its last handle is gone. `healthy` is dropped when the member can go on no more; then only errors are answered.
    pub async fn run(mut self, healthy: oneshot::Sender<()>) {
        let mut healthy = Some(healthy);
        let mut view: Option<oneshot::Receiver<Result<View, KvError>>> = None;
        let alarm = tokio::time::sleep(Duration::ZERO);
        tokio::pin!(alarm);
        let done = loop {
            let has_room = self.replica.has_room();
            tokio::select! {
                biased;
                done = self.close.recv() => break done,
                Some(input) = self.messages.recv() => self.take(input),
                input = self.requests.recv(), if has_room => match input {
                    Some(input) => self.take(input),
                    None => break None,
                },
                made = async { view.as_mut().expect("looked at before").await }, if view.is_some() => {
                    view = None;
                    self.replica.view_made(made.unwrap_or_else(|_| Err(closed())));
                }
                () = &mut alarm => {}
            }
            self.gather();
            if let Err(error) = self.turn(self.shared.now_ms())
                && error != KvError::Removed
            {
                healthy = None;
            }
            if view.is_none() && self.replica.wants_view() {
                view = Some(self.order_view());
            }
            alarm.as_mut().reset(self.shared.epoch + Duration::from_millis(self.replica.next_turn_ms()));
        };
        self.end(done);
        if let Some(healthy) = healthy {
            let _ = healthy.send(());
        }
    }

    /// A turn of a simulation, which has no keeper's thread: what that would give is taken from the keeper itself.
    #[cfg(test)]
    pub fn turn_alone(&mut self, now_ms: u64, keeper: &parking_lot::Mutex<crate::keeper::Keeper>) {
        self.gather();
        // An error is the end of the member, which says so itself.
        let _ = self.turn(now_ms);
        if self.replica.wants_view() {
            self.replica.view_made(view_now(keeper));
            let _ = self.turn(now_ms);
        }
    }

    fn order_view(&self) -> oneshot::Receiver<Result<View, KvError>> {
        #[cfg(test)]
        if let Some(keeper) = &self.keeper_at_hand {
            let (sender, view) = oneshot::channel();
            let _ = sender.send(view_now(keeper));
            return view;
        }
        self.keeper.order_view()
    }

    fn end(mut self, done: Option<Done>) {
        self.replica.stop(KvError::Stopped);
        // From here on senders find the channels closed.
        self.requests.close();
        while let Ok(input) = self.requests.try_recv() {
            refuse(input, &closed());
        }
        // The files are let go before the keeper tells that it is so.
        drop(self.replica);
        #[cfg(test)]
        drop(self.keeper_at_hand);
        self.keeper.order_close(done);
    }

    fn take(&mut self, input: Input) {
        if let Input::Propose(proposal) = &input {
            self.bytes += proposal.encoded.len();
        }
        self.inputs.push(input);
    }

    /// Takes what waits and fits in one turn.
    pub fn gather(&mut self) {
        for _ in 0..TURN_INPUTS {
            let Ok(input) = self.messages.try_recv() else { break };
            self.take(input);
        }
        let mut taken = 0;
        while taken < TURN_INPUTS && self.bytes < TURN_BYTES && self.replica.has_room() {
            let Ok(input) = self.requests.try_recv() else { break };
            self.take(input);
            taken += 1;
        }
    }

    pub fn turn(&mut self, now_ms: u64) -> Result<(), KvError> {
        self.bytes = 0;
        self.replica.turn(&mut self.inputs, now_ms)
    }
}

#[cfg(test)]
fn view_now(keeper: &parking_lot::Mutex<crate::keeper::Keeper>) -> Result<View, KvError> {
    let mut keeper = keeper.lock();
    keeper.save()?;
    keeper.checkpoint.view().ok_or_else(closed)
}

/// Held while a snapshot comes in.
pub(crate) struct Receiving<'a>(&'a AtomicBool);

impl<'a> Receiving<'a> {
    pub fn begin(flag: &'a AtomicBool) -> Result<Self, KvError> {
        if flag.swap(true, Ordering::AcqRel) {
            return Err(KvError::Unavailable("another snapshot is coming in".into()));
        }
        Ok(Self(flag))
    }
}

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
