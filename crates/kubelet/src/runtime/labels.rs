//! The labels and annotations by which sandboxes and containers are found again after a restart of this process
//! (pkg/kubelet/kuberuntime/labels.go, pkg/kubelet/types/labels.go). Names must stay upstream's.

use std::collections::HashMap;

use api::core::v1::{Container, Pod};
use serde_json::json;

pub const POD_NAME: &str = "io.kubernetes.pod.name";
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub const POD_UID: &str = "io.kubernetes.pod.uid";
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
pub const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
pub const PORTS: &str = "io.kubernetes.container.ports";
pub const GRACE_PERIOD: &str = "io.kubernetes.pod.terminationGracePeriod";
pub const DELETION_GRACE_PERIOD: &str = "io.kubernetes.pod.deletionGracePeriod";

/// Where a pod comes from: `api`, `file` (annotation of static pods).
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";

fn pod_identity(pod: &Pod) -> HashMap<String, String> {
    HashMap::from([
        (POD_NAME.to_owned(), pod.metadata.name.clone().unwrap_or_default()),
        (POD_NAMESPACE.to_owned(), pod.metadata.namespace.clone().unwrap_or_default()),
        (POD_UID.to_owned(), crate::pod::uid(pod).to_owned()),
    ])
}

/// A sandbox carries the pod's own labels and its identity.
pub fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let mut labels: HashMap<String, String> = pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    labels.extend(pod_identity(pod));
    labels
}

pub fn sandbox_annotations(pod: &Pod) -> HashMap<String, String> {
    pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect()
}

pub fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let mut labels = pod_identity(pod);
    labels.insert(CONTAINER_NAME.to_owned(), container.name.clone());
    labels
}

pub fn container_annotations(pod: &Pod, container: &Container, restart_count: i32) -> HashMap<String, String> {
    let spec = pod.spec.as_ref();
    let mut out = HashMap::from([
        (CONTAINER_HASH.to_owned(), format!("{:x}", container_hash(container))),
        (RESTART_COUNT.to_owned(), restart_count.to_string()),
        (MESSAGE_PATH.to_owned(), container.termination_message_path.clone().unwrap_or_default()),
        (MESSAGE_POLICY.to_owned(), container.termination_message_policy.clone().unwrap_or_default()),
    ]);
    if let Some(seconds) = pod.metadata.deletion_grace_period_seconds {
        out.insert(DELETION_GRACE_PERIOD.to_owned(), seconds.to_string());
    }
    if let Some(seconds) = spec.and_then(|spec| spec.termination_grace_period_seconds) {
        out.insert(GRACE_PERIOD.to_owned(), seconds.to_string());
    }
    if let Some(handler) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) {
        out.insert(PRE_STOP.to_owned(), json!(handler).to_string());
    }
    if let Some(ports) = container.ports.as_ref().filter(|ports| !ports.is_empty()) {
        out.insert(PORTS.to_owned(), json!(ports).to_string());
    }
    out
}

/// Only what cannot change without a restart enters the hash: name and image (KEP-1287 keeps resources out).
/// FNV-1a, 32 bits.
pub fn container_hash(container: &Container) -> u32 {
    let text = json!({"image": container.image.as_deref().unwrap_or_default(), "name": container.name}).to_string();
    fnv1a(text.as_bytes())
}

pub fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_depends_on_name_and_image_only() {
        let base = Container { name: "a".into(), image: Some("b".into()), ..Container::default() };
        let other_args = Container { args: Some(vec!["x".into()]), ..base.clone() };
        let other_image = Container { image: Some("c".into()), ..base.clone() };
        assert_eq!(container_hash(&base), container_hash(&other_args));
        assert_ne!(container_hash(&base), container_hash(&other_image));
    }

    #[test]
    fn fnv_of_known_text() {
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
    }
}
