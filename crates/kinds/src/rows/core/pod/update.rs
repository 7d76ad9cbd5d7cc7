//! Rules on changes of a pod, by subresource (pkg/apis/core/validation: ValidatePodUpdate and friends).

use api::core::v1::{Container, Pod, PodSpec, Toleration};
use api::{FieldErrors, Path};

use crate::validation::{self, shown};

const MAIN_DETAIL: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

/// PUT and PATCH of the pod itself.
pub fn validate(new: &Pod, old: &Pod, errors: &mut FieldErrors) {
    let path = Path::new("spec");
    let empty = PodSpec::default();
    let (new, old) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    let before = errors.0.len();
    same_count(errors, &path.child("containers"), new.containers.len(), old.containers.len());
    let inits = |spec: &PodSpec| spec.init_containers.as_ref().map_or(0, Vec::len);
    same_count(errors, &path.child("initContainers"), inits(new), inits(old));
    if errors.0.len() > before {
        return;
    }
    deadline(errors, &path.child("activeDeadlineSeconds"), new, old);
    tolerations(errors, &path.child("tolerations"), new, old);
    let gates = |spec: &PodSpec| -> Vec<String> { spec.scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect() };
    let old_gates = gates(old);
    if let Some(added) = gates(new).into_iter().find(|gate| !old_gates.contains(gate)) {
        let detail = format!("only deletion is allowed, but found new scheduling gate '{added}'");
        errors.forbidden(&path.child("schedulingGates"), &detail);
    }
    if with_allowed_changes(new, old) != *old {
        errors.forbidden(&path, MAIN_DETAIL);
    }
}

fn same_count(errors: &mut FieldErrors, path: &Path, new: usize, old: usize) {
    if new != old {
        errors.forbidden(path, "pod updates may not add or remove containers");
    }
}

