//! The objects of one collection by namespace and name, with indexes. A change goes in, what it means for readers comes out. No I/O.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::Delta;
use crate::meta::{Object, ObjectKey, key_of};

pub(super) struct Cache<K> {
    objects: HashMap<String, HashMap<String, Arc<K>>>,
    len: usize,
    indexes: Vec<Index<K>>,
    /// While a list runs over a filled cache: what it has named so far.
    listed: Option<HashSet<ObjectKey>>,
}

struct Index<K> {
    name: &'static str,
    values: fn(&K) -> Vec<String>,
    entries: HashMap<String, HashMap<ObjectKey, Arc<K>>>,
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), len: 0, indexes: Vec::new(), listed: None }
    }
}

impl<K: Object> Cache<K> {
    pub fn get(&self, namespace: &str, name: &str) -> Option<&Arc<K>> {
        self.objects.get(namespace)?.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<K>> {
        self.objects.values().flat_map(|names| names.values())
    }

    pub fn iter_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<K>> {
        self.objects.get(namespace).into_iter().flat_map(|names| names.values())
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn add_index(&mut self, name: &'static str, values: fn(&K) -> Vec<String>) {
        if self.indexes.iter().any(|index| index.name == name) {
            return;
        }
        let mut index = Index { name, values, entries: HashMap::new() };
        for object in self.objects.values().flat_map(|names| names.values()) {
            index.insert(object);
        }
        self.indexes.push(index);
    }

    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        let entries = self.indexes.iter().find(|index| index.name == name).and_then(|index| index.entries.get(value));
        entries.map(|objects| objects.values().cloned().collect()).unwrap_or_default()
    }

    pub fn begin_list(&mut self) {
        self.listed = (self.len > 0).then(HashSet::new);
    }

    /// Removes what the list has not named.
    pub fn end_list(&mut self) -> Vec<Delta<K>> {
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let gone: Vec<ObjectKey> = self.iter().map(|object| key_of(&**object)).filter(|key| !listed.contains(key)).collect();
        gone.iter().filter_map(|key| self.remove(key)).map(Delta::Deleted).collect()
    }

    pub fn apply(&mut self, object: Arc<K>) -> Vec<Delta<K>> {
        let key = key_of(&*object);
        let old = self.get(&key.namespace, &key.name).cloned();
        if let Some(listed) = &mut self.listed {
            listed.insert(key.clone());
        }
        let delta = match old {
            None => vec![Delta::Added(object.clone())],
            Some(old) if same_version(&*old, &*object) => return Vec::new(),
            Some(old) if old.meta().uid != object.meta().uid => vec![Delta::Deleted(old), Delta::Added(object.clone())],
            Some(old) => vec![Delta::Updated { old, new: object.clone() }],
        };
        self.insert(key, object);
        delta
    }

    /// Removes the object; `object` is its last state.
    pub fn delete(&mut self, object: Arc<K>) -> Vec<Delta<K>> {
        match self.remove(&key_of(&*object)) {
            Some(_) => vec![Delta::Deleted(object)],
            None => Vec::new(),
        }
    }

    fn insert(&mut self, key: ObjectKey, object: Arc<K>) {
        let old = match self.objects.get_mut(&key.namespace) {
            Some(names) => names.insert(key.name, object.clone()),
            None => {
                self.objects.entry(key.namespace).or_default().insert(key.name, object.clone());
                None
            }
        };
        self.len += usize::from(old.is_none());
        for index in &mut self.indexes {
            if let Some(old) = &old {
                index.remove(old);
            }
            index.insert(&object);
        }
    }

    fn remove(&mut self, key: &ObjectKey) -> Option<Arc<K>> {
        let names = self.objects.get_mut(&key.namespace)?;
        let old = names.remove(&key.name)?;
        if names.is_empty() {
            self.objects.remove(&key.namespace);
        }
        self.len -= 1;
        for index in &mut self.indexes {
            index.remove(&old);
        }
        Some(old)
    }
}

impl<K: Object> Index<K> {
    fn insert(&mut self, object: &Arc<K>) {
        for value in (self.values)(object) {
            self.entries.entry(value).or_default().insert(key_of(&**object), object.clone());
        }
    }

    fn remove(&mut self, object: &Arc<K>) {
        let key = key_of(&**object);
        for value in (self.values)(object) {
            if let Some(objects) = self.entries.get_mut(&value) {
                objects.remove(&key);
                if objects.is_empty() {
                    self.entries.remove(&value);
                }
            }
        }
    }
}

fn same_version<K: Object>(old: &K, new: &K) -> bool {
    let (old, new) = (old.meta(), new.meta());
    old.resource_version.is_some() && old.resource_version == new.resource_version && old.uid == new.uid
}
