//! What is served on the peer URLs: the streams of other members, and for who wants to join, `/members` and `/version` as etcd has them.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use store::Engine;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;

use super::frame;
use super::greeting::{CLUSTER_HEADER, Greeting, PROTOCOL_HEADER, Refusal};
use super::remote::RemoteMember;
use super::{APPENDS, CODE_HEADER, HEARTBEATS, Peers, QUESTIONS, SNAPSHOTS, snapshot};
use crate::bootstrap::has_run;
use crate::server::listener::Handler;
use crate::{ETCD_VERSION, errors};

const MAX_STREAMS: u32 = 1024;
const QUESTION_BYTES: usize = 16 << 20;

/// Serves from the start, so that who asks gets an answer; what needs the store is refused until there is one.
#[derive(Clone)]
pub struct PeerHandler {
    state: Arc<State>,
}

struct State {
    tasks: base::Tasks,
    member: OnceLock<Open>,
}

struct Open {
    engine: Engine,
    peers: Arc<Peers>,
}

impl PeerHandler {
    pub fn new(tasks: &base::Tasks) -> Self {
        Self { state: Arc::new(State { tasks: tasks.clone(), member: OnceLock::new() }) }
    }

    /// The store is there.
    pub fn open(&self, engine: Engine, peers: Arc<Peers>) {
        // A second time would be the same store.
        let _ = self.state.member.set(Open { engine, peers });
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path();
        match path {
            "/version" => Ok(json(&serde_json::json!({ "etcdserver": ETCD_VERSION, "etcdcluster": cluster_version() }))),
            "/members" if request.method() != Method::GET => Err(no(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")),
            "/members" => self.members(),
            HEARTBEATS | APPENDS | SNAPSHOTS | QUESTIONS => self.stream(request).await,
            path if path.starts_with("/raft") => {
                tracing::warn!("another etcd wants to be a member here: members of different programs cannot be mixed");
                Err(no(StatusCode::PRECONDITION_FAILED, super::greeting::INCOMPATIBLE))
            }
            _ => Err(no(StatusCode::NOT_FOUND, "404 page not found")),
        }
    }

    fn member(&self) -> Result<&Open, Refusal> {
        self.state.member.get().ok_or_else(Refusal::not_ready)
    }

    fn members(&self) -> Result<Response<Body>, Refusal> {
        let Open { engine, peers } = self.member()?;
        let members: Vec<RemoteMember> = engine.members().into_iter().map(Into::into).collect();
        let mut response = json(&members);
        let id = format!("{:x}", peers.cluster_id);
        for (name, value) in [(CLUSTER_HEADER, id.as_str()), (PROTOCOL_HEADER, "1")] {
            if let Ok(value) = value.parse() {
                response.headers_mut().insert(name, value);
            }
        }
        Ok(response)
    }

    async fn stream(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let Open { engine, peers } = self.member()?;
        let greeting = Greeting::read(request.headers())?;
        greeting.check(peers.cluster_id, peers.member_id)?;
        let from = greeting.from;
        if engine.is_removed(from) {
            tracing::warn!(peer = format!("{from:x}"), "rejected stream from remote peer because it was removed");
            return Err(Refusal::removed());
        }
        if greeting.is_fresh && engine.members().iter().any(|member| member.id == from && has_run(member)) {
            tracing::error!(
                peer = format!("{from:x}"),
                "rejected stream from remote peer because it lost its data: remove that member and add it as a new one"
            );
            return Err(Refusal::bootstrapped(from));
        }
        peers.hear(from, greeting.peer_urls);
        match request.uri().path() {
            SNAPSHOTS => match snapshot::receive(engine.clone(), from, request.into_body()).await {
                Ok(()) => Ok(Response::new(Body::empty())),
                Err(reason) => {
                    tracing::warn!(peer = format!("{from:x}"), reason, "failed to receive database snapshot");
                    Err(no(StatusCode::INTERNAL_SERVER_ERROR, &reason))
                }
            },
            QUESTIONS => question(engine, from, request.into_body()).await,
            _ => Ok(self.messages(Open { engine: engine.clone(), peers: peers.clone() }, from, request.into_body())),
        }
    }

    /// The answer begins at once, to say that the stream is taken, and ends with it. A member that is removed meanwhile comes again and is told.
    fn messages(&self, Open { engine, peers }: Open, from: u64, body: Incoming) -> Response<Body> {
        let (mut changes, traffic) = (peers.changes(), peers.traffic.of(from));
        drop(peers);
        let (open, never) = mpsc::channel::<Result<http_body::Frame<Bytes>, std::convert::Infallible>>(1);
        self.state.tasks.spawn("messages of a peer", async move {
            let mut messages = frame::Incoming::new(body);
            loop {
                let next = tokio::select! {
                    next = messages.next() => next,
                    changed = changes.changed() => match changed {
                        Ok(()) if !engine.is_removed(from) => continue,
                        _ => break,
                    },
                };
                match next {
                    Ok(Some(message)) => {
                        traffic.received_bytes.inc_by(message.len() as u64);
                        engine.receive(from, message);
                    }
                    Ok(None) => break,
                    Err(reason) => {
                        traffic.received_failures.inc();
                        tracing::debug!(peer = format!("{from:x}"), reason, "lost TCP streaming connection with remote peer");
                        break;
                    }
                }
            }
            drop(open);
        });
        Response::new(Body::new(http_body_util::StreamBody::new(ReceiverStream::new(never))))
    }
}

async fn question(engine: &Engine, from: u64, body: Incoming) -> Result<Response<Body>, Refusal> {
    let question = Limited::new(body, QUESTION_BYTES).collect().await;
    let question = question.map_err(|error| no(StatusCode::BAD_REQUEST, &error.to_string()))?.to_bytes();
    match engine.answer(from, question).await {
        Ok(answer) => Ok(Response::new(Body::new(Full::new(answer)))),
        Err(error) => {
            let status = errors::to_status(error);
            let mut response = refuse(&no(StatusCode::INTERNAL_SERVER_ERROR, status.message()));
            response.headers_mut().insert(CODE_HEADER, i32::from(status.code()).into());
            Ok(response)
        }
    }
}

fn cluster_version() -> String {
    ETCD_VERSION.rsplit_once('.').map_or_else(|| ETCD_VERSION.to_owned(), |(minor, _)| format!("{minor}.0"))
}

fn no(status: StatusCode, reason: &str) -> Refusal {
    Refusal { status, reason: reason.to_owned() }
}

fn refuse(refusal: &Refusal) -> Response<Body> {
    let mut response = Response::new(Body::new(Full::new(Bytes::from(refusal.reason.clone()))));
    *response.status_mut() = refusal.status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(text) => {
            let mut response = Response::new(Body::new(Full::new(Bytes::from(text))));
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => refuse(&no(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())),
    }
}

impl Handler for PeerHandler {
    async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        self.answer(request).await.unwrap_or_else(|refusal| refuse(&refusal))
    }

    fn max_concurrent_streams(&self) -> u32 {
        MAX_STREAMS
    }

    fn tasks(&self) -> &base::Tasks {
        &self.state.tasks
    }
}
