//! What the controllers do not read is not kept in memory. A typed Pod costs about 50 KB; what is left of it here about two. Objects that controllers
//! write back as a whole (ReplicaSets, Deployments, ...) must stay whole.

use api::core::v1::{Container, Node, Pod, PodSpec, PodStatus};
use client::Informers;

pub fn register(informers: &Informers) {
    informers.trimmed::<Pod>(pod);
    informers.trimmed::<Node>(node);
}

fn pod(pod: &mut Pod) {
    if let Some(spec) = pod.spec.take() {
        let ports = |container: Container| Container {
            name: container.name,
            ports: container.ports,
            restart_policy: container.restart_policy,
            ..Container::default()
        };
        // Until it is bound, a daemon's node is in its affinity.
        let affinity = spec.affinity.filter(|_| spec.node_name.as_deref().is_none_or(str::is_empty));
        pod.spec = Some(PodSpec {
            affinity,
            node_name: spec.node_name,
            hostname: spec.hostname,
            subdomain: spec.subdomain,
            tolerations: spec.tolerations,
            termination_grace_period_seconds: spec.termination_grace_period_seconds,
            containers: spec.containers.into_iter().map(ports).collect(),
            init_containers: spec.init_containers.map(|containers| containers.into_iter().map(ports).collect()),
            ..PodSpec::default()
        });
    }
    if let Some(status) = pod.status.take() {
        let counts = |status: api::core::v1::ContainerStatus| api::core::v1::ContainerStatus {
            name: status.name,
            restart_count: status.restart_count,
            ..Default::default()
        };
        pod.status = Some(PodStatus {
            phase: status.phase,
            conditions: status.conditions,
            pod_ip: status.pod_ip,
            pod_ips: status.pod_ips,
            container_statuses: status.container_statuses.map(|statuses| statuses.into_iter().map(counts).collect()),
            ..PodStatus::default()
        });
    }
}

fn node(node: &mut Node) {
    if let Some(status) = &mut node.status {
        status.images = None;
        status.volumes_in_use = None;
        status.volumes_attached = None;
        status.runtime_handlers = None;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keeps_what_plans_read() {
        let whole = json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "serviceAccountName": "x",
            "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "env": [{"name": "A"}]}]},
            "status": {"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [{"name": "c", "restartCount": 3, "image": "i", "imageID": "", "ready": true}]}});
        let mut trimmed: Pod = serde_json::from_value(whole).expect("a pod");
        pod(&mut trimmed);
        let spec = trimmed.spec.expect("a spec");
        assert_eq!((spec.node_name.as_deref(), spec.service_account_name, spec.containers[0].image.as_deref()), (Some("n"), None, None));
        assert_eq!(spec.containers[0].ports.as_ref().map(Vec::len), Some(1));
        assert_eq!(trimmed.status.and_then(|status| Some(status.container_statuses?[0].restart_count)), Some(3));
    }
}
