//! Deployment.

use api::apps::v1::{Deployment, DeploymentSpec, RollingUpdateDeployment};
use api::{FieldErrors, IntOrString, Path};
use serde_json::{Value, json};

use crate::defaults::{self, set, set_text};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, containers, name, selector, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{self, at_most_hundred_percent, immutable, int_or_percent, is_zero, not_negative_opt, percent_of, pod_template};

impl Kind for Deployment {
    const INFO: KindInfo = KindInfo {
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        schema: "io.k8s.api.apps.v1.Deployment",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set(&mut spec.replicas, 1);
        set(&mut spec.revision_history_limit, 10);
        set(&mut spec.progress_deadline_seconds, 600);
        let strategy = spec.strategy.get_or_insert_default();
        set_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            set(&mut rolling.max_unavailable, IntOrString::String("25%".into()));
            set(&mut rolling.max_surge, IntOrString::String("25%".into()));
        }
        defaults::pod_template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let none = DeploymentSpec::default();
        spec_rules(errors, &Path::new("spec"), self.spec.as_ref().unwrap_or(&none));
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else { return };
        immutable(errors, &Path::new("spec").child("selector"), &new.selector, &old.selector);
    }

    fn validate_status_update(&self, old: &Self, errors: &mut FieldErrors) {
        let (Some(status), Some(old)) = (&self.status, &old.status) else { return };
        let path = Path::new("status");
        for (field, value) in [
            ("replicas", status.replicas),
            ("updatedReplicas", status.updated_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
            ("unavailableReplicas", status.unavailable_replicas),
        ] {
            not_negative_opt(errors, &path.child(field), value);
        }
        let collisions = status.collision_count.unwrap_or(0);
        if collisions < old.collision_count.unwrap_or(0) {
            errors.invalid(&path.child("collisionCount"), collisions, "cannot be decremented");
        }
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Ready", "string"),
                column("Up-to-date", "integer"),
                column("Available", "integer"),
                AGE,
                wide("Containers", "string"),
                wide("Images", "string"),
                wide("Selector", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let [names, images] = containers(&spec.template.spec.unwrap_or_default().containers);
        vec![
            name(&self.metadata),
            json!(format!("{}/{}", status.ready_replicas.unwrap_or(0), spec.replicas.unwrap_or(0))),
            json!(status.updated_replicas.unwrap_or(0)),
            json!(status.available_replicas.unwrap_or(0)),
            age(&self.metadata, now),
            names,
            images,
            json!(selector(Some(&spec.selector))),
        ]
    }
}

fn spec_rules(errors: &mut FieldErrors, path: &Path, spec: &DeploymentSpec) {
    not_negative_opt(errors, &path.child("replicas"), spec.replicas);
    super::workload_selector(errors, &path.child("selector"), &spec.selector);
    let template_path = path.child("template");
    pod_template::selected(errors, &template_path, &spec.template, &spec.selector);
    pod_template::pod_template(errors, &template_path, &spec.template);
    pod_template::always_restarting(errors, &template_path, &spec.template);
    let strategy_path = path.child("strategy");
    let strategy = spec.strategy.clone().unwrap_or_default();
    let rolling_path = strategy_path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            errors.forbidden(&rolling_path, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("Recreate", None) => {}
        ("RollingUpdate", None) => errors.required(&rolling_path, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(rolling)) => rolling_update(errors, &rolling_path, rolling),
        (other, _) => errors.not_supported(&strategy_path, other, &["Recreate", "RollingUpdate"]),
    }
    not_negative_opt(errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
    not_negative_opt(errors, &path.child("revisionHistoryLimit"), spec.revision_history_limit);
    if let Some(deadline) = spec.progress_deadline_seconds {
        validation::not_negative(errors, &path.child("progressDeadlineSeconds"), deadline);
        if deadline <= spec.min_ready_seconds.unwrap_or(0) {
            errors.invalid(&path.child("progressDeadlineSeconds"), deadline, "must be greater than minReadySeconds");
        }
    }
}

fn rolling_update(errors: &mut FieldErrors, path: &Path, rolling: &RollingUpdateDeployment) {
    let zero = IntOrString::Int(0);
    let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
    let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
    int_or_percent(errors, &path.child("maxUnavailable"), unavailable);
    int_or_percent(errors, &path.child("maxSurge"), surge);
    if is_zero(unavailable) && is_zero(surge) {
        let detail = "may not be 0 when `maxSurge` is 0";
        errors.invalid(&path.child("maxUnavailable"), &validation::shown(unavailable), detail);
    }
    if percent_of(unavailable).is_some() {
        at_most_hundred_percent(errors, &path.child("maxUnavailable"), unavailable);
    }
}
