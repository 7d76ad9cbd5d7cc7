//! The watch cache: every stored object, fed by one watch of the store. Reads ask it whether it has reached a revision. Must not write.

mod collection;
mod entry;
mod objects;
mod wakes;

use std::sync::Arc;
use std::time::Duration;

use api::{Reason, StatusError};
use bytes::Bytes;
use hashbrown::HashMap;
use store::{Event as StoreEvent, EventKind as StoreEventKind, KeyRange, KeyValue, Kv, KvError, RangeRequest, Watch, WatchRequest};
use tokio::sync::{Notify, watch};

pub use collection::{Change, Collection, Event, EventKind, TooOld};
pub use entry::Entry;
pub use objects::Objects;
pub use wakes::FIELDS as WAKE_FIELDS;

use crate::table::Table;

pub const ROOT: &str = "/registry/";
const PAGE: usize = 1000;
/// How long a read waits for the cache (upstream: blockTimeout in storage/cacher/watch_cache.go).
const FRESH_TIMEOUT: Duration = Duration::from_secs(3);
const TRIM_EVERY: Duration = Duration::from_secs(30);

pub struct Cache {
    kv: Arc<dyn Kv>,
    table: Arc<Table>,
    /// Everything up to here is in the collections; 0 until the first load is done.
    revision: watch::Sender<i64>,
    want_progress: Notify,
}

impl Cache {
    pub fn new(kv: Arc<dyn Kv>, table: Arc<Table>) -> Self {
        Self { kv, table, revision: watch::Sender::new(0), want_progress: Notify::new() }
    }

    pub fn revision(&self) -> i64 {
        *self.revision.borrow()
    }

    /// Loads everything and returns the revision that it has then.
    pub async fn load(&self) -> Result<i64, KvError> {
        let range = KeyRange::prefix(ROOT);
        let end = range.end.clone().unwrap_or_default();
        let mut found: HashMap<String, Vec<Entry>> = HashMap::new();
        let (mut start, mut revision) = (range.key, 0);
        loop {
            let request = RangeRequest::new(KeyRange::between(start, end.clone())).limit(PAGE).at(revision);
            let page = self.kv.range(request).await?;
            if revision == 0 {
                revision = page.revision;
            }
            let Some(last) = page.kvs.last() else { break };
            start = [last.key.as_ref(), b"\0"].concat().into();
            for kv in page.kvs {
                if let Some((collection, entry)) = self.entry(&kv) {
                    found.entry(collection.prefix.clone()).or_default().push(entry);
                }
            }
            if !page.more {
                break;
            }
        }
        for collection in self.table.collections() {
            collection.reset(found.remove(&collection.prefix).unwrap_or_default(), revision);
        }
        self.revision.send_replace(revision);
        Ok(revision)
    }

    /// Follows the store for ever. Ends only by a failure; what is cached stays readable.
    pub async fn follow(&self) -> KvError {
        loop {
            let mut request = WatchRequest::new(KeyRange::prefix(ROOT), self.revision() + 1);
            request.progress_notify = true;
            let ended = match self.kv.watch(request).await {
                Ok(watch) => self.pump(watch).await,
                Err(error) => error,
            };
            match ended {
                KvError::Compacted { .. } => {
                    tracing::warn!("the store compacted what the cache has not seen: reading everything again");
                    if let Err(error) = self.load().await {
                        return error;
                    }
                }
                error => return error,
            }
        }
    }

    async fn pump(&self, mut watch: Box<dyn Watch>) -> KvError {
        let mut trim = tokio::time::interval(TRIM_EVERY);
        loop {
            tokio::select! {
                next = watch.next() => match next {
                    Ok(response) => {
                        self.apply(&response.events);
                        self.revision.send_if_modified(|now| {
                            let newer = response.revision > *now;
                            *now = (*now).max(response.revision);
                            newer
                        });
                    }
                    Err(error) => return error,
                },
                () = self.want_progress.notified() => {
                    if let Err(error) = watch.request_progress().await {
                        return error;
                    }
                }
                _ = trim.tick() => self.table.collections().for_each(|collection| collection.trim()),
            }
        }
    }

