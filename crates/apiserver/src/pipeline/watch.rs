//! WATCH: a cursor in the collection's history. The stream pulls; a slow client costs nothing but its position.

use std::sync::Arc;
use std::time::Duration;

use api::{Reason, StatusError};
use bytes::Bytes;
use http::{HeaderValue, Response};
use serde_json::json;
use tokio::time::Instant;

use super::Core;
use super::call::Call;
use super::encode;
use super::select::{self, Match, Selection};
use crate::cache::{Collection, Entry, Event, EventKind};
use crate::metrics::LongRunningLabels;
use crate::table::Resource;
use crate::transport::body::{Body, BoxError};
use crate::transport::negotiate::{Media, Shape, View};
use crate::transport::response::{respond, status_json};

const BATCH: usize = 256;
const CHUNK: usize = 64 * 1024;
/// Upstream: defaultBookmarkFrequency in storage/cacher/cacher.go.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// `--min-request-timeout`: a watch lasts between this and twice this unless it says otherwise.
const MIN_TIMEOUT_S: u64 = 1800;

pub async fn watch(call: &Call) -> Result<Response<Body>, StatusError> {
    let watcher = Watcher::open(call).await;
    let content_type = HeaderValue::from_static(call.view.media.watch_content_type());
    let stream = match watcher {
        Ok(watcher) => Body::chunks(futures::stream::unfold(watcher, |mut watcher| async move {
            let chunk = watcher.next().await?;
            Some((chunk, watcher))
        })),
        // Upstream answers so from the cacher: the watch opens and its first event is the error.
        Err(error) if error.is(Reason::Expired) => error_frame(&error, call.view)?.into(),
        Err(error) => return Err(error),
    };
    Ok(respond(200, content_type, stream))
}

struct Watcher {
    core: Arc<Core>,
    resource: Arc<Resource>,
    collection: Arc<Collection>,
    selection: Selection,
    view: View,
    /// Names the encoding of a frame among all watches of the collection.
    frame_key: u64,
    /// Objects that were there at the start, still to be sent, last first.
    initial: Vec<Arc<Entry>>,
    /// The revision of the bookmark that ends the initial events.
    initial_end: Option<i64>,
    position: u64,
    wake: tokio::sync::watch::Receiver<()>,
    bookmarks: bool,
    next_bookmark: Instant,
    /// Everything up to here was sent.
    reached: i64,
    bookmarked: i64,
    deadline: Instant,
    headers: bool,
    ended: bool,
    _count: Counted,
}

