//! The scheduler at work: events of the API change the state, a loop takes the next pod and decides, outcomes are written by tasks of their own.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Pod};
use base::Tasks;
use base::clock;
use client::{Client, Delta, Informers, Recorder};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use crate::config::{ConfigFile, Options};
use crate::cycle::{self, NoFit, Profile};
use crate::framework::{ClusterEvent, Points};
use crate::outcome::{self, Outcomes};
use crate::server::{self, Metrics};
use crate::state::queue::QueuedPod;
use crate::state::{Cache, PodInfo, Queue, pod};

/// How many bindings and reports may be on their way at once.
const MAX_WRITES: usize = 64;

#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    #[error("the scheduler's configuration: {0}")]
    Config(String),
    #[error("reading {path}: {source}")]
    Read { path: String, source: std::io::Error },
    #[error(transparent)]
    Serve(#[from] serve::secure::ServeError),
}

/// Everything that a decision looks at or changes, under one short lock.
pub(crate) struct State {
    pub cluster: Cache,
    pub queue: Queue,
    start: usize,
}

/// A scheduler that is ready to run.
pub struct Scheduler {
    shared: Arc<Shared>,
    options: Options,
}

pub(crate) struct Shared {
    pub state: Mutex<State>,
    profiles: Vec<Profile>,
    wake: Notify,
    writes: Arc<Semaphore>,
    pub client: Client,
    pub metrics: Metrics,
    outcomes: Outcomes,
}

impl Scheduler {
    /// Reads the configuration. `client` acts as `system:kube-scheduler`; `recorder` writes its events.
    pub fn new(options: Options, client: Client, recorder: Recorder) -> Result<Self, SchedulerError> {
        let file = match &options.config {
            Some(path) => {
                let text =
                    std::fs::read_to_string(path).map_err(|source| SchedulerError::Read { path: path.display().to_string(), source })?;
                ConfigFile::parse(&text)?
            }
            None => ConfigFile::default(),
        };
        let shared = Shared {
            state: Mutex::new(State { cluster: Cache::default(), queue: Queue::new(file.initial_backoff(), file.max_backoff()), start: 0 }),
            profiles: file.profiles()?,
            wake: Notify::new(),
            writes: Arc::new(Semaphore::new(MAX_WRITES)),
            outcomes: Outcomes::new(client.clone(), recorder),
            client,
            metrics: Metrics::default(),
        };
        Ok(Self { shared: Arc::new(shared), options })
    }

    /// Starts the informers, the loop and the health server; returns once the caches are filled. The caller holds the lease where there is one.
    pub async fn start(self, tasks: &Tasks) -> Result<(), SchedulerError> {
        let informers = Informers::new(self.shared.client.clone(), tasks.clone());
        let pods = informers.of::<Pod>();
        let nodes = informers.of::<Node>();
        let shared = self.shared.clone();
        nodes.on_change(move |delta| shared.node_changed(delta));
        let shared = self.shared.clone();
        pods.on_change(move |delta| shared.pod_changed(delta));
        if self.options.secure_port != 0 {
            server::start(&self.options, self.shared.clone(), tasks).await?;
        }
        nodes.synced().await;
        pods.synced().await;
        let (shared, group) = (self.shared.clone(), tasks.clone());
        tasks.spawn_critical("scheduler", async move {
            // An informer follows the server for as long as somebody holds it.
            let _followed = (pods, nodes);
            shared.run(&group).await;
        });
        Ok(())
    }
}

impl Shared {
    async fn run(self: Arc<Self>, tasks: &Tasks) {
        loop {
            let Ok(permit) = self.writes.clone().acquire_owned().await else { return };
            let started = clock::monotonic();
            let Some((queued, decision)) = self.next_decision() else {
                drop(permit);
                self.wait().await;
                continue;
            };
            let shared = self.clone();
            self.metrics.attempt(decision.is_ok(), started.elapsed());
            tasks.spawn("scheduler-outcome", async move {
                shared.carry_out(queued, decision).await;
                drop(permit);
            });
            tokio::task::yield_now().await;
        }
    }

    async fn wait(&self) {
        let due = self.state.lock().queue.next_due();
        let far = clock::monotonic() + Duration::from_secs(60);
        tokio::select! {
            () = self.wake.notified() => {}
            () = tokio::time::sleep_until(due.unwrap_or(far).min(far)) => {}
        }
    }

    fn profile(&self, pod: &PodInfo) -> Option<&Profile> {
        let name = pod.pod.spec.as_ref().and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(crate::config::DEFAULT_SCHEDULER_NAME);
        self.profiles.iter().find(|profile| profile.scheduler_name == name)
    }

