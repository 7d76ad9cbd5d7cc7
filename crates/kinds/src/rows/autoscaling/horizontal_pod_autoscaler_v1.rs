//! HorizontalPodAutoscaler of autoscaling/v1: stored as v2.

use api::autoscaling::v1::HorizontalPodAutoscaler;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use super::conversion;
use crate::defaults::set;
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, UNKNOWN, UNSET, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::POSITIVE;

impl Kind for HorizontalPodAutoscaler {
    const INFO: KindInfo = KindInfo {
        singular: "horizontalpodautoscaler",
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        stored_as: Some(("autoscaling", "v2", "horizontalpodautoscalers")),
        schema: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        set(&mut self.spec.min_replicas, 1);
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), &self.spec);
        if spec.min_replicas.is_some_and(|count| count < 1) {
            errors.invalid(&path.child("minReplicas"), spec.min_replicas.unwrap_or(0), "must be greater than or equal to 1");
        }
        if spec.max_replicas < 1 {
            errors.invalid(&path.child("maxReplicas"), spec.max_replicas, POSITIVE);
        }
        if spec.max_replicas < spec.min_replicas.unwrap_or(1) {
            let detail = "must be greater than or equal to `minReplicas`";
            errors.invalid(&path.child("maxReplicas"), spec.max_replicas, detail);
        }
        let target = path.child("scaleTargetRef");
        crate::validation::required(errors, &target.child("kind"), &spec.scale_target_ref.kind, "");
        crate::validation::required(errors, &target.child("name"), &spec.scale_target_ref.name, "");
        if let Some(percent) = spec.target_cpu_utilization_percentage.filter(|percent| *percent < 1) {
            errors.invalid(&path.child("targetCPUUtilizationPercentage"), percent, POSITIVE);
        }
    }

    fn from_stored(stored: Value) -> Value {
        conversion::to_v1(stored)
    }

    fn to_stored(own: Value) -> Value {
        conversion::to_v2(own)
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Reference", "string"),
                column("Targets", "string"),
                column("MinPods", "string"),
                column("MaxPods", "integer"),
                column("Replicas", "integer"),
                AGE,
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (&self.spec, self.status.clone().unwrap_or_default());
        let percent = |value: Option<i32>, absent: &str| value.map_or_else(|| absent.to_owned(), |value| format!("{value}%"));
        let current = percent(status.current_cpu_utilization_percentage, UNKNOWN);
        vec![
            name(&self.metadata),
            json!(format!("{}/{}", spec.scale_target_ref.kind, spec.scale_target_ref.name)),
            json!(format!("cpu: {current}/{}", percent(spec.target_cpu_utilization_percentage, UNSET))),
            json!(spec.min_replicas.map_or_else(|| UNSET.to_owned(), |count| count.to_string())),
            json!(spec.max_replicas),
            json!(status.current_replicas),
            age(&self.metadata, now),
        ]
    }
}