/// Counts the watch among the long-running requests while it lives.
struct Counted(prometheus_client::metrics::gauge::Gauge<i64, std::sync::atomic::AtomicI64>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Watcher {
    async fn open(call: &Call) -> Result<Self, StatusError> {
        let selection = Selection::of(call)?;
        let collection = select::collection(call)?.clone();
        let version = select::revision(call.query.get("resourceVersion"))?;
        let bookmarks = call.query.flag("allowWatchBookmarks");
        let streaming = streaming(call, bookmarks)?;
        match version {
            None => call.core.cache.reach_newest().await?,
            Some(revision) => call.core.cache.reach(revision).await?,
        }
        let wake = match selection.narrowed() {
            Some((field, value)) => collection.subscribe_to(field, value),
            None => collection.subscribe(),
        };
        let reached = call.core.cache.revision();
        // Without a version, or with 0, a watch begins with what is there, unless it says that it does not want to.
        let from_now = matches!(version, None | Some(0));
        let (initial, position) = if streaming == Some(true) || (from_now && streaming.is_none()) {
            let (mut initial, position) = collection.snapshot(&selection.prefix, |entry| selection.matches(entry));
            initial.reverse();
            (initial, position)
        } else {
            let after = version.filter(|_| !from_now).unwrap_or(reached);
            (Vec::new(), collection.position_after(after).map_err(|old| too_old(after, old.oldest))?)
        };
        let now = base::clock::monotonic();
        let gauge = {
            let labels = LongRunningLabels { verb: "WATCH", resource: call.info().resource };
            call.core.metrics.long_running.get_or_create(&labels).clone()
        };
        gauge.inc();
        Ok(Self {
            core: call.core.clone(),
            frame_key: (Arc::as_ptr(&call.resource) as u64).wrapping_mul(64).wrapping_add(call.view.frame_key()),
            resource: call.resource.clone(),
            collection,
            selection,
            view: View { pretty: false, ..call.view },
            initial_end: (streaming == Some(true) && bookmarks).then_some(reached),
            initial,
            position,
            wake,
            bookmarks,
            next_bookmark: now + BOOKMARK_EVERY,
            reached,
            bookmarked: 0,
            deadline: now + timeout(call)?,
            headers: true,
            ended: false,
            _count: Counted(gauge),
        })
    }

    /// The next piece of the response: one or more whole frames.
    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        if self.ended {
            return None;
        }
        if !self.initial.is_empty() {
            return Some(self.initial_chunk().map_err(Into::into));
        }
        if let Some(revision) = self.initial_end.take() {
            return Some(Ok(self.bookmark(revision, true)));
        }
        let mut events = Vec::new();
        let mut bookmark_due = false;
        loop {
            // First of all, for a bookmark too: a watch that nothing woke has not looked how far things have come.
            match self.advance(&mut events) {
                Ok(Some(chunk)) => return Some(Ok(chunk)),
                Ok(None) => {}
                Err(error) => {
                    self.ended = true;
                    return Some(error_frame(&error, self.view).map_err(Into::into));
                }
            }
            if bookmark_due && let Some(bookmark) = self.progress_mark() {
                return Some(Ok(bookmark));
            }
            bookmark_due = false;
            let timer = if self.bookmarks { self.deadline.min(self.next_bookmark) } else { self.deadline };
            tokio::select! {
                changed = self.wake.changed() => changed.ok()?,
                () = self.core.stop.cancelled() => return None,
                () = tokio::time::sleep_until(timer) => {
                    let now = base::clock::monotonic();
                    if now >= self.deadline {
                        return None;
                    }
                    self.next_bookmark = now + BOOKMARK_EVERY;
                    bookmark_due = true;
                }
            }
        }
    }

    /// Frames of what happened since; `None`: nothing that this watch wants, and everything is read.
    fn advance(&mut self, events: &mut Vec<Arc<Event>>) -> Result<Option<Bytes>, StatusError> {
        self.wake.borrow_and_update();
        loop {
            let revision = self.core.cache.revision();
            events.clear();
            let expired = |old: crate::cache::TooOld| too_old(self.reached, old.oldest);
            self.collection.read(self.position, BATCH, events).map_err(expired)?;
            self.position += events.len() as u64;
            let mut frames: Vec<Bytes> = Vec::new();
            for event in events.iter() {
                if let Some(frame) = self.frame(event)? {
                    frames.push(frame);
                }
            }
            self.reached = if events.len() < BATCH { self.reached.max(revision) } else { self.reached };
            match frames.len() {
                0 if events.len() < BATCH => return Ok(None),
                0 => {}
                1 => return Ok(frames.pop()),
                _ => return Ok(Some(frames.concat().into())),
            }
        }
    }

    /// The event as this watch sees it: an object that comes into or leaves the selection is added or deleted.
    fn frame(&mut self, event: &Event) -> Result<Option<Bytes>, StatusError> {
        let before = event.before.as_ref().filter(|entry| self.selection.matches(entry));
        let is = event.kind != EventKind::Deleted && self.selection.matches(&event.entry);
        let kind = match (before, is) {
            (None, false) => return Ok(None),
            (None, true) => EventKind::Added,
            (Some(_), true) => EventKind::Modified,
            (Some(before), false) if event.kind != EventKind::Deleted => {
                let gone = before.at(event.revision());
                return self.encode(EventKind::Deleted, &gone).map(Some);
            }
            (Some(_), false) => EventKind::Deleted,
        };
        if self.headers && matches!(self.view.shape, Shape::Table(_)) {
            return self.encode(kind, &event.entry).map(Some);
        }
        let key = self.frame_key.wrapping_add(16 * 1024 * kind as u64);
        event.frame(key, || frame(&self.resource, kind, &event.entry, self.view, false)).map(Some)
    }

    fn encode(&mut self, kind: EventKind, entry: &Entry) -> Result<Bytes, StatusError> {
        let headers = std::mem::take(&mut self.headers);
        frame(&self.resource, kind, entry, self.view, headers)
    }

    fn initial_chunk(&mut self) -> Result<Bytes, StatusError> {
        let mut out = Vec::new();
        while out.len() < CHUNK {
            let Some(entry) = self.initial.pop() else { break };
            out.extend_from_slice(&self.encode(EventKind::Added, &entry)?);
        }
        Ok(out.into())
    }

    fn progress_mark(&mut self) -> Option<Bytes> {
        (self.reached > self.bookmarked).then(|| self.bookmark(self.reached, false))
    }

    fn bookmark(&mut self, revision: i64, initial: bool) -> Bytes {
        self.bookmarked = revision;
        let (api_version, kind) = match self.view.shape {
            Shape::Object => (self.resource.api_version.as_str(), self.resource.info().kind),
            Shape::Metadata => ("meta.k8s.io/v1", "PartialObjectMetadata"),
            Shape::Table(_) => ("meta.k8s.io/v1", "Table"),
        };
        let mut object = json!({"kind": kind, "apiVersion": api_version, "metadata": {"resourceVersion": revision.to_string()}});
        match self.view.shape {
            Shape::Table(_) => object["rows"] = json!([]),
            _ => object["metadata"]["creationTimestamp"] = serde_json::Value::Null,
        }
        if initial {
            object["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        wrap("BOOKMARK", object.to_string().as_bytes(), self.view).unwrap_or_else(|error| {
            tracing::error!(%error, "a bookmark cannot be encoded");
            Bytes::new()
        })
    }
}

