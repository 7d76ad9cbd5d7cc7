//! A read handle on the cache for authentication, authorization, admission and effects: typed, decoded on demand.

use std::sync::Arc;

use api::StatusError;
use kinds::Kind;
use store::{KeyRange, RangeRequest};

use super::{Cache, Collection, Entry, store_error};
use crate::table::Table;

/// Cheap to clone. Kinds are found by their `INFO`; a kind without a row in the table holds nothing.
#[derive(Clone)]
pub struct Objects {
    pub(crate) cache: Arc<Cache>,
    pub(crate) table: Arc<Table>,
}

impl Objects {
    fn collection<K: Kind>(&self) -> Option<&Arc<Collection>> {
        let info = K::INFO;
        self.table.find(info.group, info.version, info.resource)?.collection.as_ref()
    }

    fn decode<K: Kind>(collection: &Collection, json: &[u8]) -> Option<K> {
        match collection.row.decode(json) {
            Ok(object) => object.get::<K>().cloned(),
            Err(error) => {
                tracing::error!(kind = K::INFO.kind, %error, "a stored object cannot be decoded");
                None
            }
        }
    }

    /// From the cache, which may be some milliseconds behind.
    pub fn get<K: Kind>(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let collection = self.collection::<K>()?;
        let entry = collection.get(&key(namespace, name))?;
        Self::decode(collection, &entry.json()).map(Arc::new)
    }

    /// All objects of a namespace, or of all; from the cache.
    pub fn list<K: Kind>(&self, namespace: Option<&str>) -> Vec<Arc<K>> {
        let Some(collection) = self.collection::<K>() else { return Vec::new() };
        let prefix = namespace.map(|n| format!("{n}/")).unwrap_or_default();
        let (entries, _) = collection.list(&prefix, &prefix, |_| true, usize::MAX);
        entries.iter().filter_map(|entry| Self::decode(collection, &entry.json())).map(Arc::new).collect()
    }

    /// Entries of a namespace, or of all, that `keep` chooses by key, labels and selectable fields, not decoded.
    pub(crate) fn entries<K: Kind>(&self, namespace: Option<&str>, keep: impl FnMut(&Entry) -> bool) -> Vec<Arc<Entry>> {
        let Some(collection) = self.collection::<K>() else { return Vec::new() };
        let prefix = namespace.map(|n| format!("{n}/")).unwrap_or_default();
        collection.list(&prefix, &prefix, keep, usize::MAX).0
    }

    /// The object of an entry that `entries` gave.
    pub(crate) fn decode_entry<K: Kind>(&self, entry: &Entry) -> Option<K> {
        Self::decode(self.collection::<K>()?, &entry.json())
    }

    /// The revision of the newest change among the objects of the kind: indexes built on `list` are good while it stays the same.
    pub fn changed<K: Kind>(&self) -> i64 {
        self.collection::<K>().map_or(0, |collection| collection.changed())
    }

    /// Resolves after each change among the objects of the kind. `None` for a kind without a row.
    pub fn subscribe<K: Kind>(&self) -> Option<tokio::sync::watch::Receiver<()>> {
        self.collection::<K>().map(|collection| collection.subscribe())
    }

    /// The newest state, from the store itself.
    pub async fn read<K: Kind>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>, StatusError> {
        let Some(collection) = self.collection::<K>() else { return Ok(None) };
        let key = key(namespace, name);
        let request = RangeRequest::new(KeyRange::one(format!("{}{key}", collection.prefix)));
        let found = self.cache.kv.range(request).await.map_err(|error| store_error(&error))?;
        let Some(kv) = found.kvs.into_iter().next() else { return Ok(None) };
        let entry = collection.entry(&key, kv.mod_revision, kv.value).map_err(StatusError::internal)?;
        let object = collection.row.decode(&entry.json()).map_err(StatusError::internal)?;
        Ok(object.get::<K>().cloned())
    }
}

fn key(namespace: Option<&str>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}
