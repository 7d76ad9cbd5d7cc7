//! ReplicationController.

use api::core::v1::{ReplicationController, ReplicationControllerSpec};
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::{self, set};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, containers, labels, name, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{self, not_negative, not_negative_opt, pod_template};

impl Kind for ReplicationController {
    const INFO: KindInfo = KindInfo {
        singular: "replicationcontroller",
        short_names: &["rc"],
        categories: &["all"],
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        storage_prefix: "controllers",
        schema: "io.k8s.api.core.v1.ReplicationController",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set(&mut spec.replicas, 1);
        let template = spec.template.get_or_insert_default();
        defaults::pod_template(template);
        let labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone()).filter(|labels| !labels.is_empty());
        if let Some(labels) = labels {
            if spec.selector.as_ref().is_none_or(|selector| selector.is_empty()) {
                spec.selector = Some(labels.clone());
            }
            if self.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) {
                self.metadata.labels = Some(labels);
            }
        }
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let none = ReplicationControllerSpec::default();
        let (path, spec) = (Path::new("spec"), self.spec.as_ref().unwrap_or(&none));
        not_negative_opt(errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
        not_negative(errors, &path.child("replicas"), spec.replicas.unwrap_or(0));
        let selector = spec.selector.clone().unwrap_or_default();
        if selector.is_empty() {
            errors.required(&path.child("selector"), "");
        }
        let Some(template) = &spec.template else {
            errors.required(&path.child("template"), "");
            return;
        };
        let template_path = path.child("template");
        let labels = template.metadata.as_ref().and_then(|meta| meta.labels.as_ref());
        if !selector.is_empty() && !api::selector::Selector::from_map(&selector).matches_opt(labels) {
            let detail = "`selector` does not match template `labels`";
            errors.invalid(&template_path.child("metadata").child("labels"), &validation::shown(&labels), detail);
        }
        pod_template::pod_template(errors, &template_path, template);
        pod_template::always_restarting(errors, &template_path, template);
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
            json!(labels(spec.selector.as_ref())),
        ]
    }
}