/// `sendInitialEvents`, checked (apimachinery/pkg/apis/meta/internalversion/validation).
fn streaming(call: &Call, bookmarks: bool) -> Result<Option<bool>, StatusError> {
    if !call.query.has("sendInitialEvents") {
        if call.query.text("resourceVersionMatch").is_some() {
            return Err(select::bad_option(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
            ));
        }
        return Ok(None);
    }
    if select::named_match(call)? != Match::NotOlderThan {
        return Err(select::bad_option("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"));
    }
    let wanted = call.query.flag("sendInitialEvents");
    if wanted && !bookmarks {
        tracing::debug!("a watch asks for initial events without bookmarks: their end is not marked");
    }
    Ok(Some(wanted))
}

fn timeout(call: &Call) -> Result<Duration, StatusError> {
    match call.query.text("timeoutSeconds").map(str::parse::<u64>) {
        Some(Err(_)) => Err(StatusError::bad_request("timeoutSeconds: Invalid value: must be a number")),
        Some(Ok(seconds)) if seconds > 0 => Ok(Duration::from_secs(seconds.min(7 * 24 * 3600))),
        _ => Ok(Duration::from_secs_f64(MIN_TIMEOUT_S as f64 * (1.0 + rand::random::<f64>()))),
    }
}

fn too_old(wanted: i64, oldest: i64) -> StatusError {
    StatusError::new(Reason::Expired, format!("too old resource version: {wanted} ({oldest})"))
}

fn frame(resource: &Resource, kind: EventKind, entry: &Entry, view: View, headers: bool) -> Result<Bytes, StatusError> {
    let json_view = View { media: Media::Json, ..view };
    wrap(kind.as_str(), &encode::object(resource, entry, json_view, headers)?, view)
}

/// A watch event around an object's JSON.
fn wrap(kind: &str, object: &[u8], view: View) -> Result<Bytes, StatusError> {
    let mut out = Vec::with_capacity(object.len() + 40);
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    out.extend_from_slice(object);
    match view.media {
        Media::Json => {
            out.extend_from_slice(b"}\n");
            Ok(out.into())
        }
        Media::Yaml => {
            out.push(b'}');
            Ok([b"---\n", super::convert::to_yaml(&out)?.as_ref()].concat().into())
        }
        Media::Protobuf => super::convert::watch_to_protobuf(kind, object),
    }
}

fn error_frame(error: &StatusError, view: View) -> Result<Bytes, StatusError> {
    wrap("ERROR", &status_json(error), view)
}
