//! All pods of the node: gives each its worker, tells workers what changed, finds what nobody wants any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use client::Delta;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::admission;
use crate::context::Context;
use crate::pod::worker::{Shared, Worker};
use crate::pod::{self, is_mirror, uid};
use crate::source::mirror;

/// How often the node is searched for pods that nobody wants (upstream's housekeeping).
const HOUSEKEEPING: Duration = Duration::from_secs(2);

/// The pods with a worker, by UID.
#[derive(Clone, Default)]
pub struct Workers(Arc<Mutex<HashMap<String, Arc<Shared>>>>);

impl Workers {
    pub fn get(&self, uid: &str) -> Option<Arc<Shared>> {
        self.0.lock().get(uid).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Shared>> {
        self.0.lock().values().cloned().collect()
    }

    pub fn by_name(&self, namespace: &str, name: &str) -> Option<Arc<Shared>> {
        let found = self.all().into_iter().filter(|shared| {
            let pod = shared.pod();
            pod::namespace(&pod) == namespace && pod::name(&pod) == name
        });
        // Of two pods of a name the one that is not going away.
        found.min_by_key(|shared| shared.desired().removed)
    }
}

/// The next change, from wherever it comes.
enum Change {
    Api(Box<Delta<Pod>>),
    Runtime(String),
    Ended(String),
    Manifests(Vec<Pod>),
    Tick,
}

pub struct Pods {
    context: Arc<Context>,
    workers: Workers,
    ended: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    manifests: HashMap<String, Arc<Pod>>,
    manifests_read: bool,
}

impl Pods {
    pub fn new(context: Arc<Context>, workers: Workers) -> Self {
        let manifests_read = context.settings.static_pod_path.is_none();
        Self { context, workers, ended: mpsc::unbounded_channel(), manifests: HashMap::new(), manifests_read }
    }

    /// Runs until the process stops. `runtime` brings the UIDs of pods that changed in the runtime, `manifests` the static pods.
    pub async fn run(mut self, mut runtime: mpsc::Receiver<String>, mut manifests: mpsc::Receiver<Vec<Pod>>) {
        let mut api = self.context.pods.subscribe();
        let mut ticks = tokio::time::interval(HOUSEKEEPING);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let change = tokio::select! {
                delta = api.recv() => Change::Api(Box::new(delta)),
                Some(uid) = runtime.recv() => Change::Runtime(uid),
                Some(uid) = self.ended.1.recv() => Change::Ended(uid),
                Some(list) = manifests.recv() => Change::Manifests(list),
                _ = ticks.tick() => Change::Tick,
            };
            match change {
                Change::Api(delta) => self.on_api(*delta).await,
                Change::Runtime(uid) => {
                    if let Some(shared) = self.workers.get(&uid) {
                        shared.wake();
                    }
                }
                Change::Ended(uid) => {
                    self.workers.0.lock().remove(&uid);
                    self.context.pleg.forget(&uid);
                }
                Change::Manifests(list) => self.on_manifests(list).await,
                Change::Tick => self.find_orphans(),
            }
        }
    }

    async fn on_api(&mut self, delta: Delta<Pod>) {
        match delta {
            Delta::Added(pod) => self.on_pod(pod).await,
            Delta::Updated { old, new } => {
                if uid(&old) != uid(&new) {
                    self.on_gone(&old).await;
                }
                self.on_pod(new).await;
            }
            Delta::Deleted(pod) => self.on_gone(&pod).await,
        }
    }

    async fn on_pod(&mut self, pod: Arc<Pod>) {
        if is_mirror(&pod) {
            return self.check_mirror(&pod).await;
        }
        if let Some(shared) = self.workers.get(uid(&pod)) {
            self.context.statuses.reconcile(&pod);
            shared.update(pod);
            return;
        }
        let shared = Shared::new(pod.clone(), false);
        if self.is_new(&pod)
            && let Err(verdict) = self.admit(&pod)
        {
            self.context.event(&pod, None, client::EventType::Warning, &verdict.reason, verdict.message.clone());
            shared.stop_with(verdict, None);
        }
        self.spawn(shared);
    }

    /// Neither started before nor known to the runtime.
    fn is_new(&self, pod: &Pod) -> bool {
        let status = pod::api_status(pod);
        status.start_time.is_none() && pod.metadata.deletion_timestamp.is_none() && !self.context.pleg.pods().contains_key(uid(pod))
    }

    fn admit(&self, pod: &Pod) -> Result<(), pod::status::Verdict> {
        let others: Vec<Arc<Pod>> = self.workers.all().iter().map(|shared| shared.pod()).filter(|other| uid(other) != uid(pod)).collect();
        let statuses = &self.context.statuses;
        let active = |other: &&Arc<Pod>| {
            let phase = statuses.get(uid(other)).and_then(|status| status.phase);
            !pod::is_terminal_phase(phase.as_deref().or(pod::api_status(other).phase.as_deref()))
        };
        let others: Vec<&Pod> = others.iter().filter(active).map(|other| &**other).collect();
        let node = self.context.node.get(None, &self.context.settings.node_name);
        let allocatable = self.context.machine.read().allocatable.clone();
        admission::admit(pod, &others, node.as_deref(), &allocatable)
    }