    /// Takes the next pod and decides on it; a placement already counts when this returns.
    fn next_decision(&self) -> Option<(QueuedPod, Result<String, NoFit>)> {
        let now = clock::monotonic();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        loop {
            let queued = state.queue.pop(now)?;
            let Some(profile) = self.profile(&queued.pod) else { continue };
            let decision = cycle::decide(profile, &state.cluster, &queued.pod, &mut state.start, &mut rand::random::<u64>);
            match &decision {
                Ok(node) => {
                    state.cluster.assume(queued.pod.clone(), node);
                    self.wake_others(state, &ClusterEvent::PodPlaced(&queued.pod));
                }
                Err(no_fit) => state.queue.put_unschedulable(queued.clone(), no_fit.rejected_by.iter().copied().collect(), now),
            }
            return Some((queued, decision));
        }
    }

    async fn carry_out(&self, queued: QueuedPod, decision: Result<String, NoFit>) {
        match decision {
            Ok(node) => match self.outcomes.bind(&queued.pod, &node).await {
                Ok(()) => self.metrics.bound(queued.since.elapsed()),
                Err(outcome::BindError::Gone) => self.undo(&queued, &node, false),
                Err(outcome::BindError::Failed(cause)) => {
                    tracing::warn!(pod = %queued.pod.key, node, cause, "binding failed, the pod is tried again");
                    self.undo(&queued, &node, true);
                    self.outcomes.report(&queued.pod, "SchedulerError", &cause).await;
                }
            },
            Err(no_fit) => self.outcomes.report(&queued.pod, "Unschedulable", &no_fit.message()).await,
        }
    }

    /// The placement did not come about: the node is free again, and the pod waits if it still exists.
    fn undo(&self, queued: &QueuedPod, node: &str, again: bool) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(profile) = self.profile(&queued.pod) {
            cycle::release(profile, &queued.pod, node);
        }
        state.cluster.remove_pod(&queued.pod.uid);
        if again {
            state.queue.put_back(queued.clone(), clock::monotonic());
        }
        self.wake_others(state, &ClusterEvent::PodLeft(&queued.pod));
        self.wake.notify_one();
    }

    /// Tries again the pods that the event may help, by the hints of the plugins that rejected them.
    fn wake_others(&self, state: &mut State, event: &ClusterEvent<'_>) {
        let woken = state.queue.wake(clock::monotonic(), |pod, rejected_by| {
            let Some(profile) = self.profile(pod) else { return false };
            rejected_by.is_empty()
                || profile.plugins.iter().filter(|r| rejected_by.contains(&r.plugin.name())).any(|r| r.plugin.may_help(event, pod))
        });
        if woken > 0 {
            self.wake.notify_one();
        }
    }

    fn node_changed(&self, delta: &Delta<Node>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        match delta {
            Delta::Added(node) => {
                state.cluster.set_node(node);
                self.wake_others(state, &ClusterEvent::NodeAdded(node));
            }
            Delta::Updated { old, new } => {
                state.cluster.set_node(new);
                self.wake_others(state, &ClusterEvent::NodeUpdated { old, new });
            }
            Delta::Deleted(node) => state.cluster.remove_node(node.metadata.name.as_deref().unwrap_or_default()),
        }
    }

    fn pod_changed(&self, delta: &Delta<Pod>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        match delta {
            Delta::Added(pod) => self.pod_is(state, None, pod),
            Delta::Updated { old, new } => self.pod_is(state, Some(old), new),
            Delta::Deleted(pod) => self.pod_left(state, pod),
        }
    }

    fn pod_is(&self, state: &mut State, old: Option<&Arc<Pod>>, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if pod::node_name(pod).is_some() {
            state.queue.remove(uid);
            if pod::is_over(pod) {
                return self.pod_left(state, pod);
            }
            let new = !state.cluster.is_placed(uid);
            state.cluster.set_pod(pod);
            if new {
                self.wake_others(state, &ClusterEvent::PodPlaced(&PodInfo::new(pod.clone())));
            }
            return;
        }
        // Placed but not yet seen as bound: the event is older than our decision.
        if state.cluster.is_placed(uid) {
            return;
        }
        if pod.metadata.deletion_timestamp.is_some() || pod::is_over(pod) {
            return state.queue.remove(uid);
        }
        let info = Arc::new(PodInfo::new(pod.clone()));
        let Some(profile) = self.profile(&info) else { return };
        let gated =
            profile.plugins.iter().filter(|r| r.plugin.points().has(Points::PRE_ENQUEUE)).any(|r| r.plugin.pre_enqueue(&info).is_err());
        // Only a change of what the user wrote is worth another try: our own status report is not.
        let retry = old.is_none_or(|old| old.spec != pod.spec || old.metadata.labels != pod.metadata.labels);
        state.queue.update(info, gated, retry, clock::monotonic());
        self.wake.notify_one();
    }

    fn pod_left(&self, state: &mut State, pod: &Arc<Pod>) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        state.queue.remove(uid);
        if state.cluster.remove_pod(uid).is_some() {
            self.wake_others(state, &ClusterEvent::PodLeft(&PodInfo::new(pod.clone())));
        }
    }
}
