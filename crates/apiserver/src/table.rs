//! The rows of the table of kinds as the server runs them: each with the cache that holds its objects.

use std::sync::Arc;

use hashbrown::HashMap;
use kinds::{KindInfo, Row};

use crate::cache::Collection;

/// A row at run time.
pub struct Resource {
    pub row: &'static dyn Row,
    /// `None` for kinds that are never stored (reviews).
    pub collection: Option<Arc<Collection>>,
    /// `apps/v1`.
    pub api_version: String,
}

impl Resource {
    pub fn info(&self) -> &'static KindInfo {
        self.row.info()
    }

    /// Whether stored bytes are in another version or group than this row's.
    pub fn is_converted(&self) -> bool {
        self.info().stored_as.is_some()
    }
}

#[derive(Default)]
pub struct Table {
    groups: HashMap<&'static str, HashMap<&'static str, HashMap<&'static str, Arc<Resource>>>>,
    all: Vec<Arc<Resource>>,
    /// By storage prefix, without `/registry/`.
    collections: HashMap<&'static str, Arc<Collection>>,
}

impl Table {
    pub fn new(rows: &[&'static dyn Row]) -> Self {
        let mut table = Self::default();
        for row in rows {
            let info = row.info();
            let stored = info.stored_as.map_or(*row, |(group, version, resource)| {
                kinds::find(group, version, resource).expect("stored_as names a row of the table")
            });
            let prefix = stored.info().storage_prefix;
            let collection =
                (!prefix.is_empty()).then(|| table.collections.entry(prefix).or_insert_with(|| Arc::new(Collection::new(stored))).clone());
            let resource = Arc::new(Resource { row: *row, collection, api_version: info.api_version() });
            table.all.push(resource.clone());
            table.groups.entry(info.group).or_default().entry(info.version).or_default().insert(info.resource, resource);
        }
        table
    }

    pub fn all(&self) -> &[Arc<Resource>] {
        &self.all
    }

    pub fn find(&self, group: &str, version: &str, resource: &str) -> Option<&Arc<Resource>> {
        self.groups.get(group)?.get(version)?.get(resource)
    }

    pub fn has_version(&self, group: &str, version: &str) -> bool {
        self.groups.get(group).is_some_and(|versions| versions.contains_key(version))
    }

    pub fn collections(&self) -> impl Iterator<Item = &Arc<Collection>> {
        self.collections.values()
    }

    /// The collection of a key below `/registry/`, with the key's rest: `pods/ns/name` gives (pods, `ns/name`).
    pub fn collection_of<'k>(&self, key: &'k str) -> Option<(&Arc<Collection>, &'k str)> {
        let first = key.find('/')?;
        if let Some(found) = self.collections.get(&key[..first]) {
            return Some((found, &key[first + 1..]));
        }
        let second = first + 1 + key[first + 1..].find('/')?;
        self.collections.get(&key[..second]).map(|found| (found, &key[second + 1..]))
    }
}
