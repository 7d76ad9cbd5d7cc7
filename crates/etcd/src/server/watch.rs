//! The Watch service: many watches on one stream. Each has a task that carries the store's responses into the stream's bounded queue, so that a slow
//! client stops its own watches only; what they miss they read from the store's history.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use prost::Message;
use store::{Engine, Kv, KvError, Revision, Watch, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::core::Core;
use crate::{convert, errors, pb};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;

/// Responses of one stream that may wait for a slow client.
const RESPONSES: usize = 16;
/// Commands to one watch that may wait.
const COMMANDS: usize = 4;
/// The id of an answer that belongs to no watch, or to all.
const NO_WATCH: i64 = -1;
/// What etcd lets a message be larger than a request (grpcOverheadBytes).
const FRAGMENT_OVERHEAD_BYTES: usize = 512 << 10;

type Answer = Result<pb::WatchResponse, Status>;

pub struct WatchService(pub Arc<Core>);

#[tonic::async_trait]
impl pb::watch_server::Watch for WatchService {
    type WatchStream = ReceiverStream<Answer>;

    async fn watch(&self, request: Request<Streaming<pb::WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, stream) = mpsc::channel(RESPONSES);
        let session = Session {
            core: self.0.clone(),
            engine: self.0.engine_for(&request),
            answers,
            watches: Watches::default(),
            next_id: 0,
            next_serial: 0,
        };
        self.0.metrics.watch_streams.inc();
        self.0.tasks.spawn("etcd watch stream", session.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// The running watches of a stream by id. Taking one out ends it.
type Watches = Arc<Mutex<HashMap<i64, Running>>>;

struct Running {
    commands: mpsc::Sender<Command>,
    /// Tells a watch from an earlier one with the same id.
    serial: u64,
}

enum Command {
    Cancel,
    Progress(Arc<Round>),
}

/// A request for progress: answered once, when every watch of the stream has delivered what was there at the time.
struct Round {
    waiting: AtomicUsize,
    revision: AtomicI64,
}

impl Round {
    /// One watch is through, up to `revision`; returns the answer's revision when it was the last.
    fn done(&self, revision: Revision) -> Option<Revision> {
        self.revision.fetch_min(revision, Ordering::AcqRel);
        let last = self.waiting.fetch_sub(1, Ordering::AcqRel) == 1;
        last.then(|| self.revision.load(Ordering::Acquire)).filter(|revision| *revision != Revision::MAX)
    }
}

struct Session {
    core: Arc<Core>,
    /// In the name of whoever watches.
    engine: Engine,
    answers: mpsc::Sender<Answer>,
    watches: Watches,
    next_id: i64,
    next_serial: u64,
}

/// The client is gone, or what it sent cannot be read.
struct Gone;

impl Session {
    async fn run(mut self, mut requests: Streaming<pb::WatchRequest>) {
        loop {
            let request = match requests.message().await {
                Ok(Some(request)) => request,
                Ok(None) => {
                    // A client that says no more goes on listening (server/etcdserver/api/v3rpc/watch.go, recvLoop).
                    self.answers.closed().await;
                    break;
                }
                Err(_) => break,
            };
            let served = match request.request_union {
                Some(RequestUnion::CreateRequest(request)) => self.create(request).await,
                Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id).await,
                Some(RequestUnion::ProgressRequest(_)) => self.progress().await,
                // etcd ignores what it does not know.
                None => Ok(()),
            };
            if served.is_err() {
                break;
            }
        }
        self.watches.lock().clear();
        self.core.metrics.watch_streams.dec();
    }

    async fn answer(&self, response: pb::WatchResponse) -> Result<(), Gone> {
        self.answers.send(Ok(response)).await.map_err(|_| Gone)
    }

    async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<(), Gone> {
        let revision = self.core.engine.revision();
        let header = Some(self.core.header_at(revision));
        let wanted = match watch_request(&request, revision) {
            Ok(wanted) => wanted,
            Err(reason) => return self.refuse(header, reason.to_owned()).await,
        };
        let watch = match self.engine.watch(wanted).await {
            // A user who may not see these keys goes on with his other watches.
            Err(KvError::Auth(error)) => return self.refuse(header, errors::as_go_says(&errors::to_status(error.into()))).await,
            watch => watch,
        };
        let id = match self.choose_id(request.watch_id) {
            Ok(id) => id,
            Err(reason) => return self.refuse(header, reason.to_owned()).await,
        };
        self.answer(pb::WatchResponse { header, watch_id: id, created: true, ..Default::default() }).await?;
        let carrier = Carrier {
            core: self.core.clone(),
            answers: self.answers.clone(),
            id,
            fragment_bytes: request.fragment.then(|| self.core.max_request_bytes + FRAGMENT_OVERHEAD_BYTES),
            rounds: Vec::new(),
        };
        let watch = match watch {
            Ok(watch) => watch,
            Err(error) => return carrier.fail(error).await,
        };
        let (commands, orders) = mpsc::channel(COMMANDS);
        let serial = self.next_serial;
        self.next_serial += 1;
        self.watches.lock().insert(id, Running { commands, serial });
        let watches = self.watches.clone();
        self.core.tasks.spawn("etcd watch", async move {
            carrier.core.metrics.watchers.inc();
            let core = carrier.core.clone();
            // Whoever ends it has taken it out, or it is taken out here; then the id may be another's already.
            let _ended = carrier.run(watch, orders).await;
            core.metrics.watchers.dec();
            let mut watches = watches.lock();
            if watches.get(&id).is_some_and(|running| running.serial == serial) {
                watches.remove(&id);
            }
        });
        Ok(())
    }

    /// Answers that there will be no such watch.
    async fn refuse(&self, header: Option<pb::ResponseHeader>, cancel_reason: String) -> Result<(), Gone> {
        self.answer(pb::WatchResponse { header, watch_id: NO_WATCH, created: true, canceled: true, cancel_reason, ..Default::default() })
            .await
    }

    /// 0: the next free one.
    fn choose_id(&mut self, wanted: i64) -> Result<i64, &'static str> {
        let watches = self.watches.lock();
        if wanted != 0 {
            return if watches.contains_key(&wanted) { Err("mvcc: duplicate watch ID provided on the WatchStream") } else { Ok(wanted) };
        }
        while watches.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    async fn cancel(&self, id: i64) -> Result<(), Gone> {
        let watch = self.watches.lock().remove(&id);
        if let Some(watch) = watch {
            // A watch that has just ended by itself has said so.
            let _ = watch.commands.send(Command::Cancel).await;
        }
        Ok(())
    }

    async fn progress(&self) -> Result<(), Gone> {
        let watches: Vec<_> = self.watches.lock().values().map(|running| running.commands.clone()).collect();
        let round = Arc::new(Round { waiting: AtomicUsize::new(watches.len()), revision: AtomicI64::new(Revision::MAX) });
        for watch in watches {
            if watch.send(Command::Progress(round.clone())).await.is_err()
                && let Some(revision) = round.done(Revision::MAX)
            {
                self.answer(progress_mark(&self.core, NO_WATCH, revision)).await?;
            }
        }
        Ok(())
    }
}

/// What the store is asked for; `revision` is the newest. The error is etcd's reason for refusing.
fn watch_request(request: &pb::WatchCreateRequest, revision: Revision) -> Result<WatchRequest, &'static str> {
    // An empty key stands for the smallest.
    let key = if request.key.is_empty() { bytes::Bytes::from_static(b"\0") } else { request.key.clone() };
    let range = convert::key_range(key, request.range_end.clone());
    if range.end.as_ref().is_some_and(|end| end.as_ref() != b"\0" && range.key >= *end) {
        return Err("mvcc: watcher range is empty");
    }
    let start = match request.start_revision {
        0 => revision + 1,
        start => start.max(1),
    };
    let has = |filter: FilterType| request.filters.contains(&i32::from(filter));
    Ok(WatchRequest {
        prev_kv: request.prev_kv,
        progress_notify: request.progress_notify,
        no_put: has(FilterType::Noput),
        no_delete: has(FilterType::Nodelete),
        ..WatchRequest::new(range, start)
    })
}

fn progress_mark(core: &Core, id: i64, revision: Revision) -> pb::WatchResponse {
    pb::WatchResponse { header: Some(core.header_at(revision)), watch_id: id, ..Default::default() }
}

/// Carries one watch's responses into the stream.
struct Carrier {
    core: Arc<Core>,
    answers: mpsc::Sender<Answer>,
    id: i64,
    fragment_bytes: Option<usize>,
    rounds: Vec<Arc<Round>>,
}

impl Carrier {
    async fn run(mut self, mut watch: Box<dyn Watch>, mut orders: mpsc::Receiver<Command>) -> Result<(), Gone> {
        let ended = self.carry(&mut watch, &mut orders).await;
        drop(watch);
        // Nobody waits for a watch that is gone.
        orders.close();
        while let Some(order) = orders.recv().await {
            if let Command::Progress(round) = order {
                self.rounds.push(round);
            }
        }
        self.finish_rounds(Revision::MAX).await?;
        ended
    }

    async fn carry(&mut self, watch: &mut Box<dyn Watch>, orders: &mut mpsc::Receiver<Command>) -> Result<(), Gone> {
        loop {
            let failed = tokio::select! {
                order = orders.recv() => match order {
                    Some(Command::Progress(round)) => {
                        self.rounds.push(round);
                        watch.request_progress().await.err()
                    }
                    Some(Command::Cancel) => {
                        let header = Some(self.core.header());
                        return self.answer(pb::WatchResponse { header, watch_id: self.id, canceled: true, ..Default::default() }).await;
                    }
                    None => return Err(Gone),
                },
                next = watch.next() => match next {
                    Ok(response) => {
                        self.deliver(response).await?;
                        None
                    }
                    Err(error) => Some(error),
                },
            };
            if let Some(error) = failed {
                return self.fail(error).await;
            }
        }
    }

    async fn answer(&self, response: pb::WatchResponse) -> Result<(), Gone> {
        self.answers.send(Ok(response)).await.map_err(|_| Gone)
    }

    async fn deliver(&mut self, response: WatchResponse) -> Result<(), Gone> {
        let WatchResponse { revision, events } = response;
        if !events.is_empty() {
            self.core.metrics.events.inc_by(events.len() as u64);
            return self.send_events(revision, events.into_iter().map(convert::event_to_pb).collect()).await;
        }
        if self.rounds.is_empty() {
            self.answer(progress_mark(&self.core, self.id, revision)).await
        } else {
            self.finish_rounds(revision).await
        }
    }

    async fn finish_rounds(&mut self, revision: Revision) -> Result<(), Gone> {
        for round in std::mem::take(&mut self.rounds) {
            if let Some(revision) = round.done(revision) {
                self.answer(progress_mark(&self.core, NO_WATCH, revision)).await?;
            }
        }
        Ok(())
    }

    async fn send_events(&self, revision: Revision, events: Vec<pb::Event>) -> Result<(), Gone> {
        let mut parts = fragments(events, self.fragment_bytes).into_iter().peekable();
        while let Some(events) = parts.next() {
            let header = Some(self.core.header_at(revision));
            let fragment = parts.peek().is_some();
            self.answer(pb::WatchResponse { header, watch_id: self.id, fragment, events, ..Default::default() }).await?;
        }
        Ok(())
    }

    /// Tells the client why the watch ends: by a cancellation where it can go on elsewhere, by the stream's end where the store is gone.
    async fn fail(&self, error: KvError) -> Result<(), Gone> {
        let KvError::Compacted { compact_revision } = error else {
            return self.answers.send(Err(errors::to_status(error))).await.map_err(|_| Gone);
        };
        let header = Some(self.core.header());
        self.answer(pb::WatchResponse { header, watch_id: self.id, canceled: true, compact_revision, ..Default::default() }).await
    }
}

/// Cuts events into messages below the limit; a single event that is larger goes alone.
fn fragments(events: Vec<pb::Event>, limit: Option<usize>) -> Vec<Vec<pb::Event>> {
    let Some(limit) = limit else { return vec![events] };
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        // Tag and length come with each.
        let size = event.encoded_len() + 8;
        if bytes > 0 && bytes + size > limit {
            parts.push(Vec::new());
            bytes = 0;
        }
        bytes += size;
        if let Some(part) = parts.last_mut() {
            part.push(event);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_cut_below_the_limit() {
        let event = |bytes: usize| pb::Event {
            kv: Some(pb::KeyValue { value: vec![0; bytes].into(), ..Default::default() }),
            ..Default::default()
        };
        let check = |sizes: &[usize], limit: Option<usize>, expected: &[usize]| {
            let parts = fragments(sizes.iter().map(|size| event(*size)).collect(), limit);
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{sizes:?} {limit:?}");
        };
        check(&[100, 100, 100], None, &[3]);
        check(&[100, 100, 100], Some(250), &[2, 1]);
        check(&[1000, 10, 10, 1000], Some(250), &[1, 2, 1]);
        check(&[10, 10], Some(250), &[2]);
    }

    #[test]
    fn a_round_is_answered_once_with_the_oldest_revision() {
        let round = Round { waiting: AtomicUsize::new(3), revision: AtomicI64::new(Revision::MAX) };
        assert_eq!(round.done(9), None);
        assert_eq!(round.done(Revision::MAX), None);
        assert_eq!(round.done(7), Some(7));
        let gone = Round { waiting: AtomicUsize::new(1), revision: AtomicI64::new(Revision::MAX) };
        assert_eq!(gone.done(Revision::MAX), None, "all its watches ended");
    }

    #[test]
    fn requests_that_are_refused() {
        let request =
            |key: &'static str, end: &'static str| pb::WatchCreateRequest { key: key.into(), range_end: end.into(), ..Default::default() };
        assert!(watch_request(&request("b", "a"), 5).is_err());
        assert!(watch_request(&request("b", "b"), 5).is_err());
        let all = watch_request(&request("", "\0"), 5).unwrap();
        assert!(all.range.contains(b"anything"));
        assert_eq!(all.start_revision, 6);
    }
}
