//! DaemonSet.

use api::apps::v1::{DaemonSet, DaemonSetSpec};
use api::{FieldErrors, IntOrString, Path};
use serde_json::{Value, json};

use crate::defaults::{self, set, set_text};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, containers, labels, name, selector, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{self, at_most_hundred_percent, immutable, int_or_percent, is_zero, not_negative_opt, pod_template};

impl Kind for DaemonSet {
    const INFO: KindInfo = KindInfo {
        singular: "daemonset",
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.apps.v1.DaemonSet",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set(&mut spec.revision_history_limit, 10);
        let strategy = spec.update_strategy.get_or_insert_default();
        set_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            let rolling = strategy.rolling_update.get_or_insert_default();
            set(&mut rolling.max_unavailable, IntOrString::Int(1));
            set(&mut rolling.max_surge, IntOrString::Int(0));
        }
        defaults::pod_template(&mut spec.template);
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let none = DaemonSetSpec::default();
        let (path, spec) = (Path::new("spec"), self.spec.as_ref().unwrap_or(&none));
        super::workload_selector(errors, &path.child("selector"), &spec.selector);
        let template_path = path.child("template");
        pod_template::selected(errors, &template_path, &spec.template, &spec.selector);
        pod_template::pod_template(errors, &template_path, &spec.template);
        pod_template::always_restarting(errors, &template_path, &spec.template);
        not_negative_opt(errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
        not_negative_opt(errors, &path.child("revisionHistoryLimit"), spec.revision_history_limit);
        strategy_rules(errors, &path.child("updateStrategy"), spec);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else { return };
        immutable(errors, &Path::new("spec").child("selector"), &new.selector, &old.selector);
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Desired", "integer"),
                column("Current", "integer"),
                column("Ready", "integer"),
                column("Up-to-date", "integer"),
                column("Available", "integer"),
                column("Node Selector", "string"),
                AGE,
                wide("Containers", "string"),
                wide("Images", "string"),
                wide("Selector", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let pod = spec.template.spec.unwrap_or_default();
        let [names, images] = containers(&pod.containers);
        vec![
            name(&self.metadata),
            json!(status.desired_number_scheduled),
            json!(status.current_number_scheduled),
            json!(status.number_ready),
            json!(status.updated_number_scheduled.unwrap_or(0)),
            json!(status.number_available.unwrap_or(0)),
            json!(labels(pod.node_selector.as_ref())),
            age(&self.metadata, now),
            names,
            images,
            json!(selector(Some(&spec.selector))),
        ]
    }
}

fn strategy_rules(errors: &mut FieldErrors, path: &Path, spec: &DaemonSetSpec) {
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let rolling_path = path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => errors.required(&rolling_path, ""),
        ("RollingUpdate", Some(rolling)) => {
            let zero = IntOrString::Int(0);
            let unavailable = rolling.max_unavailable.as_ref().unwrap_or(&zero);
            let surge = rolling.max_surge.as_ref().unwrap_or(&zero);
            int_or_percent(errors, &rolling_path.child("maxUnavailable"), unavailable);
            int_or_percent(errors, &rolling_path.child("maxSurge"), surge);
            match (is_zero(unavailable), is_zero(surge)) {
                (false, false) => {
                    let detail = "may not be set when maxUnavailable is non-zero";
                    errors.invalid(&rolling_path.child("maxSurge"), &validation::shown(surge), detail);
                }
                (true, true) => errors.required(&rolling_path.child("maxUnavailable"), "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
            at_most_hundred_percent(errors, &rolling_path.child("maxUnavailable"), unavailable);
            at_most_hundred_percent(errors, &rolling_path.child("maxSurge"), surge);
        }
        (other, _) => errors.not_supported(&path.child("type"), other, &["RollingUpdate", "OnDelete"]),
    }
}
