//! LIST: from the cache when it is fresh enough, from the store for exact revisions and later pages.

use std::sync::Arc;

use api::{Reason, StatusError};
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, VARY};
use http::{HeaderValue, Response};
use store::{KeyRange, KvError, RangeRequest};

use super::call::Call;
use super::encode::{self, ListMeta};
use super::select::{self, Continue, Match, Selection};
use crate::cache::{Entry, store_error};
use crate::table::Resource;
use crate::transport::body::{Body, BoxError};
use crate::transport::negotiate::{Media, Shape, View};
use crate::transport::response::respond;

/// Lists up to this size are sent in one piece.
const WHOLE: usize = 512 * 1024;
const CHUNK: usize = 64 * 1024;
/// Upstream: defaultGzipThresholdBytes in handlers/responsewriters/writers.go.
const GZIP_FROM: usize = 128 * 1024;

pub struct Found {
    pub entries: Vec<Arc<Entry>>,
    pub meta: ListMeta,
}

pub async fn list(call: &Call) -> Result<Response<Body>, StatusError> {
    let found = find(call).await?;
    reply(call.resource.clone(), call.view, found)
}

/// The objects that the query asks for.
pub async fn find(call: &Call) -> Result<Found, StatusError> {
    let selection = Selection::of(call)?;
    let limit = match call.query.text("limit").map(str::parse::<i64>) {
        None => usize::MAX,
        Some(Ok(n)) if n > 0 => usize::try_from(n).unwrap_or(usize::MAX),
        Some(Ok(_)) => usize::MAX,
        Some(Err(_)) => return Err(StatusError::bad_request("limit: Invalid value: must be a number")),
    };
    let version = select::revision(call.query.get("resourceVersion"))?;
    let token = call.query.text("continue");
    let matching = select::version_match(call, token.is_some())?;
    if let Some(token) = token {
        if version.is_some_and(|v| v != 0) {
            return Err(StatusError::bad_request("specifying resource version is not allowed when using continue"));
        }
        let (revision, start) = Continue::decode(token)?;
        return from_store(call, &selection, revision.max(0), &start, limit).await;
    }
    if let (Match::Exact, Some(revision)) = (matching, version) {
        return from_store(call, &selection, revision, &selection.prefix, limit).await;
    }
    match version {
        None => call.core.cache.reach_newest().await?,
        Some(revision) => call.core.cache.reach(revision).await?,
    }
    from_cache(call, &selection, limit)
}

fn from_cache(call: &Call, selection: &Selection, limit: usize) -> Result<Found, StatusError> {
    let collection = select::collection(call)?;
    // Taken first: the list may be newer than it says, never older.
    let revision = call.core.cache.revision();
    let (entries, more) = collection.list(&selection.prefix, &selection.prefix, |entry| selection.matches(entry), limit);
    let newest = entries.iter().map(|e| e.revision).max().unwrap_or(0).max(revision);
    let mut meta = ListMeta { revision: newest, ..ListMeta::default() };
    if let (true, Some(last)) = (more, entries.last()) {
        meta.next = Some(Continue::encode(newest, &last.key));
        if selection.is_everything() {
            let after = format!("{}\0", last.key);
            let (rest, _) = collection.list(&selection.prefix, &after, |_| true, usize::MAX);
            meta.remaining = Some(rest.len() as i64);
        }
    }
    Ok(Found { entries, meta })
}

/// Reads a past revision (0: the newest) from the key `start` (below the collection's prefix) on.
async fn from_store(call: &Call, selection: &Selection, revision: i64, start: &str, limit: usize) -> Result<Found, StatusError> {
    let collection = select::collection(call)?;
    let whole = KeyRange::prefix(format!("{}{}", collection.prefix, selection.prefix));
    let end = whole.end.clone().unwrap_or_default();
    let mut from = Bytes::from(format!("{}{start}", collection.prefix));
    let (mut entries, mut at) = (Vec::new(), revision);
    let step = if selection.is_everything() { limit.min(1000) } else { 1000 };
    loop {
        let request = RangeRequest::new(KeyRange::between(from, end.clone())).limit(step).at(at);
        let page = call.core.kv.range(request).await.map_err(|error| range_error(&error, revision, start))?;
        if at == 0 {
            at = page.revision;
        }
        let last = page.kvs.last().map(|kv| kv.key.clone());
        let (count, seen) = (page.count, page.kvs.len() as i64);
        for (index, kv) in page.kvs.into_iter().enumerate() {
            let key = String::from_utf8_lossy(&kv.key[collection.prefix.len()..]).into_owned();
            let entry = collection.entry(&key, kv.mod_revision, kv.value).map_err(StatusError::internal)?;
            if !selection.matches(&entry) {
                continue;
            }
            entries.push(Arc::new(entry));
            let left = count - index as i64 - 1;
            if entries.len() == limit && left > 0 {
                let remaining = selection.is_everything().then_some(left);
                let meta = ListMeta { revision: at, next: Some(Continue::encode(at, &key)), remaining };
                return Ok(Found { entries, meta });
            }
        }
        match last {
            Some(last) if page.more && seen > 0 => from = [last.as_ref(), b"\0"].concat().into(),
            _ => return Ok(Found { entries, meta: ListMeta { revision: at, ..ListMeta::default() } }),
        }
    }
}

