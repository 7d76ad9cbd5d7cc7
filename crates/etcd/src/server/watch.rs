//! The Watch service: many watches on one stream. The stream of answers is drawn by the connection as fast as the client takes it, from the watches
//! themselves: what a slow client does not take stays in the store's bounded queues, then in its history, and nobody waits for it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use futures::future::FutureExt;
use prost::Message;
use store::{Engine, KvError, Revision, SharedResponse, WatchRequest, WatchSet};
use tonic::codegen::BoxFuture;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

use super::core::Core;
use super::listener::GrpcBody;
use crate::{convert, errors, pb};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;

/// The id of an answer that belongs to no watch, or to all.
const NO_WATCH: i64 = -1;
/// What etcd lets a message be larger than a request (grpcOverheadBytes).
const FRAGMENT_OVERHEAD_BYTES: usize = 512 << 10;
/// After so many answers the client's requests are looked at, however much there is to answer.
const ANSWERS_AT_ONCE: usize = 256;

/// `etcdserverpb.WatchResponse` with its events encoded: a field of messages and one of byte strings are the same on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Answer {
    #[prost(message, optional, tag = "1")]
    header: Option<pb::ResponseHeader>,
    #[prost(int64, tag = "2")]
    watch_id: i64,
    #[prost(bool, tag = "3")]
    created: bool,
    #[prost(bool, tag = "4")]
    canceled: bool,
    #[prost(int64, tag = "5")]
    compact_revision: i64,
    #[prost(string, tag = "6")]
    cancel_reason: String,
    #[prost(bool, tag = "7")]
    fragment: bool,
    #[prost(bytes = "bytes", repeated, tag = "11")]
    events: Vec<Bytes>,
}

type Answers = std::pin::Pin<Box<dyn Stream<Item = Result<Answer, Status>> + Send>>;

#[derive(Clone)]
pub struct WatchService {
    pub core: Arc<Core>,
    /// The largest message that is taken.
    pub limit: usize,
}

impl WatchService {
    /// Answers `/etcdserverpb.Watch/Watch`, the one method there is.
    pub async fn call(self, request: http::Request<GrpcBody>) -> http::Response<tonic::body::Body> {
        if request.uri().path() != "/etcdserverpb.Watch/Watch" {
            return Status::unimplemented(format!("unknown method {}", request.uri().path())).into_http();
        }
        let mut grpc = tonic::server::Grpc::new(ProstCodec::default()).apply_max_message_size_config(Some(self.limit), None);
        grpc.streaming(self, request).await
    }
}

impl tonic::server::StreamingService<pb::WatchRequest> for WatchService {
    type Response = Answer;
    type ResponseStream = Answers;
    type Future = BoxFuture<Response<Answers>, Status>;

    fn call(&mut self, request: Request<Streaming<pb::WatchRequest>>) -> Self::Future {
        let session = Session::new(self.core.clone(), self.core.engine_for(&request), request.into_inner());
        let answers = futures::stream::unfold(session, |mut session| async move { session.next().await.map(|answer| (answer, session)) });
        Box::pin(async move { Ok(Response::new(Box::pin(answers) as Answers)) })
    }
}

/// A running watch.
struct Running {
    id: i64,
    prev_kv: bool,
    fragment_bytes: Option<usize>,
}

/// A request for progress: answered once, when every watch of the stream has delivered what was there at the time.
struct Round {
    waiting: HashSet<u64>,
    revision: Revision,
}

/// One stream.
struct Session {
    core: Arc<Core>,
    /// In the name of whoever watches.
    engine: Engine,
    requests: Streaming<pb::WatchRequest>,
    /// The client says no more; it goes on listening (server/etcdserver/api/v3rpc/watch.go, recvLoop).
    half_closed: bool,
    /// Why the stream ends once all answers are out.
    ending: Option<Option<Status>>,
    set: WatchSet,
    /// By their keys in the set.
    running: Vec<Option<Running>>,
    /// Keys by ids.
    keys: HashMap<i64, u64>,
    next_id: i64,
    rounds: Vec<Round>,
    answers: VecDeque<Answer>,
    /// Answers since the client's requests were looked at.
    since: usize,
}

impl Session {
    fn new(core: Arc<Core>, engine: Engine, requests: Streaming<pb::WatchRequest>) -> Self {
        core.metrics.watch_streams.inc();
        Self {
            set: engine.watch_set(),
            engine,
            core,
            requests,
            half_closed: false,
            ending: None,
            running: Vec::new(),
            keys: HashMap::new(),
            next_id: 0,
            rounds: Vec::new(),
            answers: VecDeque::new(),
            since: 0,
        }
    }

