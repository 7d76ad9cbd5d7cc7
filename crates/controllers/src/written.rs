//! Protection against stale caches: remembers what a controller wrote for a key until the cache has seen it. Takes the place of upstream's expectations
//! (pkg/controller/controller_utils.go); revisions are comparable since Kubernetes 1.35 (KEP-5504), so "seen" is exact.

use std::collections::HashMap;
use std::time::Duration;

use client::{Informer, Object, ObjectKey};
use parking_lot::Mutex;
use tokio::time::Instant;

/// After so long without a sign of the write the cache is believed anyway (controller.ExpectationsTimeout).
const BELIEVE_AFTER: Duration = Duration::from_secs(300);

/// When to look again at a key whose writes the cache has not seen.
pub const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The writes of one controller to one kind, by the key that they were made for.
#[derive(Default)]
pub struct Written {
    keys: Mutex<HashMap<ObjectKey, Pending>>,
}

struct Pending {
    /// The highest revision written.
    revision: u64,
    /// Deleted objects by key, with their uid.
    deleted: Vec<(ObjectKey, String)>,
    at: Instant,
}

impl Written {
    /// An object was created or changed for `key`.
    pub fn changed<K: Object>(&self, key: &ObjectKey, object: &K) {
        let revision = client::meta::revision_of(object.meta());
        self.note(key, |pending| pending.revision = pending.revision.max(revision));
    }

    /// An object was deleted for `key`.
    pub fn deleted<K: Object>(&self, key: &ObjectKey, object: &K) {
        let deleted = (client::key_of(object), object.meta().uid.clone().unwrap_or_default());
        self.note(key, |pending| pending.deleted.push(deleted));
    }

    fn note(&self, key: &ObjectKey, change: impl FnOnce(&mut Pending)) {
        let now = base::clock::monotonic();
        let mut keys = self.keys.lock();
        let pending = keys.entry(key.clone()).or_insert_with(|| Pending { revision: 0, deleted: Vec::new(), at: now });
        pending.at = now;
        change(pending);
    }

    /// Whether `cache` has seen everything that was written for `key`. If not, a change that makes it so usually comes at once; `LOOK_AGAIN` is for the
    /// rare case of a new list.
    pub fn seen<K: Object>(&self, key: &ObjectKey, cache: &Informer<K>) -> bool {
        let mut keys = self.keys.lock();
        let Some(pending) = keys.get_mut(key) else { return true };
        let exists = |key: &ObjectKey, uid: &str| {
            cache.get_key(key).is_some_and(|object| object.meta().uid.as_deref() == Some(uid) && object.meta().deletion_timestamp.is_none())
        };
        pending.deleted.retain(|(key, uid)| exists(key, uid));
        let old = base::clock::monotonic() > pending.at + BELIEVE_AFTER;
        let seen = old || (pending.deleted.is_empty() && cache.revision() >= pending.revision);
        if seen {
            keys.remove(key);
        }
        seen
    }

    pub fn forget(&self, key: &ObjectKey) {
        self.keys.lock().remove(key);
    }
}