fn range_error(error: &KvError, revision: i64, start: &str) -> StatusError {
    match error {
        KvError::Compacted { .. } if start.ends_with('\0') => select::expired(start),
        KvError::Compacted { compact_revision } => {
            StatusError::new(Reason::Expired, format!("too old resource version: {revision} ({compact_revision})"))
        }
        KvError::FutureRevision => StatusError::new(Reason::Timeout, format!("Too large resource version: {revision}")).with_retry_after(1),
        other => store_error(other),
    }
}

pub fn reply(resource: Arc<Resource>, view: View, found: Found) -> Result<Response<Body>, StatusError> {
    let content_type = HeaderValue::from_static(view.media.content_type());
    let size: usize = found.entries.iter().map(|entry| entry.json_len()).sum();
    let plain = view.media == Media::Json && !view.pretty;
    let gzip = view.gzip && size >= GZIP_FROM;
    if !plain || (size < WHOLE && !gzip) {
        let mut out = encode::list_head(&resource, view.shape, &found.meta);
        out.reserve(if view.shape == Shape::Object { size } else { 0 });
        for (index, entry) in found.entries.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            encode::write_item(&resource, entry, view.shape, &mut out)?;
        }
        out.extend_from_slice(b"]}");
        return Ok(respond(200, content_type, encode::media(out.into(), view)?));
    }
    let pieces = Pieces {
        head: Some(encode::list_head(&resource, view.shape, &found.meta)),
        entries: found.entries,
        next: 0,
        resource,
        shape: view.shape,
        gzip: gzip.then(gzip_encoder),
    };
    let mut response = respond(200, content_type, Body::chunks(futures::stream::iter(pieces)));
    if gzip {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        response.headers_mut().insert(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
    Ok(response)
}

type Gzip = flate2::write::GzEncoder<Vec<u8>>;

fn gzip_encoder() -> Gzip {
    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())
}

/// The JSON of a large list in pieces, made as the client reads them: a list costs its entries' pointers, not a second copy.
struct Pieces {
    head: Option<Vec<u8>>,
    entries: Vec<Arc<Entry>>,
    next: usize,
    resource: Arc<Resource>,
    shape: Shape,
    gzip: Option<Gzip>,
}

impl Pieces {
    fn piece(&mut self) -> Result<Option<Vec<u8>>, StatusError> {
        if self.next > self.entries.len() {
            return Ok(None);
        }
        let mut out = self.head.take().unwrap_or_default();
        out.reserve(CHUNK + CHUNK / 4);
        while out.len() < CHUNK {
            let Some(entry) = self.entries.get(self.next) else {
                out.extend_from_slice(b"]}");
                self.next = self.entries.len() + 1;
                return Ok(Some(out));
            };
            if self.next > 0 {
                out.push(b',');
            }
            encode::write_item(&self.resource, entry, self.shape, &mut out)?;
            self.next += 1;
        }
        Ok(Some(out))
    }
}

impl Iterator for Pieces {
    type Item = Result<Bytes, BoxError>;

    fn next(&mut self) -> Option<Self::Item> {
        use std::io::Write;
        loop {
            let piece = match self.piece() {
                Ok(piece) => piece,
                Err(error) => return Some(Err(error.into())),
            };
            let Some(gzip) = &mut self.gzip else { return piece.map(|p| Ok(p.into())) };
            let Some(piece) = piece else {
                return self.gzip.take().map(|gzip| gzip.finish().map(Bytes::from).map_err(Into::into));
            };
            if let Err(error) = gzip.write_all(&piece) {
                return Some(Err(error.into()));
            }
            let packed = std::mem::take(gzip.get_mut());
            if !packed.is_empty() {
                return Some(Ok(packed.into()));
            }
        }
    }
}
