//! Probes: their verdicts per container, and the tasks that run them.

pub mod grpc;
pub mod http;
pub mod worker;

use std::collections::HashMap;
use std::sync::Arc;

use api::core::v1::{Container, Pod, Probe};

use crate::context::Context;
use crate::pod::worker::Shared;
use crate::pod::{init_containers, is_sidecar, regular_containers, spec};
use crate::runtime::{ContainerRecord, RuntimePod};

/// The probes' last verdicts of one pod, by container id. A container without an entry has the initial value of its kind:
/// alive, not ready, start-up undecided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    pub liveness: HashMap<String, bool>,
    pub readiness: HashMap<String, bool>,
    pub startup: HashMap<String, bool>,
}

impl Results {
    /// A running container has started once its start-up probe, if it has one, succeeded.
    pub fn started(&self, container: &Container, record: &ContainerRecord) -> bool {
        record.is_running() && (container.startup_probe.is_none() || self.startup.get(&record.id) == Some(&true))
    }

    /// A started container is ready once its readiness probe, if it has one, succeeded.
    pub fn ready(&self, container: &Container, record: &ContainerRecord) -> bool {
        self.started(container, record) && (container.readiness_probe.is_none() || self.readiness.get(&record.id) == Some(&true))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Liveness,
    Readiness,
    Startup,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }
}

/// The running probes of one pod: one task per container start and kind.
pub struct Prober {
    context: Arc<Context>,
    shared: Arc<Shared>,
    running: HashMap<(String, Kind), base::Tasks>,
}

impl Prober {
    pub fn new(context: Arc<Context>, shared: Arc<Shared>) -> Self {
        Self { context, shared, running: HashMap::new() }
    }

    /// Starts the probes of containers that run, ends those of containers that do not.
    pub fn sync(&mut self, pod: &Arc<Pod>, runtime: &RuntimePod) {
        self.running.retain(|(id, _), tasks| {
            let alive = runtime.containers.iter().any(|record| record.id == *id && record.is_running());
            if !alive {
                tasks.stop();
            }
            alive
        });
        let sidecars = init_containers(pod).iter().filter(|container| is_sidecar(container));
        for container in sidecars.chain(regular_containers(pod)) {
            let Some(record) = runtime.container(&container.name).filter(|record| record.is_running()) else { continue };
            let probes = [
                (Kind::Liveness, &container.liveness_probe),
                (Kind::Readiness, &container.readiness_probe),
                (Kind::Startup, &container.startup_probe),
            ];
            for (kind, probe) in probes {
                if let Some(probe) = probe {
                    self.start(pod, container, record, runtime, kind, probe);
                }
            }
        }
    }

    fn start(&mut self, pod: &Arc<Pod>, container: &Container, record: &ContainerRecord, runtime: &RuntimePod, kind: Kind, probe: &Probe) {
        let key = (record.id.clone(), kind);
        if self.running.contains_key(&key) {
            return;
        }
        let host_network = spec(pod).host_network.unwrap_or(false);
        let pod_ip = match host_network {
            true => self.context.machine.read().addresses.first().cloned(),
            false => runtime.ready_sandbox().and_then(|sandbox| sandbox.ips.first().cloned()),
        };
        let job = worker::Job {
            context: self.context.clone(),
            shared: self.shared.clone(),
            pod: pod.clone(),
            container: container.clone(),
            container_id: record.id.clone(),
            started_ns: record.started_ns,
            pod_ip: pod_ip.unwrap_or_default(),
            kind,
            probe: probe.clone(),
        };
        let tasks = self.context.tasks.child();
        tasks.spawn("probe", worker::run(job));
        self.running.insert(key, tasks);
    }

    /// Ends all probes.
    pub fn stop(&mut self) {
        for (_, tasks) in self.running.drain() {
            tasks.stop();
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop();
    }
}