    fn spawn(&self, shared: Arc<Shared>) {
        let pod = shared.pod();
        self.workers.0.lock().insert(uid(&pod).to_owned(), shared.clone());
        let worker = Worker::new(self.context.clone(), shared);
        let ended = self.ended.0.clone();
        let uid = uid(&pod).to_owned();
        self.context.tasks.spawn("pod", async move {
            worker.run().await;
            // Nobody listens any more only when the process stops.
            drop(ended.send(uid));
        });
    }

    async fn on_gone(&mut self, pod: &Arc<Pod>) {
        if is_mirror(pod) {
            let wanted = self.manifests.values().find(|own| pod::name(own) == pod::name(pod) && pod::namespace(own) == pod::namespace(pod));
            if let Some(own) = wanted.cloned() {
                self.make_mirror(&own).await;
            }
            return;
        }
        if let Some(shared) = self.workers.get(uid(pod)) {
            shared.remove();
        }
    }

    async fn on_manifests(&mut self, list: Vec<Pod>) {
        self.manifests_read = true;
        let fresh: HashMap<String, Arc<Pod>> = list.into_iter().map(|pod| (uid(&pod).to_owned(), Arc::new(pod))).collect();
        let gone: Vec<Arc<Pod>> = self.manifests.iter().filter(|(uid, _)| !fresh.contains_key(*uid)).map(|(_, pod)| pod.clone()).collect();
        for pod in gone {
            if let Some(shared) = self.workers.get(uid(&pod)) {
                shared.remove();
            }
            let replaced = fresh.values().any(|new| pod::name(new) == pod::name(&pod) && pod::namespace(new) == pod::namespace(&pod));
            if !replaced {
                self.delete_mirror(&pod).await;
            }
        }
        self.manifests = fresh;
        for pod in self.manifests.values() {
            if self.workers.get(uid(pod)).is_none() {
                self.spawn(Shared::new(pod.clone(), false));
            }
        }
        for pod in self.manifests.values() {
            self.make_mirror(pod).await;
        }
    }

    /// A mirror that does not show a manifest of ours, or an old version of it, goes.
    async fn check_mirror(&self, mirror: &Arc<Pod>) {
        if self.manifests_read && mirror.metadata.deletion_timestamp.is_some() {
            // Nothing runs behind a mirror that its deletion could wait for. If the manifest is still there, its going makes a new one.
            return self.delete_mirror(mirror).await;
        }
        if !self.manifests_read {
            return;
        }
        let own = self.manifests.values().find(|own| pod::name(own) == pod::name(mirror) && pod::namespace(own) == pod::namespace(mirror));
        match own {
            Some(own) if mirror::shows(mirror, own) => self.context.statuses.reconcile(own),
            Some(own) => self.make_mirror(own).await,
            None => self.delete_mirror(mirror).await,
        }
    }

    async fn make_mirror(&self, own: &Arc<Pod>) {
        if !self.context.pods.is_synced() {
            return;
        }
        if let Err(error) = mirror::ensure(&self.context, own).await {
            tracing::warn!(pod = pod::described(own), error = crate::objects::api_text(&error), "the mirror pod cannot be made");
        }
    }

    async fn delete_mirror(&self, own: &Pod) {
        if let Err(error) = mirror::delete(&self.context, own).await {
            tracing::warn!(pod = pod::described(own), error = crate::objects::api_text(&error), "the mirror pod cannot be deleted");
        }
    }

    /// Pods in the runtime or on disk without a worker, once all sources have spoken: they are stopped and removed.
    fn find_orphans(&mut self) {
        if !self.context.pods.is_synced() || !self.manifests_read {
            return;
        }
        let mut found: HashMap<String, (String, String)> =
            self.context.pleg.pods().into_iter().map(|(uid, seen)| (uid, (seen.namespace, seen.name))).collect();
        if let Ok(entries) = std::fs::read_dir(crate::paths::pods(&self.context.settings.root_dir)) {
            for entry in entries.filter_map(Result::ok) {
                found.entry(entry.file_name().to_string_lossy().into_owned()).or_default();
            }
        }
        let known = self.context.pods.list();
        for (orphan, (namespace, name)) in found {
            let wanted = known.iter().any(|pod| uid(pod) == orphan && !is_mirror(pod)) || self.manifests.contains_key(&orphan);
            if wanted || self.workers.get(&orphan).is_some() {
                continue;
            }
            tracing::info!(uid = orphan, namespace, name, "a pod that nobody wants is cleaned up");
            let mut pod = Pod::default();
            pod.metadata.uid = Some(orphan);
            pod.metadata.namespace = Some(namespace);
            pod.metadata.name = Some(name);
            self.spawn(Shared::new(Arc::new(pod), true));
        }
        self.retry_mirrors();
    }

    /// Mirrors that could not be made yet, for example because the API was not there.
    fn retry_mirrors(&self) {
        for own in self.manifests.values() {
            let shown = self.context.pods.get(Some(pod::namespace(own)), pod::name(own));
            if shown.is_none_or(|mirror| !mirror::shows(&mirror, own) && mirror.metadata.deletion_timestamp.is_none()) {
                let (context, own) = (self.context.clone(), own.clone());
                self.context.tasks.spawn("mirror-pod", async move {
                    if let Err(error) = mirror::ensure(&context, &own).await {
                        tracing::debug!(
                            pod = pod::described(&own),
                            error = crate::objects::api_text(&error),
                            "the mirror pod cannot be made yet"
                        );
                    }
                });
            }
        }
    }
}
