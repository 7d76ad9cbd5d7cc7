//! One watch on a remote etcd: a stream of its own, opened again where it broke, from the revision after the last delivered one.

use std::sync::Arc;
use std::time::Duration;

use store::{KvError, Revision, Watch, WatchRequest, WatchResponse};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::attempt::{Repeat, is_transient};
use super::transport::{Trace, Transport};
use super::{EtcdKv, watch_client};
use crate::{convert, errors, pb};
use pb::watch_create_request::FilterType;
use pb::watch_request::RequestUnion;

/// Requests on the stream that may wait.
const REQUESTS: usize = 4;

pub struct EtcdWatch {
    kv: EtcdKv,
    request: WatchRequest,
    stream: Option<Open>,
    backoff: base::Backoff,
    /// Somebody waits for a progress mark; it is asked for again on a new stream.
    progress_wanted: bool,
}

struct Open {
    trace: Arc<Trace>,
    requests: mpsc::Sender<pb::WatchRequest>,
    responses: Streaming<pb::WatchResponse>,
    id: i64,
}

impl EtcdWatch {
    /// Returns when the server has begun the watch: it misses nothing from then on.
    pub async fn open(kv: EtcdKv, request: WatchRequest) -> Result<Self, KvError> {
        let backoff = base::Backoff::new(Duration::from_millis(50), Duration::from_secs(2)).with_jitter(0.2);
        let mut watch = Self { kv: kv.clone(), request, stream: None, backoff, progress_wanted: false };
        let opened = kv.attempt(Repeat::Always, |transport| begin(transport, create(&watch.request))).await?;
        watch.take_up(opened);
        Ok(watch)
    }

    /// One try to go on.
    async fn start(&mut self) -> Result<(), Status> {
        let (transport, trace) = self.kv.transport.traced();
        match begin(transport, create(&self.request)).await {
            Ok(begun) => {
                self.take_up(begun.into_inner());
                Ok(())
            }
            Err(status) => {
                self.kv.transport.leave(&trace);
                Err(status)
            }
        }
    }

    fn take_up(&mut self, begun: Begun) {
        if self.request.start_revision == 0 {
            // A new stream goes on from here, not from its own now.
            self.request.start_revision = begun.revision + 1;
        }
        if self.progress_wanted {
            // There is room: nothing but the creation was sent.
            let _ = begun.open.requests.try_send(progress());
        }
        self.stream = Some(begun.open);
    }

    /// What a response means; `None`: nothing to deliver.
    fn take(&mut self, response: pb::WatchResponse, id: i64) -> Result<Option<WatchResponse>, KvError> {
        if response.compact_revision != 0 {
            return Err(KvError::Compacted { compact_revision: response.compact_revision });
        }
        if response.canceled {
            return Err(KvError::Unavailable(format!("the server ended the watch: {}", response.cancel_reason)));
        }
        if response.created {
            return Ok(None);
        }
        let revision = convert::revision_of(&response.header);
        if response.events.is_empty() {
            // A mark for all watches of a stream may come before their events from etcd before 3.5.8, so it does not move the place.
            if response.watch_id == id {
                self.advance(revision);
            }
            self.progress_wanted = false;
            return Ok(Some(WatchResponse { revision, events: Vec::new() }));
        }
        let events = response.events.into_iter().map(convert::event_from_pb).collect::<Result<Vec<_>, _>>()?;
        let revision = events.last().map_or(revision, |event| event.kv.mod_revision);
        self.advance(revision);
        Ok(Some(WatchResponse { revision, events }))
    }

    fn advance(&mut self, delivered: Revision) {
        self.request.start_revision = self.request.start_revision.max(delivered + 1);
    }

    /// Whether the watch goes on on a new stream after this end of the old one.
    fn broke(&mut self, status: Option<Status>) -> Result<(), KvError> {
        if let Some(open) = self.stream.take() {
            self.kv.transport.leave(&open.trace);
        }
        match status {
            Some(status) if !is_transient(&status) && !matches!(status.code(), Code::Cancelled | Code::Unknown | Code::Internal) => {
                Err(errors::from_status(&status))
            }
            status => {
                let reason = status.map_or_else(|| "the server ended it".to_owned(), |status| status.message().to_owned());
                tracing::info!(reason, revision = self.request.start_revision, "the stream of a watch broke, opening it again");
                Ok(())
            }
        }
    }
}

#[async_trait::async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchResponse, KvError> {
        loop {
            let Some(open) = &mut self.stream else {
                tokio::time::sleep(self.backoff.next_delay()).await;
                if let Err(status) = self.start().await {
                    self.broke(Some(status))?;
                }
                continue;
            };
            let id = open.id;
            match open.responses.message().await {
                Ok(Some(response)) => {
                    self.backoff.reset();
                    if let Some(response) = self.take(response, id)? {
                        return Ok(response);
                    }
                }
                Ok(None) => self.broke(None)?,
                Err(status) => self.broke(Some(status))?,
            }
        }
    }

    async fn request_progress(&mut self) -> Result<(), KvError> {
        self.progress_wanted = true;
        if let Some(open) = &self.stream {
            // Where the stream has just broken, the next one asks.
            let _ = open.requests.send(progress()).await;
        }
        Ok(())
    }
}

/// A stream whose watch the server has begun, at a revision.
struct Begun {
    open: Open,
    revision: Revision,
}

async fn begin(transport: Transport, request: pb::WatchCreateRequest) -> Result<tonic::Response<Begun>, Status> {
    let trace = transport.trace();
    let (requests, stream) = mpsc::channel(REQUESTS);
    let gone = |_| Status::unavailable("the stream of the watch ended");
    requests.send(pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }).await.map_err(gone)?;
    let mut call = tonic::Request::new(ReceiverStream::new(stream));
    // A member that has lost the others ends the watch instead of staying silent (api/v3rpc/rpctypes/metadatafields.go).
    call.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let mut responses = watch_client(transport).watch(call).await?.into_inner();
    let created = responses.message().await?.ok_or_else(|| Status::unavailable("the server ended the watch at once"))?;
    if created.canceled && created.compact_revision == 0 {
        return Err(Status::failed_precondition(format!("the server refused the watch: {}", created.cancel_reason)));
    }
    let revision = convert::revision_of(&created.header);
    Ok(tonic::Response::new(Begun { open: Open { trace, requests, responses, id: created.watch_id }, revision }))
}

fn create(request: &WatchRequest) -> pb::WatchCreateRequest {
    let mut filters = Vec::new();
    if request.no_put {
        filters.push(FilterType::Noput.into());
    }
    if request.no_delete {
        filters.push(FilterType::Nodelete.into());
    }
    pb::WatchCreateRequest {
        key: request.range.key.clone(),
        range_end: request.range.end.clone().unwrap_or_default(),
        start_revision: request.start_revision,
        progress_notify: request.progress_notify,
        filters,
        prev_kv: request.prev_kv,
        ..Default::default()
    }
}

fn progress() -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})) }
}
