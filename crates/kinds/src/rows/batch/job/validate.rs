//! Rules on Jobs (pkg/apis/batch/validation).

use api::batch::v1::{Job, JobSpec};
use api::{FieldErrors, Path};

use crate::validation::{immutable, not_negative, not_negative_opt, one_of_present, pod_template, selectors, shown};

/// Of a Job, or of a CronJob's template, which has no selector of its own.
pub fn spec(errors: &mut FieldErrors, path: &Path, spec: &JobSpec, needs_selector: bool) {
    for (field, value) in [
        ("parallelism", spec.parallelism),
        ("completions", spec.completions),
        ("backoffLimit", spec.backoff_limit),
        ("ttlSecondsAfterFinished", spec.ttl_seconds_after_finished),
        ("backoffLimitPerIndex", spec.backoff_limit_per_index),
        ("maxFailedIndexes", spec.max_failed_indexes),
    ] {
        not_negative_opt(errors, &path.child(field), value);
    }
    not_negative_opt(errors, &path.child("activeDeadlineSeconds"), spec.active_deadline_seconds);
    completion_mode(errors, path, spec);
    one_of_present(errors, &path.child("podReplacementPolicy"), spec.pod_replacement_policy.as_deref(), &["Failed", "TerminatingOrFailed"]);
    let template_path = path.child("template");
    pod_template::pod_template(errors, &template_path, &spec.template);
    let policy = spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()).unwrap_or_default();
    let restart_path = template_path.child("spec").child("restartPolicy");
    if policy == "Always" {
        errors.required(&restart_path, "valid values: \"OnFailure\", \"Never\"");
    } else if policy == "OnFailure" && spec.pod_failure_policy.is_some() {
        let detail = "only \"Never\" is supported when podFailurePolicy is specified";
        errors.invalid(&restart_path, policy, detail);
    }
    selector(errors, path, spec, needs_selector);
}

fn completion_mode(errors: &mut FieldErrors, path: &Path, spec: &JobSpec) {
    let mode = spec.completion_mode.as_deref();
    one_of_present(errors, &path.child("completionMode"), mode, &["Indexed", "NonIndexed"]);
    if mode == Some("Indexed") {
        match spec.completions {
            None => errors.required(&path.child("completions"), "when completion mode is Indexed"),
            Some(_) if spec.parallelism.unwrap_or(0) > 100_000 => {
                let detail = "must be less than or equal to 100000 when completion mode is Indexed";
                errors.invalid(&path.child("parallelism"), spec.parallelism.unwrap_or(0), detail);
            }
            Some(_) => {}
        }
    } else if spec.backoff_limit_per_index.is_some() {
        let value = spec.backoff_limit_per_index.unwrap_or(0);
        errors.invalid(&path.child("backoffLimitPerIndex"), value, "requires indexed completion mode");
    }
}

fn selector(errors: &mut FieldErrors, path: &Path, spec: &JobSpec, needed: bool) {
    match (&spec.selector, needed) {
        (None, true) => errors.required(&path.child("selector"), ""),
        (None, false) => {}
        (Some(selector), true) => {
            selectors::label_selector(errors, &path.child("selector"), Some(selector));
            pod_template::selected(errors, &path.child("template"), &spec.template, selector);
        }
        (Some(selector), false) => {
            let detail = "`selector` will be auto-generated";
            errors.invalid(&path.child("selector"), &shown(selector), detail);
        }
    }
}

pub fn update(new: &Job, old: &Job, errors: &mut FieldErrors) {
    let (Some(spec), Some(before)) = (&new.spec, &old.spec) else { return };
    let path = Path::new("spec");
    if spec.completion_mode.as_deref() != Some("Indexed") || spec.completions != spec.parallelism {
        immutable(errors, &path.child("completions"), &spec.completions, &before.completions);
    }
    not_negative(errors, &path.child("completions"), spec.completions.unwrap_or(0));
    immutable(errors, &path.child("selector"), &spec.selector, &before.selector);
    immutable(errors, &path.child("completionMode"), &spec.completion_mode, &before.completion_mode);
    immutable(errors, &path.child("podFailurePolicy"), &spec.pod_failure_policy, &before.pod_failure_policy);
    immutable(errors, &path.child("backoffLimitPerIndex"), &spec.backoff_limit_per_index, &before.backoff_limit_per_index);
    immutable(errors, &path.child("managedBy"), &spec.managed_by, &before.managed_by);
    let suspended = before.suspend == Some(true);
    let not_started = old.status.as_ref().is_none_or(|status| status.start_time.is_none());
    let mut template = spec.template.clone();
    if suspended && not_started {
        scheduling_directives(&mut template, &before.template);
    }
    if template != before.template {
        errors.invalid(&path.child("template"), &shown(&spec.template), crate::validation::IMMUTABLE);
    }
}

/// What decides where pods go may change while a job never ran (KEP-2926).
fn scheduling_directives(new: &mut api::core::v1::PodTemplateSpec, old: &api::core::v1::PodTemplateSpec) {
    let (Some(spec), Some(before)) = (&mut new.spec, &old.spec) else { return };
    spec.affinity.clone_from(&before.affinity);
    spec.node_selector.clone_from(&before.node_selector);
    spec.tolerations.clone_from(&before.tolerations);
    spec.scheduling_gates.clone_from(&before.scheduling_gates);
    if let (Some(meta), Some(before)) = (&mut new.metadata, &old.metadata) {
        meta.annotations.clone_from(&before.annotations);
        meta.labels.clone_from(&before.labels);
    }
}
