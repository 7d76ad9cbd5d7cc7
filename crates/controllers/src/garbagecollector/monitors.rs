//! A metadata watch per deletable resource, feeding the graph; follows what discovery says every 30 seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use client::watch::{Step, follow};
use client::{Client, Selection, WorkQueue};
use parking_lot::Mutex;
use tokio::sync::watch as channel;

use super::graph::{Graph, Kind, Look, Node, Uid};
use crate::common::discovery::{self, Metadata, Resource};

const DISCOVERY_PERIOD: Duration = Duration::from_secs(30);
/// A resource that cannot be listed does not hold up the others for longer.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Monitors {
    client: Client,
    graph: Mutex<Graph>,
    queue: Mutex<WorkQueue<Look>>,
    running: Mutex<HashMap<Arc<Kind>, Monitor>>,
    /// Everything in discovery, for finding owners.
    resources: Mutex<HashMap<(String, String), Resource>>,
    synced: channel::Sender<bool>,
}

struct Monitor {
    tasks: Tasks,
    listed: channel::Receiver<bool>,
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

impl Monitors {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            graph: Mutex::default(),
            queue: Mutex::default(),
            running: Mutex::default(),
            resources: Mutex::default(),
            synced: channel::Sender::new(false),
        }
    }

    pub fn set_queue(&self, queue: WorkQueue<Look>) {
        *self.queue.lock() = queue;
    }

    pub fn queue(&self) -> WorkQueue<Look> {
        self.queue.lock().clone()
    }

    pub async fn synced(&self) {
        let mut synced = self.synced.subscribe();
        // Cannot fail: the sender lives in `self`.
        drop(synced.wait_for(|&synced| synced).await);
    }

    pub fn node(&self, uid: Uid) -> Option<Node> {
        self.graph.lock().node(uid).cloned()
    }

    pub fn blockers(&self, uid: Uid) -> Vec<(Uid, bool)> {
        self.graph.lock().blockers(uid)
    }

    /// The API server no longer has the object.
    pub fn gone(&self, kind: &Kind, uid: Uid) -> Vec<Look> {
        let mut graph = self.graph.lock();
        let kind = graph.kind(&kind.api_version, &kind.kind);
        graph.remove(&kind, uid)
    }

    /// The resource of a kind; the version need not be the preferred one.
    pub fn resource(&self, kind: &Kind) -> Option<Resource> {
        let group = kind.api_version.split_once('/').map_or("", |(group, _)| group);
        self.resources.lock().get(&(group.to_owned(), kind.kind.clone())).cloned()
    }

    /// Follows discovery for ever.
    pub async fn run(self: Arc<Self>, tasks: Tasks) {
        loop {
            match discovery::resources(&self.client).await {
                Ok(resources) => {
                    self.follow_discovery(resources, &tasks);
                    if !*self.synced.borrow() {
                        self.first_sync().await;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot discover resources, trying again");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            }
            tokio::time::sleep(DISCOVERY_PERIOD).await;
        }
    }

    async fn first_sync(&self) {
        let pending: Vec<_> = self.running.lock().values().map(|monitor| monitor.listed.clone()).collect();
        let all = async {
            for mut listed in pending {
                drop(listed.wait_for(|&listed| listed).await);
            }
        };
        if tokio::time::timeout(SYNC_TIMEOUT, all).await.is_err() {
            tracing::warn!("some resources cannot be listed, collecting garbage without them");
        }
        let (nodes, objects) = self.graph.lock().size();
        tracing::debug!(nodes, objects, "the owner graph is complete");
        self.synced.send_replace(true);
    }

    fn follow_discovery(self: &Arc<Self>, resources: Vec<Resource>, tasks: &Tasks) {
        let mut running = self.running.lock();
        let mut wanted = Vec::new();
        for resource in resources.iter().filter(|resource| is_monitored(resource)) {
            let kind = self.graph.lock().kind(&resource.api.api_version, &resource.api.kind);
            wanted.push(kind.clone());
            running.entry(kind.clone()).or_insert_with(|| self.start(kind, resource, tasks));
        }
        let gone: Vec<Arc<Kind>> = running.keys().filter(|kind| !wanted.contains(kind)).cloned().collect();
        for kind in gone {
            running.remove(&kind);
            let looks = self.graph.lock().forget_kind(&kind);
            self.look(looks);
        }
        *self.resources.lock() =
            resources.into_iter().map(|resource| ((resource.api.group.clone(), resource.api.kind.clone()), resource)).collect();
    }

    fn start(self: &Arc<Self>, kind: Arc<Kind>, resource: &Resource, tasks: &Tasks) -> Monitor {
        let (listed, receiver) = channel::channel(false);
        let tasks = tasks.child();
        let (monitors, api) = (self.clone(), resource.everywhere(&self.client));
        let listed = Arc::new(listed);
        tasks.spawn_restarting("garbage collector monitor", move || {
            let (monitors, api, kind, listed) = (monitors.clone(), api.clone(), kind.clone(), listed.clone());
            async move {
                follow(&api, &Selection::default(), |step| monitors.step(&kind, step, &listed)).await;
            }
        });
        Monitor { tasks, listed: receiver }
    }

    fn step(&self, kind: &Arc<Kind>, step: Step<Metadata>, listed: &channel::Sender<bool>) {
        let mut graph = self.graph.lock();
        let looks = match step {
            Step::Listing => {
                graph.begin_list(kind);
                Vec::new()
            }
            Step::Listed(object) | Step::Applied(object) => graph.apply(kind, &object.metadata),
            Step::Deleted(object) => graph.remove(kind, Uid::of(object.metadata.uid.as_deref().unwrap_or_default())),
            Step::Complete => {
                let looks = graph.end_list(kind);
                listed.send_replace(true);
                looks
            }
            Step::Seen(_) => Vec::new(),
        };
        drop(graph);
        self.look(looks);
    }

    fn look(&self, looks: Vec<Look>) {
        if !looks.is_empty() {
            let queue = self.queue();
            looks.into_iter().for_each(|look| queue.add(look));
        }
    }
}

/// Events own nothing and are not owned, and they are many.
fn is_monitored(resource: &Resource) -> bool {
    let is_event = resource.api.plural == "events" && matches!(resource.api.group.as_str(), "" | "events.k8s.io");
    !is_event && resource.can("delete") && resource.can("list") && resource.can("watch")
}