    /// The next answer; `None` when the stream is over.
    async fn next(&mut self) -> Option<Result<Answer, Status>> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some(Ok(answer));
            }
            if let Some(ending) = &mut self.ending {
                return ending.take().map(Err);
            }
            if self.since >= ANSWERS_AT_ONCE && !self.half_closed {
                self.since = 0;
                if let Some(request) = self.requests.message().now_or_never() {
                    self.take(request);
                    continue;
                }
            }
            if let Some((key, next)) = self.set.try_next() {
                self.since += 1;
                self.deliver(key, next);
                continue;
            }
            self.since = 0;
            tokio::select! {
                biased;
                request = self.requests.message(), if !self.half_closed => self.take(request),
                () = self.set.ready() => {}
            }
        }
    }

    fn take(&mut self, request: Result<Option<pb::WatchRequest>, Status>) {
        if let (Ok(Some(_)), Some((call, _))) = (&request, self.core.metrics.calls.of("etcdserverpb.Watch", "Watch")) {
            call.received.inc();
        }
        match request {
            Ok(Some(pb::WatchRequest { request_union: Some(request) })) => match request {
                RequestUnion::CreateRequest(request) => self.create(&request),
                RequestUnion::CancelRequest(request) => self.cancel(request.watch_id),
                RequestUnion::ProgressRequest(_) => self.progress(),
            },
            // etcd ignores what it does not know.
            Ok(Some(_)) => {}
            Ok(None) => self.half_closed = true,
            Err(_) => self.ending = Some(None),
        }
    }

    fn create(&mut self, request: &pb::WatchCreateRequest) {
        let revision = self.core.engine.revision();
        let header = Some(self.core.header_at(revision));
        let wanted = match watch_request(request, revision) {
            Ok(wanted) => wanted,
            Err(reason) => return self.refuse(header, reason.to_owned()),
        };
        let prev_kv = wanted.prev_kv;
        let added = match self.engine.watch_in(&mut self.set, wanted) {
            // A user who may not see these keys goes on with his other watches.
            Err(KvError::Auth(error)) => return self.refuse(header, errors::as_go_says(&errors::to_status(error.into()))),
            added => added,
        };
        let id = match self.choose_id(request.watch_id) {
            Ok(id) => id,
            Err(reason) => {
                if let Ok(key) = added {
                    self.set.remove(key);
                }
                return self.refuse(header, reason.to_owned());
            }
        };
        self.answers.push_back(Answer { header, watch_id: id, created: true, ..Default::default() });
        match added {
            Ok(key) => {
                let fragment_bytes = request.fragment.then(|| self.core.max_request_bytes + FRAGMENT_OVERHEAD_BYTES);
                let at = key as usize;
                self.running.resize_with(self.running.len().max(at + 1), || None);
                self.running[at] = Some(Running { id, prev_kv, fragment_bytes });
                self.keys.insert(id, key);
                self.core.metrics.watchers.inc();
            }
            Err(error) => self.fail(id, error),
        }
    }

    /// Answers that there will be no such watch.
    fn refuse(&mut self, header: Option<pb::ResponseHeader>, cancel_reason: String) {
        self.answers.push_back(Answer { header, watch_id: NO_WATCH, created: true, canceled: true, cancel_reason, ..Default::default() });
    }

    /// 0: the next free one.
    fn choose_id(&mut self, wanted: i64) -> Result<i64, &'static str> {
        if wanted != 0 {
            return if self.keys.contains_key(&wanted) { Err("mvcc: duplicate watch ID provided on the WatchStream") } else { Ok(wanted) };
        }
        while self.keys.contains_key(&self.next_id) {
            self.next_id += 1;
        }
        self.next_id += 1;
        Ok(self.next_id - 1)
    }

    fn cancel(&mut self, id: i64) {
        let Some(key) = self.keys.get(&id).copied() else { return };
        self.end(key);
        self.set.remove(key);
        self.answers.push_back(Answer { header: Some(self.core.header()), watch_id: id, canceled: true, ..Default::default() });
    }

    /// Forgets a watch; nobody waits for it any more.
    fn end(&mut self, key: u64) -> Option<i64> {
        let running = self.running.get_mut(key as usize)?.take()?;
        self.keys.remove(&running.id);
        self.core.metrics.watchers.dec();
        self.finish_rounds(key, Revision::MAX);
        Some(running.id)
    }

    fn progress(&mut self) {
        if self.keys.is_empty() {
            return;
        }
        self.rounds.push(Round { waiting: self.keys.values().copied().collect(), revision: Revision::MAX });
        for key in self.keys.values() {
            self.set.request_progress(*key);
        }
    }

    fn deliver(&mut self, key: u64, next: Result<SharedResponse, KvError>) {
        let SharedResponse { revision, changes } = match next {
            Ok(response) => response,
            Err(error) => {
                if let Some(id) = self.end(key) {
                    self.fail(id, error);
                }
                return;
            }
        };
        let Some(Some(Running { id, prev_kv, fragment_bytes })) = self.running.get(key as usize) else { return };
        let (id, header) = (*id, Some(self.core.header_at(revision)));
        if changes.is_empty() {
            if !self.finish_rounds(key, revision) {
                self.answers.push_back(Answer { header, watch_id: id, ..Default::default() });
            }
            return;
        }
        self.core.metrics.events.inc_by(changes.len() as u64);
        let encode = |event| convert::event_to_pb(event).encode_to_vec().into();
        let events = changes.iter().map(|change| if *prev_kv { encode(change.to_event(true)) } else { change.encoded(encode).clone() });
        let events: Vec<Bytes> = events.collect();
        let Some(limit) = fragment_bytes else {
            self.answers.push_back(Answer { header, watch_id: id, events, ..Default::default() });
            return;
        };
        let mut parts = fragments(events, *limit).into_iter().peekable();
        while let Some(events) = parts.next() {
            let fragment = parts.peek().is_some();
            self.answers.push_back(Answer { header, watch_id: id, fragment, events, ..Default::default() });
        }
    }

    /// A watch is through, up to `revision`. Returns whether a round waited for it.
    fn finish_rounds(&mut self, key: u64, revision: Revision) -> bool {
        let mut waited = false;
        let (core, answers) = (&self.core, &mut self.answers);
        self.rounds.retain_mut(|round| {
            if round.waiting.remove(&key) {
                waited = true;
                round.revision = round.revision.min(revision);
            }
            // Where all its watches ended it has no answer.
            if round.waiting.is_empty() && round.revision != Revision::MAX {
                let header = Some(core.header_at(round.revision));
                answers.push_back(Answer { header, watch_id: NO_WATCH, ..Default::default() });
            }
            !round.waiting.is_empty()
        });
        waited
    }

    /// Tells the client why a watch ends: by a cancellation where it can go on elsewhere, by the stream's end where the store is gone.
    fn fail(&mut self, id: i64, error: KvError) {
        let KvError::Compacted { compact_revision } = error else {
            self.ending = Some(Some(errors::to_status(error)));
            return;
        };
        let header = Some(self.core.header());
        self.answers.push_back(Answer { header, watch_id: id, canceled: true, compact_revision, ..Default::default() });
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.core.metrics.watch_streams.dec();
        self.keys.keys().for_each(|_| self.core.metrics.watchers.dec());
    }
}

