//! ReplicaSet.

use api::apps::v1::{ReplicaSet, ReplicaSetSpec};
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::{self, set};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, containers, name, selector, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{immutable, not_negative_opt, pod_template};

impl Kind for ReplicaSet {
    const INFO: KindInfo = KindInfo {
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        schema: "io.k8s.api.apps.v1.ReplicaSet",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set(&mut spec.replicas, 1);
        defaults::pod_template(spec.template.get_or_insert_default());
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let none = ReplicaSetSpec::default();
        let (path, spec) = (Path::new("spec"), self.spec.as_ref().unwrap_or(&none));
        not_negative_opt(errors, &path.child("replicas"), spec.replicas);
        not_negative_opt(errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
        super::workload_selector(errors, &path.child("selector"), &spec.selector);
        let template = spec.template.clone().unwrap_or_default();
        let template_path = path.child("template");
        pod_template::selected(errors, &template_path, &template, &spec.selector);
        pod_template::pod_template(errors, &template_path, &template);
        pod_template::always_restarting(errors, &template_path, &template);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else { return };
        immutable(errors, &Path::new("spec").child("selector"), &new.selector, &old.selector);
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        vec![("status.replicas", self.status.as_ref().map_or(0, |status| status.replicas).to_string())]
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Desired", "integer"),
                column("Current", "integer"),
                column("Ready", "integer"),
                AGE,
                wide("Containers", "string"),
                wide("Images", "string"),
                wide("Selector", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let [names, images] = containers(&spec.template.and_then(|template| template.spec).unwrap_or_default().containers);
        vec![
            name(&self.metadata),
            json!(spec.replicas.unwrap_or(0)),
            json!(status.replicas),
            json!(status.ready_replicas.unwrap_or(0)),
            age(&self.metadata, now),
            names,
            images,
            json!(selector(Some(&spec.selector))),
        ]
    }
}