fn deadline(errors: &mut FieldErrors, path: &Path, new: &PodSpec, old: &PodSpec) {
    match (new.active_deadline_seconds, old.active_deadline_seconds) {
        (Some(new), Some(old)) if new > old => errors.invalid(path, new, "must be less than or equal to previous value"),
        (None, Some(_)) => errors.invalid(path, &serde_json::Value::Null, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn tolerations(errors: &mut FieldErrors, path: &Path, new: &PodSpec, old: &PodSpec) {
    let without_time = |toleration: &Toleration| Toleration { toleration_seconds: None, ..toleration.clone() };
    let kept: Vec<Toleration> = new.tolerations.iter().flatten().map(without_time).collect();
    if !old.tolerations.iter().flatten().all(|toleration| kept.contains(&without_time(toleration))) {
        errors.forbidden(path, "existing toleration can not be modified except its tolerationSeconds");
    }
}

/// `new` with everything that may change taken back to `old`: what is left over may not have changed.
fn with_allowed_changes(new: &PodSpec, old: &PodSpec) -> PodSpec {
    let mut spec = new.clone();
    let images = |new: &mut [Container], old: &[Container]| {
        for (new, old) in new.iter_mut().zip(old) {
            new.image.clone_from(&old.image);
        }
    };
    images(&mut spec.containers, &old.containers);
    images(spec.init_containers.as_deref_mut().unwrap_or_default(), old.init_containers.as_deref().unwrap_or_default());
    spec.active_deadline_seconds = old.active_deadline_seconds;
    spec.tolerations.clone_from(&old.tolerations);
    spec.ephemeral_containers.clone_from(&old.ephemeral_containers);
    if old.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()) {
        // A gated pod is not placed yet: where it may go can still be narrowed.
        spec.scheduling_gates.clone_from(&old.scheduling_gates);
        spec.node_selector.clone_from(&old.node_selector);
        spec.affinity.clone_from(&old.affinity);
    }
    if old.termination_grace_period_seconds.is_some_and(|seconds| seconds < 0) && spec.termination_grace_period_seconds == Some(1) {
        spec.termination_grace_period_seconds = old.termination_grace_period_seconds;
    }
    spec
}

/// PUT and PATCH of `status`.
pub fn validate_status(new: &Pod, old: &Pod, errors: &mut FieldErrors) {
    let empty = api::core::v1::PodStatus::default();
    let (status, before) = (new.status.as_ref().unwrap_or(&empty), old.status.as_ref().unwrap_or(&empty));
    let path = Path::new("status");
    let assigned = new.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_some_and(|node| !node.is_empty());
    if !assigned && status.container_statuses.as_ref().is_some_and(|list| !list.is_empty()) && before.container_statuses.is_none() {
        errors.forbidden(&path.child("containerStatuses"), "may not be set before the pod is bound to a node");
    }
    if before.qos_class.is_some() && status.qos_class != before.qos_class {
        errors.invalid(&path.child("qosClass"), &shown(&status.qos_class), validation::IMMUTABLE);
    }
}

/// PUT and PATCH of `ephemeralcontainers`: everything else is taken from `old`.
pub fn prepare_ephemeral_containers(new: &mut Pod, old: &Pod) {
    let sent = new.spec.as_mut().and_then(|spec| spec.ephemeral_containers.take());
    *new = old.clone();
    new.spec.get_or_insert_default().ephemeral_containers = sent;
}

/// Ephemeral containers can be added, never changed or removed.
pub fn validate_ephemeral_containers(new: &Pod, old: &Pod, errors: &mut FieldErrors) {
    let path = Path::new("spec").child("ephemeralContainers");
    let list = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.ephemeral_containers.clone()).unwrap_or_default();
    let (new, old) = (list(new), list(old));
    for before in &old {
        match new.iter().find(|container| container.name == before.name) {
            None => errors.forbidden(&path, &format!("existing ephemeral containers {:?} may not be removed\n", before.name)),
            Some(after) if after != before => {
                errors.forbidden(&path, &format!("existing ephemeral containers {:?} may not be changed\n", before.name));
            }
            Some(_) => {}
        }
    }
}

/// PUT and PATCH of `resize`: only resources and resize policies are taken from what was sent.
pub fn prepare_resize(new: &mut Pod, old: &Pod) {
    let sent = new.spec.take().unwrap_or_default();
    *new = old.clone();
    let spec = new.spec.get_or_insert_default();
    let merge = |old: &mut [Container], sent: &[Container]| {
        for container in old {
            if let Some(sent) = sent.iter().find(|sent| sent.name == container.name) {
                container.resources.clone_from(&sent.resources);
                container.resize_policy.clone_from(&sent.resize_policy);
            }
        }
    };
    merge(&mut spec.containers, &sent.containers);
    merge(spec.init_containers.as_deref_mut().unwrap_or_default(), sent.init_containers.as_deref().unwrap_or_default());
}

/// A resize changes cpu and memory only, and never the class of service.
pub fn validate_resize(new: &Pod, old: &Pod, errors: &mut FieldErrors) {
    let empty = PodSpec::default();
    let (spec, before) = (new.spec.as_ref().unwrap_or(&empty), old.spec.as_ref().unwrap_or(&empty));
    if super::qos::class(spec) != super::qos::class(before) {
        errors.invalid(&Path::new("spec"), super::qos::class(spec), "Pod QOS Class may not change as a result of resizing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": spec})).expect("a pod")
    }

    fn check(new: serde_json::Value, expected: &[&str]) {
        let old = pod(json!({"containers": [{"name": "a", "image": "x:1"}], "activeDeadlineSeconds": 10,
            "tolerations": [{"key": "k", "operator": "Exists"}]}));
        let mut errors = FieldErrors::default();
        validate(&pod(new), &old, &mut errors);
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:?}");
        for (text, start) in texts.iter().zip(expected) {
            assert!(text.starts_with(start), "{text}");
        }
    }

    #[test]
    fn only_few_fields_change() {
        let tolerations = || json!([{"key": "k", "operator": "Exists"}]);
        check(json!({"containers": [{"name": "a", "image": "x:2"}], "activeDeadlineSeconds": 5, "tolerations": tolerations()}), &[]);
        check(
            json!({"containers": [{"name": "a", "image": "x:1", "command": ["y"]}], "activeDeadlineSeconds": 10, "tolerations": tolerations()}),
            &["spec: Forbidden: pod updates may not change fields other than"],
        );
        check(
            json!({"containers": [{"name": "a", "image": "x:1"}], "activeDeadlineSeconds": 11}),
            &[
                "spec.activeDeadlineSeconds: Invalid value: 11: must be less than or equal to previous value",
                "spec.tolerations: Forbidden: existing toleration",
            ],
        );
        check(json!({"containers": []}), &["spec.containers: Forbidden: pod updates may not add or remove containers"]);
    }
}
