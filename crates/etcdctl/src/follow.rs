//! One watch that goes on where it was when a connection breaks. Shows nothing; never gives an event twice.

use std::time::Duration;

use etcd::pb::watch_request::RequestUnion;
use etcd::pb::{self, WatchCreateRequest};
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status, Streaming};

use crate::connection::Channel;
use crate::exit::Outcome;

const RECONNECT: Duration = Duration::from_millis(100);

pub struct Follow {
    channel: Channel,
    /// `start_revision` is the next that was not seen.
    request: WatchCreateRequest,
    stream: Option<Stream>,
}

struct Stream {
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
}

impl Follow {
    pub fn new(channel: Channel, request: WatchCreateRequest) -> Self {
        Self { channel, request, stream: None }
    }

    /// Events, progress, or the end of the watch, which says why. May be dropped while it waits.
    pub async fn next(&mut self) -> Outcome<pb::WatchResponse> {
        loop {
            match self.receive().await {
                Ok(answer) if answer.created && !answer.canceled => {
                    if self.request.start_revision == 0 {
                        self.request.start_revision = revision_of(&answer) + 1;
                    }
                }
                Ok(answer) => {
                    if !answer.canceled {
                        let last = answer.events.iter().filter_map(|event| event.kv.as_ref()).map(|pair| pair.mod_revision).max();
                        let seen = last.unwrap_or_else(|| revision_of(&answer)) + 1;
                        self.request.start_revision = self.request.start_revision.max(seen);
                    }
                    return Ok(answer);
                }
                Err(status) if is_passing(&status) => {
                    self.stream = None;
                    tokio::time::sleep(RECONNECT).await;
                }
                Err(status) => return Err(status.into()),
            }
        }
    }

    async fn receive(&mut self) -> Result<pb::WatchResponse, Status> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let stream = open(&self.channel, self.request.clone()).await?;
                self.stream.insert(stream)
            }
        };
        stream.answers.message().await?.ok_or_else(|| Status::unavailable("the server has ended the stream of a watch"))
    }

    /// Has the server say how far it is, as soon as there is a connection.
    pub async fn ask_progress(&self) {
        if let Some(stream) = &self.stream {
            let union = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
            // A broken stream is found by `next`.
            let _ = stream.requests.send(pb::WatchRequest { request_union: Some(union) }).await;
        }
    }
}

async fn open(channel: &Channel, request: WatchCreateRequest) -> Result<Stream, Status> {
    let (requests, queue) = mpsc::channel(4);
    let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
    requests.send(create).await.map_err(|_| Status::internal("a queue that was just made is closed"))?;
    let mut request = tonic::Request::new(tokio_stream::wrappers::ReceiverStream::new(queue));
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    let answers = channel.watch().watch(request).await?.into_inner();
    Ok(Stream { requests, answers })
}

pub fn revision_of(answer: &pb::WatchResponse) -> i64 {
    answer.header.as_ref().map_or(0, |header| header.revision)
}

/// Whether another try may succeed: the server said so, or the connection broke.
pub fn is_passing(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

/// Why a watch has ended, as upstream's client says it.
pub fn cancel_text(answer: &pb::WatchResponse) -> String {
    match (answer.compact_revision, answer.cancel_reason.as_str()) {
        (1.., _) => "etcdserver: mvcc: required revision has been compacted".into(),
        (_, "") => "etcdserver: mvcc: required revision is a future revision".into(),
        (_, reason) => reason.to_owned(),
    }
}
