//! One direction of messages to one member: a connection of its own with one long stream, opened again whenever it breaks. Messages that find it closed or
//! its queue full are dropped, which Raft stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use parking_lot::Mutex;
use store::Engine;
use tokio::sync::{Notify, mpsc};
use tonic::body::Body;
use tower::Service;

use super::frame::{self, Outgoing};
use super::greeting::{self, Greeting, Refusal};
use crate::Transport;
use crate::server::metrics::PeerTraffic;

/// Messages and bytes that may wait.
const QUEUE: usize = 1024;
const QUEUE_BYTES: usize = 64 << 20;
/// How long a member may take to say whether it takes the stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
const REASON_BYTES: usize = 4096;
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

pub struct Lane {
    /// The path of its stream.
    path: &'static str,
    open: Mutex<Option<Open>>,
    dropped: Notify,
    traffic: Arc<PeerTraffic>,
}

struct Open {
    queue: mpsc::Sender<Bytes>,
    queued: Arc<AtomicUsize>,
    since: tokio::time::Instant,
}

/// What a lane needs to know of both ends.
pub struct Ends {
    pub engine: Engine,
    pub transport: Transport,
    pub peers: Arc<super::Peers>,
    pub to: u64,
}

impl Lane {
    pub fn new(path: &'static str, traffic: Arc<PeerTraffic>) -> Arc<Self> {
        Arc::new(Self { path, open: Mutex::new(None), dropped: Notify::new(), traffic })
    }

    /// Never blocks.
    pub fn send(&self, message: Bytes) {
        let bytes = message.len() as u64;
        if self.try_send(message) {
            self.traffic.sent_bytes.inc_by(bytes);
        } else {
            self.traffic.sent_failures.inc();
            self.dropped.notify_one();
        }
    }

    fn try_send(&self, message: Bytes) -> bool {
        let open = self.open.lock();
        let Some(open) = &*open else { return false };
        let bytes = message.len();
        if open.queued.load(Ordering::Relaxed) + bytes > QUEUE_BYTES.max(bytes) || !frame::fits(bytes) {
            return false;
        }
        open.queued.fetch_add(bytes, Ordering::Relaxed);
        let sent = open.queue.try_send(message).is_ok();
        if !sent {
            open.queued.fetch_sub(bytes, Ordering::Relaxed);
        }
        sent
    }

    pub fn open_for(&self) -> Option<Duration> {
        self.open.lock().as_ref().map(|open| open.since.elapsed())
    }

    /// Keeps the stream open for as long as it is polled.
    pub async fn run(self: Arc<Self>, ends: Ends) {
        let mut backoff = base::Backoff::new(RETRY.0, RETRY.1).with_jitter(0.2);
        // Says each trouble once.
        let mut told = String::new();
        loop {
            let (reason, was_open) = match self.connect(&ends).await {
                Ok(answer) => {
                    tracing::info!(peer = format!("{:x}", ends.to), lane = self.path, "peer became active");
                    backoff.reset();
                    self.traffic.active.inc();
                    let reason = self.hold(&ends, answer).await;
                    self.traffic.active.dec();
                    self.traffic.disconnections.inc();
                    (reason, true)
                }
                Err(reason) => (reason, false),
            };
            *self.open.lock() = None;
            ends.engine.unreachable(ends.to);
            if was_open || told != reason {
                tracing::warn!(peer = format!("{:x}", ends.to), lane = self.path, reason, "peer became inactive");
                told = reason;
            }
            let wait = tokio::time::sleep(backoff.next_delay());
            tokio::pin!(wait);
            loop {
                tokio::select! {
                    () = &mut wait => break,
                    () = self.dropped.notified() => ends.engine.unreachable(ends.to),
                }
            }
        }
    }

    async fn connect(&self, ends: &Ends) -> Result<Incoming, String> {
        let (queue, messages) = mpsc::channel(QUEUE);
        let queued = Arc::new(AtomicUsize::new(0));
        let body = Body::new(Outgoing::new(messages, queued.clone()));
        let answer = ask(ends, ends.peers.greeting(ends.to).request(self.path, body)?).await?;
        *self.open.lock() = Some(Open { queue, queued, since: base::clock::monotonic() });
        Ok(answer)
    }

    /// Until the other side ends its answer; says why.
    async fn hold(&self, ends: &Ends, mut answer: Incoming) -> String {
        loop {
            tokio::select! {
                frame = answer.frame() => match frame {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.to_string(),
                    None => return "the other side ended the stream".into(),
                },
                () = self.dropped.notified() => ends.engine.unreachable(ends.to),
            }
        }
    }
}

/// Sends the request that begins a stream; the body of the answer stays open as long as the other side reads.
async fn ask(ends: &Ends, request: Request<Body>) -> Result<Incoming, String> {
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, ends.transport.clone().call(request)).await;
    let response = answer.map_err(|_| "it does not answer".to_owned())?.map_err(|status| status.message().to_owned())?;
    let status = response.status();
    if status == StatusCode::OK {
        return Ok(response.into_body());
    }
    let body = Limited::new(response.into_body(), REASON_BYTES).collect().await.map_err(|error| error.to_string())?;
    let reason = String::from_utf8_lossy(&body.to_bytes()).trim().to_owned();
    Err(refused(ends, Refusal { status, reason }))
}

/// What to do when the other member will not talk to us, and how to say it.
pub fn refused(ends: &Ends, refusal: Refusal) -> String {
    match refusal.status {
        StatusCode::GONE => {
            ends.engine.told_removed();
            refusal.reason
        }
        StatusCode::CONFLICT => {
            ends.peers.lost_data();
            refusal.reason
        }
        StatusCode::PRECONDITION_FAILED if refusal.reason == greeting::ID_MISMATCH => {
            "request sent was ignored by remote peer due to cluster ID mismatch: the members were started with different --initial-cluster or \
             --initial-cluster-token, or the address belongs to another cluster"
                .into()
        }
        StatusCode::PRECONDITION_FAILED if refusal.reason == greeting::INCOMPATIBLE => {
            "request sent was ignored by remote peer due to server version incompatibility".into()
        }
        StatusCode::NOT_FOUND => "it is not a member of this kind: members of another etcd cannot be mixed with these".into(),
        status => format!("{status}: {}", refusal.reason),
    }
}

impl Ends {
    pub fn greeting(&self) -> Greeting {
        self.peers.greeting(self.to)
    }
}
