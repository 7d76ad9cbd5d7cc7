//! Rules on the pod templates of workloads.

use api::core::v1::PodTemplateSpec;
use api::{FieldErrors, Path};

use super::{metadata, pod_spec};

/// Labels, annotations, spec.
pub fn pod_template(errors: &mut FieldErrors, path: &Path, template: &PodTemplateSpec) {
    if let Some(meta) = &template.metadata {
        metadata::labels(meta.labels.as_ref(), &path.child("labels"), errors);
        metadata::annotations(meta.annotations.as_ref(), &path.child("annotations"), errors);
    }
    pod_spec::pod_spec(errors, &path.child("spec"), template.spec.as_ref().unwrap_or(&api::core::v1::PodSpec::default()));
    if template.spec.as_ref().and_then(|spec| spec.ephemeral_containers.as_ref()).is_some_and(|list| !list.is_empty()) {
        errors.forbidden(&path.child("spec").child("ephemeralContainers"), "ephemeral containers not allowed in pod template");
    }
}

/// A template of a workload that keeps its pods running.
pub fn always_restarting(errors: &mut FieldErrors, path: &Path, template: &PodTemplateSpec) {
    let Some(spec) = &template.spec else { return };
    let path = path.child("spec");
    if spec.restart_policy.as_deref().unwrap_or("Always") != "Always" {
        errors.not_supported(&path.child("restartPolicy"), spec.restart_policy.as_deref().unwrap_or_default(), &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        errors.forbidden(&path.child("activeDeadlineSeconds"), "activeDeadlineSeconds in ReplicaSet is not Supported");
    }
}

/// A template whose labels the workload's selector must match.
pub fn selected(errors: &mut FieldErrors, path: &Path, template: &PodTemplateSpec, selector: &api::meta::v1::LabelSelector) {
    let labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
    let Ok(parsed) = api::selector::Selector::from_label_selector(selector) else { return };
    if parsed.is_everything() || !parsed.matches_opt(labels) {
        errors.invalid(&path.child("metadata").child("labels"), &super::shown(&labels), "`selector` does not match template `labels`");
    }
}
