//! What the runtime holds for one pod, as values that the pure parts read. Built from CRI answers only.

use std::collections::HashMap;

use k8s_cri::v1 as pb;

use super::labels;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Created,
    Running,
    Exited,
    Unknown,
}

impl From<pb::ContainerState> for State {
    fn from(state: pb::ContainerState) -> Self {
        match state {
            pb::ContainerState::ContainerCreated => Self::Created,
            pb::ContainerState::ContainerRunning => Self::Running,
            pb::ContainerState::ContainerExited => Self::Exited,
            pb::ContainerState::ContainerUnknown => Self::Unknown,
        }
    }
}

/// One container, living or dead. Times are Unix nanoseconds, 0 when it has not happened.
#[derive(Clone, Debug)]
pub struct ContainerRecord {
    pub id: String,
    pub name: String,
    pub state: State,
    pub image: String,
    pub image_ref: String,
    pub hash: u32,
    pub restart_count: i32,
    pub created_ns: i64,
    pub started_ns: i64,
    pub finished_ns: i64,
    pub exit_code: i32,
    pub reason: String,
    pub message: String,
    pub log_path: String,
    pub annotations: HashMap<String, String>,
    pub mounts: Vec<(String, String)>,
    pub user: Option<pb::LinuxContainerUser>,
}

impl ContainerRecord {
    pub fn from_status(status: pb::ContainerStatus) -> Self {
        let annotation = |key: &str| status.annotations.get(key).map(String::as_str);
        let attempt = status.metadata.as_ref().map_or(0, |metadata| metadata.attempt);
        Self {
            state: status.state().into(),
            name: status.metadata.as_ref().map(|metadata| metadata.name.clone()).unwrap_or_default(),
            hash: annotation(labels::CONTAINER_HASH).and_then(|text| u32::from_str_radix(text, 16).ok()).unwrap_or(0),
            restart_count: annotation(labels::RESTART_COUNT)
                .and_then(|text| text.parse().ok())
                .unwrap_or_else(|| i32::try_from(attempt).unwrap_or(i32::MAX)),
            id: status.id,
            image: status.image.map(|image| image.image).unwrap_or_default(),
            image_ref: status.image_ref,
            created_ns: status.created_at,
            started_ns: status.started_at,
            finished_ns: status.finished_at,
            exit_code: status.exit_code,
            reason: status.reason,
            message: status.message,
            log_path: status.log_path,
            annotations: status.annotations,
            mounts: status.mounts.into_iter().map(|mount| (mount.container_path, mount.host_path)).collect(),
            user: status.user.and_then(|user| user.linux),
        }
    }

    pub fn is_running(&self) -> bool {
        self.state == State::Running
    }

    /// `containerd://ID`, as the API shows it.
    pub fn full_id(&self, runtime_name: &str) -> String {
        format!("{runtime_name}://{}", self.id)
    }
}

#[derive(Clone, Debug)]
pub struct SandboxRecord {
    pub id: String,
    pub ready: bool,
    pub created_ns: i64,
    pub attempt: u32,
    pub ips: Vec<String>,
    pub host_network: bool,
}

impl SandboxRecord {
    pub fn from_status(status: pb::PodSandboxStatus) -> Self {
        let host_network = status
            .linux
            .as_ref()
            .and_then(|linux| linux.namespaces.as_ref())
            .and_then(|namespaces| namespaces.options.as_ref())
            .is_some_and(|options| options.network() == pb::NamespaceMode::Node);
        let mut ips = Vec::new();
        if let Some(network) = &status.network {
            ips.extend(Some(network.ip.clone()).filter(|ip| !ip.is_empty()));
            ips.extend(network.additional_ips.iter().map(|ip| ip.ip.clone()));
        }
        Self {
            ready: status.state() == pb::PodSandboxState::SandboxReady,
            attempt: status.metadata.as_ref().map_or(0, |metadata| metadata.attempt),
            id: status.id,
            created_ns: status.created_at,
            ips,
            host_network,
        }
    }
}

/// All that the runtime knows of one pod, newest first in both lists.
#[derive(Clone, Debug, Default)]
pub struct RuntimePod {
    pub sandboxes: Vec<SandboxRecord>,
    pub containers: Vec<ContainerRecord>,
}

impl RuntimePod {
    /// The newest container of that name.
    pub fn container(&self, name: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|container| container.name == name)
    }

    /// The newest container of that name that has exited, other than `except`.
    pub fn last_exited(&self, name: &str, except: &str) -> Option<&ContainerRecord> {
        self.containers.iter().find(|container| container.name == name && container.id != except && container.state == State::Exited)
    }

    pub fn ready_sandbox(&self) -> Option<&SandboxRecord> {
        self.sandboxes.iter().find(|sandbox| sandbox.ready)
    }

    pub fn has_running(&self) -> bool {
        self.containers.iter().any(ContainerRecord::is_running)
    }
}
