//! Shared, indexed, typed caches of collections that follow the server. Must never write to the server.

mod cache;
mod subscription;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use base::Tasks;
use kube::{Api, Client};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch as channel;

use self::cache::Cache;
pub use self::subscription::Subscription;
use crate::meta::{Object, ObjectKey, revision_of};
use crate::watch::{Selection, Step, follow};

/// A change of one object. An object replaced by another of the same name is `Deleted`, then `Added`.
#[derive(Debug)]
pub enum Delta<K> {
    Added(Arc<K>),
    Updated { old: Arc<K>, new: Arc<K> },
    Deleted(Arc<K>),
}

impl<K> Clone for Delta<K> {
    fn clone(&self) -> Self {
        match self {
            Self::Added(new) => Self::Added(new.clone()),
            Self::Updated { old, new } => Self::Updated { old: old.clone(), new: new.clone() },
            Self::Deleted(old) => Self::Deleted(old.clone()),
        }
    }
}

impl<K> Delta<K> {
    /// The latest state, of a deleted object the last one.
    pub fn object(&self) -> &Arc<K> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } | Self::Deleted(object) => object,
        }
    }

    /// The state before, if there was one.
    pub fn old(&self) -> Option<&Arc<K>> {
        match self {
            Self::Added(_) => None,
            Self::Updated { old, .. } | Self::Deleted(old) => Some(old),
        }
    }

    /// The state now, if the object exists.
    pub fn current(&self) -> Option<&Arc<K>> {
        match self {
            Self::Added(object) | Self::Updated { new: object, .. } => Some(object),
            Self::Deleted(_) => None,
        }
    }
}

/// The informers of one component: one per type and selection, started at first use. Cheap to clone.
#[derive(Clone)]
pub struct Informers {
    shared: Arc<Registry>,
}

struct Registry {
    client: Client,
    tasks: Tasks,
    /// `Informer<K>` of whole collections, kept for the component's life.
    whole: Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>,
    /// `Weak<Shared<K>>` of selections, which end with their last user.
    selected: Mutex<HashMap<(TypeId, Selection), Box<dyn Any + Send + Sync>>>,
    /// `fn(&mut K)`.
    trims: Mutex<HashMap<TypeId, Box<dyn Any + Send + Sync>>>,
}

impl Informers {
    pub fn new(client: Client, tasks: Tasks) -> Self {
        let registry = Registry { client, tasks, whole: Mutex::default(), selected: Mutex::default(), trims: Mutex::default() };
        Self { shared: Arc::new(registry) }
    }

    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Drops fields that this component does not read before objects enter a cache. Call it before the first use of the type. Managed fields are
    /// always dropped.
    pub fn trimmed<K: Object>(&self, trim: fn(&mut K)) -> &Self {
        self.shared.trims.lock().insert(TypeId::of::<K>(), Box::new(trim));
        self
    }

    /// The whole collection, of all namespaces.
    pub fn of<K: Object<DynamicType = ()>>(&self) -> Informer<K> {
        let mut whole = self.shared.whole.lock();
        if let Some(informer) = whole.get(&TypeId::of::<K>()).and_then(|any| any.downcast_ref::<Informer<K>>()) {
            return informer.clone();
        }
        let informer = self.start(Selection::default());
        whole.insert(TypeId::of::<K>(), Box::new(informer.clone()));
        informer
    }

    /// The part of the collection that a field and a label selector name. It ends with its last handle or subscription.
    pub fn selected<K: Object<DynamicType = ()>>(&self, fields: &str, labels: &str) -> Informer<K> {
        let selection = Selection::new(fields, labels);
        let mut selected = self.shared.selected.lock();
        let id = (TypeId::of::<K>(), selection.clone());
        let known = selected.get(&id).and_then(|any| any.downcast_ref::<Weak<Shared<K>>>()).and_then(Weak::upgrade);
        if let Some(shared) = known {
            return Informer { shared };
        }
        let informer = self.start(selection);
        selected.insert(id, Box::new(Arc::downgrade(&informer.shared)));
        informer
    }

    fn start<K: Object<DynamicType = ()>>(&self, selection: Selection) -> Informer<K> {
        let trim = self.shared.trims.lock().get(&TypeId::of::<K>()).and_then(|any| any.downcast_ref::<fn(&mut K)>()).copied();
        Informer::start(Api::all(self.shared.client.clone()), selection, trim, &self.shared.tasks)
    }
}

/// A cache of one collection. Cheap to clone; it follows the server until its last handle is dropped.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

type Handler<K> = Box<dyn Fn(&Delta<K>) + Send + Sync>;

struct Shared<K> {
    cache: RwLock<Cache<K>>,
    /// Held over a change of the cache and its delivery, so that a new handler misses nothing and sees nothing twice.
    handlers: Mutex<Vec<Handler<K>>>,
    synced: channel::Sender<bool>,
    revision: channel::Sender<u64>,
    tasks: Tasks,
}