/// What the store is asked for; `revision` is the newest. The error is etcd's reason for refusing.
fn watch_request(request: &pb::WatchCreateRequest, revision: Revision) -> Result<WatchRequest, &'static str> {
    // An empty key stands for the smallest.
    let key = if request.key.is_empty() { Bytes::from_static(b"\0") } else { request.key.clone() };
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

/// Cuts encoded events into messages below the limit; a single event that is larger goes alone.
fn fragments(events: Vec<Bytes>, limit: usize) -> Vec<Vec<Bytes>> {
    let mut parts = vec![Vec::new()];
    let mut bytes = 0;
    for event in events {
        // Tag and length come with each.
        let size = event.len() + 8;
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
        let check = |sizes: &[usize], limit: usize, expected: &[usize]| {
            let parts = fragments(sizes.iter().map(|size| vec![0; *size].into()).collect(), limit);
            assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), expected, "{sizes:?} {limit:?}");
        };
        check(&[100, 100, 100], 250, &[2, 1]);
        check(&[1000, 10, 10, 1000], 250, &[1, 2, 1]);
        check(&[10, 10], 250, &[2]);
    }

    #[test]
    fn an_answer_is_a_watch_response_on_the_wire() {
        let event = pb::Event { kv: Some(pb::KeyValue { key: "k".into(), ..Default::default() }), ..Default::default() };
        let header = Some(pb::ResponseHeader { revision: 7, ..Default::default() });
        let typed = pb::WatchResponse {
            header,
            watch_id: 3,
            created: true,
            canceled: true,
            compact_revision: 5,
            cancel_reason: "why".into(),
            fragment: true,
            events: vec![event.clone(), event.clone()],
        };
        let answer = Answer {
            header,
            watch_id: 3,
            created: true,
            canceled: true,
            compact_revision: 5,
            cancel_reason: "why".into(),
            fragment: true,
            events: vec![event.encode_to_vec().into(); 2],
        };
        assert_eq!(answer.encode_to_vec(), typed.encode_to_vec());
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
