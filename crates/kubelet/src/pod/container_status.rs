//! The API's view of each container, made from what the runtime holds. Pure (behaviour of convertToAPIContainerStatuses, pkg/kubelet/kubelet_pods.go).

use std::collections::HashMap;

use api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, ContainerUser,
    LinuxContainerUser, Pod, VolumeMountStatus,
};

use super::{Slot, api_status, ephemeral_containers, from_nanos, init_containers, is_sidecar, regular_containers, restart};
use crate::probes::Results;
use crate::runtime::{ContainerRecord, RuntimePod, State};

/// Why a container is not running yet, by its name: reason and message.
pub type Reasons = HashMap<String, (String, String)>;

/// All that the API status of a pod is computed from.
pub struct Input<'a> {
    pub pod: &'a Pod,
    pub runtime: &'a RuntimePod,
    pub reasons: &'a Reasons,
    pub probes: &'a Results,
    /// `containerd`: the scheme of container ids.
    pub runtime_name: &'a str,
    /// The pod will run nothing again.
    pub terminal: bool,
}

impl Input<'_> {
    pub fn init(&self) -> Vec<ContainerStatus> {
        let previous = api_status(self.pod).init_container_statuses.as_deref().unwrap_or_default();
        self.list(init_containers(self.pod), previous, "PodInitializing", Slot::Init)
    }

    pub fn regular(&self) -> Vec<ContainerStatus> {
        let previous = api_status(self.pod).container_statuses.as_deref().unwrap_or_default();
        let waiting = if init_containers(self.pod).is_empty() { "ContainerCreating" } else { "PodInitializing" };
        self.list(regular_containers(self.pod), previous, waiting, Slot::Regular)
    }

    pub fn ephemeral(&self) -> Vec<ContainerStatus> {
        let previous = api_status(self.pod).ephemeral_container_statuses.as_deref().unwrap_or_default();
        self.list(&ephemeral_containers(self.pod), previous, "ContainerCreating", Slot::Ephemeral)
    }

    fn list(&self, containers: &[Container], previous: &[ContainerStatus], waiting: &str, slot: fn(usize) -> Slot) -> Vec<ContainerStatus> {
        let initialized = regular_containers(self.pod).iter().any(|container| self.runtime.container(&container.name).is_some());
        let mut out: Vec<ContainerStatus> = containers
            .iter()
            .enumerate()
            .map(|(index, container)| {
                let old = previous.iter().find(|status| status.name == container.name);
                let mut status = self.one(container, old, waiting, slot(index));
                if self.terminal && initialized && !matches!(slot(index), Slot::Init(_)) {
                    mark_lost(&mut status);
                }
                status
            })
            .collect();
        // Upstream sorts by name where the spec has no say; init containers keep their order.
        if !matches!(slot(0), Slot::Init(_)) {
            out.sort_by(|a, b| a.name.cmp(&b.name));
        }
        out
    }

    fn one(&self, container: &Container, old: Option<&ContainerStatus>, waiting: &str, slot: Slot) -> ContainerStatus {
        let record = self.runtime.container(&container.name);
        let mut status = match record {
            Some(record) => self.of_record(container, record),
            None => self.without_record(container, old, waiting),
        };
        if let Some((reason, message)) = self.reason_for(container, record) {
            let ended = status.state.take().filter(|state| state.terminated.is_some());
            if ended.is_some() {
                status.last_state = ended;
            }
            status.state = Some(waiting_state(reason, message));
        }
        self.readiness(container, record, slot, &mut status);
        status.volume_mounts = mount_statuses(container);
        status.resources.clone_from(&container.resources);
        status.resources = status.resources.filter(|resources| resources.limits.is_some() || resources.requests.is_some());
        status.allocated_resources = container.resources.as_ref().and_then(|resources| resources.requests.clone());
        status
    }

    /// The reason a failed or delayed start left, while it still explains the state.
    fn reason_for(&self, container: &Container, record: Option<&ContainerRecord>) -> Option<(&str, &str)> {
        if self.terminal || record.is_some_and(ContainerRecord::is_running) {
            return None;
        }
        if !restart::should_start(self.pod, container, record) {
            return None;
        }
        self.reasons.get(&container.name).map(|(reason, message)| (reason.as_str(), message.as_str()))
    }

    fn of_record(&self, container: &Container, record: &ContainerRecord) -> ContainerStatus {
        let state = match record.state {
            State::Running => ContainerState {
                running: Some(ContainerStateRunning { started_at: from_nanos(record.started_ns) }),
                ..ContainerState::default()
            },
            State::Exited => self.terminated(record),
            State::Created => waiting_state("ContainerCreating", ""),
            State::Unknown => lost_state(record, &record.full_id(self.runtime_name)),
        };
        ContainerStatus {
            name: container.name.clone(),
            image: record.image.clone(),
            image_id: record.image_ref.clone(),
            container_id: Some(record.full_id(self.runtime_name)),
            restart_count: record.restart_count,
            state: Some(state),
            last_state: self.runtime.last_exited(&container.name, &record.id).map(|last| self.terminated(last)),
            user: record.user.as_ref().map(|user| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: user.uid,
                    gid: user.gid,
                    supplemental_groups: Some(user.supplemental_groups.clone()).filter(|groups| !groups.is_empty()),
                }),
            }),
            ..ContainerStatus::default()
        }
    }

    fn terminated(&self, record: &ContainerRecord) -> ContainerState {
        ContainerState {
            terminated: Some(ContainerStateTerminated {
                container_id: Some(record.full_id(self.runtime_name)),
                exit_code: record.exit_code,
                reason: Some(record.reason.clone()).filter(|reason| !reason.is_empty()),
                message: Some(record.message.clone()).filter(|message| !message.is_empty()),
                started_at: from_nanos(record.started_ns),
                finished_at: from_nanos(record.finished_ns),
                signal: None,
            }),
            ..ContainerState::default()
        }
    }

    /// Nothing in the runtime: not started yet, or lost with what the API remembers of it.
    fn without_record(&self, container: &Container, old: Option<&ContainerStatus>, waiting: &str) -> ContainerStatus {
        let mut status = ContainerStatus {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: Some(waiting_state(waiting, "")),
            ..ContainerStatus::default()
        };
        let Some(old) = old else { return status };
        status.restart_count = old.restart_count;
        status.last_state.clone_from(&old.last_state);
        let Some(old_state) = &old.state else { return status };
        if old_state.terminated.is_some() {
            // It ended and was removed since: what the API says stays true.
            return ContainerStatus { ready: false, ..old.clone() };
        }
        if old_state.running.is_some() {
            status.last_state = Some(ContainerState {
                terminated: Some(ContainerStateTerminated {
                    exit_code: 137,
                    reason: Some("ContainerStatusUnknown".into()),
                    message: Some("The container could not be located when the pod was deleted.  The container used to be Running".into()),
                    container_id: old.container_id.clone(),
                    ..ContainerStateTerminated::default()
                }),
                ..ContainerState::default()
            });
            status.restart_count += 1;
        }
        status
    }

    fn readiness(&self, container: &Container, record: Option<&ContainerRecord>, slot: Slot, status: &mut ContainerStatus) {
        let running = record.filter(|record| record.is_running() && status.state.as_ref().is_some_and(|state| state.running.is_some()));
        let started = running.is_some_and(|record| self.probes.started(container, record));
        if matches!(slot, Slot::Ephemeral(_)) {
            status.ready = false;
            return;
        }
        status.started = Some(started);
        status.ready = if matches!(slot, Slot::Init(_)) && !is_sidecar(container) {
            status.state.as_ref().and_then(|state| state.terminated.as_ref()).is_some_and(|terminated| terminated.exit_code == 0)
        } else {
            started && running.is_some_and(|record| self.probes.ready(container, record))
        };
    }
}

pub fn waiting_state(reason: &str, message: &str) -> ContainerState {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    ContainerState { waiting: Some(ContainerStateWaiting { reason: text(reason), message: text(message) }), ..ContainerState::default() }
}

fn lost_state(record: &ContainerRecord, id: &str) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            container_id: Some(id.to_owned()),
            started_at: from_nanos(record.started_ns),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    }
}

/// A pod that ran and has ended has only ended containers (status_manager.go: TerminatePod).
fn mark_lost(status: &mut ContainerStatus) {
    if status.state.as_ref().is_some_and(|state| state.terminated.is_some()) {
        return;
    }
    status.state = Some(ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".into()),
            message: Some("The container could not be located when the pod was terminated".into()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    });
}

fn mount_statuses(container: &Container) -> Option<Vec<VolumeMountStatus>> {
    let mounts = container.volume_mounts.as_ref().filter(|mounts| !mounts.is_empty())?;
    let status = |mount: &api::core::v1::VolumeMount| {
        let read_only = mount.read_only.unwrap_or(false);
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: Some(true).filter(|_| read_only),
            recursive_read_only: Some("Disabled".to_owned()).filter(|_| read_only),
            ..VolumeMountStatus::default()
        }
    };
    Some(mounts.iter().map(status).collect())
}
