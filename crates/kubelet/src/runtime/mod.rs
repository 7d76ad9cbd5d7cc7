//! The container runtime behind CRI: calls, what it holds per pod, and the generator of pod lifecycle events.

pub mod cri;
pub mod labels;
pub mod model;
pub mod pleg;

use std::collections::HashMap;

use futures::future::try_join_all;
use k8s_cri::v1 as pb;

pub use cri::{Cri, CriError};
pub use model::{ContainerRecord, RuntimePod, SandboxRecord, State};

/// Asks the runtime for everything about one pod. `known` are the records of the last call: an exited container never changes, so it is not
/// asked for again.
pub async fn inspect(cri: &Cri, uid: &str, known: &RuntimePod) -> Result<RuntimePod, CriError> {
    let selector = HashMap::from([(labels::POD_UID.to_owned(), uid.to_owned())]);
    let sandbox_filter = pb::PodSandboxFilter { label_selector: selector.clone(), ..Default::default() };
    let container_filter = pb::ContainerFilter { label_selector: selector, ..Default::default() };
    let (sandboxes, containers) = tokio::try_join!(cri.list_sandboxes(Some(sandbox_filter)), cri.list_containers(Some(container_filter)))?;
    let sandboxes = try_join_all(sandboxes.iter().map(|sandbox| cri.sandbox_status(&sandbox.id)));
    let containers = try_join_all(containers.into_iter().map(|container| inspect_container(cri, container, known)));
    let (sandboxes, containers) = tokio::try_join!(sandboxes, containers)?;
    let mut pod = RuntimePod {
        sandboxes: sandboxes.into_iter().flatten().map(SandboxRecord::from_status).collect(),
        containers: containers.into_iter().flatten().collect(),
    };
    pod.sandboxes.sort_by_key(|sandbox| std::cmp::Reverse((sandbox.created_ns, sandbox.attempt)));
    pod.containers.sort_by_key(|container| std::cmp::Reverse((container.created_ns, container.restart_count)));
    Ok(pod)
}

async fn inspect_container(cri: &Cri, container: pb::Container, known: &RuntimePod) -> Result<Option<ContainerRecord>, CriError> {
    if container.state() == pb::ContainerState::ContainerExited {
        let same = known.containers.iter().find(|record| record.id == container.id && record.state == State::Exited);
        if let Some(record) = same {
            return Ok(Some(record.clone()));
        }
    }
    Ok(cri.container_status(&container.id).await?.map(ContainerRecord::from_status))
}