impl<K> Drop for Shared<K> {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl<K: Object> Informer<K> {
    /// Starts an informer outside a registry, for collections known only at run time. Must be called within a Tokio runtime.
    pub fn start(api: Api<K>, selection: Selection, trim: Option<fn(&mut K)>, tasks: &Tasks) -> Self {
        let tasks = tasks.child();
        let shared = Arc::new(Shared {
            cache: RwLock::new(Cache::default()),
            handlers: Mutex::default(),
            synced: channel::Sender::new(false),
            revision: channel::Sender::new(0),
            tasks: tasks.clone(),
        });
        let weak = Arc::downgrade(&shared);
        tasks.spawn_restarting("informer", move || {
            let (api, selection, weak) = (api.clone(), selection.clone(), weak.clone());
            async move {
                let sink = |step| {
                    if let Some(shared) = weak.upgrade() {
                        shared.step(step, trim);
                    }
                };
                follow(&api, &selection, sink).await;
            }
        });
        Self { shared }
    }

    /// `None` as namespace for cluster-scoped objects.
    pub fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        self.shared.cache.read().get(namespace.unwrap_or_default(), name).cloned()
    }

    pub fn get_key(&self, key: &ObjectKey) -> Option<Arc<K>> {
        self.shared.cache.read().get(&key.namespace, &key.name).cloned()
    }

    /// All objects, in no order.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.cache.read().iter().cloned().collect()
    }

    pub fn list_in(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.cache.read().iter_in(namespace).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.shared.cache.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds an index: `values` names the entries under which an object is found. The first one under a name stays.
    pub fn index(&self, name: &'static str, values: fn(&K) -> Vec<String>) -> &Self {
        self.shared.cache.write().add_index(name, values);
        self
    }

    /// The objects that the index `name` has under `value`, in no order. Empty when there is no such index.
    pub fn by_index(&self, name: &str, value: &str) -> Vec<Arc<K>> {
        self.shared.cache.read().by_index(name, value)
    }

    /// Calls `handler` for every object there is (as `Added`) and for every later change, in order, from the informer's task. It must be quick (put a key
    /// on a queue) and must not add handlers to the same informer; it may read the cache.
    pub fn on_change(&self, handler: impl Fn(&Delta<K>) + Send + Sync + 'static) {
        let mut handlers = self.shared.handlers.lock();
        for object in self.list() {
            handler(&Delta::Added(object));
        }
        handlers.push(Box::new(handler));
    }

    /// A queue of the changes from now on, beginning with `Added` for what is there. Changes of one object that were not yet received are merged, so it
    /// holds at most one entry per object.
    pub fn subscribe(&self) -> Subscription<K> {
        let (sender, subscription) = subscription::new(self.clone());
        self.on_change(move |delta| sender.push(delta));
        subscription
    }

    /// Waits until the first list is complete and delivered.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // Cannot fail: the sender lives in `self`.
        drop(synced.wait_for(|&synced| synced).await);
    }

    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// Every change up to this revision of the store is in the cache.
    pub fn revision(&self) -> u64 {
        *self.shared.revision.borrow()
    }

    /// Waits until the cache has seen a revision, such as that of one's own write.
    pub async fn seen(&self, revision: u64) {
        let mut seen = self.shared.revision.subscribe();
        drop(seen.wait_for(|&seen| seen >= revision).await);
    }
}

impl<K: Object> Shared<K> {
    fn step(&self, step: Step<K>, trim: Option<fn(&mut K)>) {
        let handlers = self.handlers.lock();
        let changes = match step {
            Step::Listing => {
                self.cache.write().begin_list();
                return;
            }
            Step::Seen(revision) => {
                drop(handlers);
                self.count(revision);
                return;
            }
            Step::Complete => {
                let gone = self.cache.write().end_list();
                deliver(&handlers, gone);
                self.synced.send_replace(true);
                return;
            }
            Step::Listed(mut object) => {
                trim_object(&mut object, trim);
                self.cache.write().apply(Arc::new(object))
            }
            Step::Applied(mut object) => {
                trim_object(&mut object, trim);
                let revision = revision_of(object.meta());
                let changes = self.cache.write().apply(Arc::new(object));
                self.count(revision);
                changes
            }
            Step::Deleted(mut object) => {
                trim_object(&mut object, trim);
                let revision = revision_of(object.meta());
                let changes = self.cache.write().delete(Arc::new(object));
                self.count(revision);
                changes
            }
        };
        deliver(&handlers, changes);
    }

    /// Before the change is delivered: who hears of a change must find its revision seen.
    fn count(&self, revision: u64) {
        self.revision.send_if_modified(|seen| std::mem::replace(seen, revision.max(*seen)) < revision);
    }
}

fn deliver<K>(handlers: &[Handler<K>], changes: Vec<Delta<K>>) {
    for change in changes {
        for handler in handlers {
            handler(&change);
        }
    }
}

/// Managed fields are often the larger half of an object and no component reads them.
fn trim_object<K: Object>(object: &mut K, trim: Option<fn(&mut K)>) {
    object.meta_mut().managed_fields = None;
    if let Some(trim) = trim {
        trim(object);
    }
}

#[cfg(test)]
mod tests;
