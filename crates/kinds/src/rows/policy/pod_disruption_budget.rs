//! PodDisruptionBudget.

use api::policy::v1::PodDisruptionBudget;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, int_or_string, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{at_most_hundred_percent, int_or_percent, one_of_present, selectors, shown};

impl Kind for PodDisruptionBudget {
    const INFO: KindInfo = KindInfo {
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
        let status = self.status.get_or_insert_default();
        for count in [&mut status.current_healthy, &mut status.desired_healthy, &mut status.disruptions_allowed, &mut status.expected_pods]
        {
            crate::defaults::set(count, 0);
        }
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), self.spec.clone().unwrap_or_default());
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            errors.invalid(&path, &shown(&spec), "minAvailable and maxUnavailable cannot be both set");
        }
        for (field, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                int_or_percent(errors, &path.child(field), value);
                at_most_hundred_percent(errors, &path.child(field), value);
            }
        }
        selectors::label_selector(errors, &path.child("selector"), spec.selector.as_ref());
        let policy = spec.unhealthy_pod_eviction_policy.as_deref();
        one_of_present(errors, &path.child("unhealthyPodEvictionPolicy"), policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Min Available", "string"), column("Max Unavailable", "string"), column("Allowed Disruptions", "integer"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let share = |value: Option<api::IntOrString>| value.as_ref().map_or_else(|| "N/A".to_owned(), int_or_string);
        let allowed = self.status.as_ref().and_then(|status| status.disruptions_allowed).unwrap_or(0);
        vec![
            name(&self.metadata),
            json!(share(spec.min_available)),
            json!(share(spec.max_unavailable)),
            json!(allowed),
            age(&self.metadata, now),
        ]
    }
}