    fn apply(&self, events: &[StoreEvent]) {
        let mut changes: Vec<(&Arc<Collection>, Vec<Change>)> = Vec::new();
        for event in events {
            let Some((collection, change)) = self.change(event) else { continue };
            match changes.iter_mut().find(|(c, _)| Arc::ptr_eq(c, collection)) {
                Some((_, list)) => list.push(change),
                None => changes.push((collection, vec![change])),
            }
        }
        for (collection, list) in changes {
            collection.apply(list);
        }
    }

    fn change(&self, event: &StoreEvent) -> Option<(&Arc<Collection>, Change)> {
        match event.kind {
            StoreEventKind::Put => self.entry(&event.kv).map(|(collection, entry)| (collection, Change::Put(entry))),
            StoreEventKind::Delete => {
                let (collection, key) = self.locate(&event.kv.key)?;
                Some((collection, Change::Delete { key: key.into(), revision: event.kv.mod_revision }))
            }
        }
    }

    fn entry(&self, kv: &KeyValue) -> Option<(&Arc<Collection>, Entry)> {
        let (collection, key) = self.locate(&kv.key)?;
        match collection.entry(key, kv.mod_revision, kv.value.clone()) {
            Ok(entry) => Some((collection, entry)),
            Err(error) => {
                tracing::error!(key = %String::from_utf8_lossy(&kv.key), %error, "an object in the store cannot be read: it is not served");
                None
            }
        }
    }

    /// The collection of a store key; `None` for keys that are no objects.
    fn locate<'k>(&self, key: &'k Bytes) -> Option<(&Arc<Collection>, &'k str)> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
        self.table.collection_of(key)
    }

    /// The newest revision of the store.
    pub async fn newest(&self) -> Result<i64, KvError> {
        let request = RangeRequest::new(KeyRange::one("/registry-revision"));
        Ok(self.kv.range(request).await?.revision)
    }

    /// Waits until the cache has everything up to `revision`.
    pub async fn reach(&self, revision: i64) -> Result<(), StatusError> {
        if self.revision() >= revision {
            return Ok(());
        }
        let mut seen = self.revision.subscribe();
        self.want_progress.notify_one();
        let reached = tokio::time::timeout(FRESH_TIMEOUT, seen.wait_for(|now| *now >= revision)).await;
        if matches!(reached, Ok(Ok(_))) { Ok(()) } else { Err(too_large(revision, self.revision())) }
    }

    /// Waits until the cache has everything that was written before the call.
    pub async fn reach_newest(&self) -> Result<(), StatusError> {
        let newest = self.newest().await.map_err(|error| store_error(&error))?;
        self.reach(newest).await
    }
}

/// Upstream: NewTooLargeResourceVersionError in storage/errors.go.
fn too_large(wanted: i64, current: i64) -> StatusError {
    use api::meta::v1::StatusCause;
    let mut error =
        StatusError::new(Reason::Timeout, format!("Too large resource version: {wanted}, current: {current}")).with_retry_after(1);
    if let Some(details) = &mut error.0.details {
        details.causes = Some(vec![StatusCause {
            reason: Some("ResourceVersionTooLarge".into()),
            message: Some("Too large resource version".into()),
            ..StatusCause::default()
        }]);
    }
    error
}

/// A failure of the store as the caller of the API sees it.
pub fn store_error(error: &KvError) -> StatusError {
    match error {
        KvError::Compacted { .. } => StatusError::new(Reason::Expired, "The provided continue parameter is too old"),
        KvError::Timeout | KvError::NoLeader => StatusError::new(Reason::Timeout, error.to_string()).with_retry_after(1),
        KvError::RequestTooLarge => StatusError::new(Reason::RequestEntityTooLarge, error.to_string()),
        KvError::Unavailable(_) => StatusError::new(Reason::ServiceUnavailable, error.to_string()).with_retry_after(1),
        _ => StatusError::internal(error),
    }
}
