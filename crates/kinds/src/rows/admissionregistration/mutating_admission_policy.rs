//! MutatingAdmissionPolicy.

use api::admissionregistration::v1::MutatingAdmissionPolicy;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use super::webhooks;
use crate::defaults::set;
use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::all_is_spec;
use crate::validation::{one_of, one_of_present};

impl Kind for MutatingAdmissionPolicy {
    const INFO: KindInfo = KindInfo {
        singular: "mutatingadmissionpolicy",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set(&mut spec.failure_policy, "Fail".to_owned());
        webhooks::default_match(spec.match_constraints.as_mut());
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), self.spec.clone().unwrap_or_default());
        one_of_present(errors, &path.child("failurePolicy"), spec.failure_policy.as_deref(), &["Fail", "Ignore"]);
        match &spec.match_constraints {
            None => errors.required(&path.child("matchConstraints"), ""),
            Some(resources) => webhooks::match_resources(errors, &path.child("matchConstraints"), resources),
        }
        if spec.mutations.as_ref().is_none_or(Vec::is_empty) {
            errors.required(&path.child("mutations"), "mutations must contain at least one item");
        }
        let policy = spec.reinvocation_policy.as_deref();
        one_of(errors, &path.child("reinvocationPolicy"), policy, &["IfNeeded", "Never"]);
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Mutations", "integer"), column("ParamKind", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let kind = spec.param_kind.map_or_else(
            || crate::printing::UNSET.to_owned(),
            |kind| format!("{}/{}", kind.api_version.unwrap_or_default(), kind.kind.unwrap_or_default()),
        );
        vec![name(&self.metadata), json!(spec.mutations.map_or(0, |list| list.len())), json!(kind), age(&self.metadata, now)]
    }
}
