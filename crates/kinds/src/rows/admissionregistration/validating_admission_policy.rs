//! ValidatingAdmissionPolicy.

use api::admissionregistration::v1::ValidatingAdmissionPolicy;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use super::webhooks;
use crate::defaults::set;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{one_of_present, required};

impl Kind for ValidatingAdmissionPolicy {
    const INFO: KindInfo = KindInfo {
        singular: "validatingadmissionpolicy",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set(&mut spec.failure_policy, "Fail".to_owned());
        webhooks::default_match(spec.match_constraints.as_mut());
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), self.spec.clone().unwrap_or_default());
        one_of_present(errors, &path.child("failurePolicy"), spec.failure_policy.as_deref(), &["Fail", "Ignore"]);
        match &spec.match_constraints {
            None => errors.required(&path.child("matchConstraints"), ""),
            Some(resources) => webhooks::match_resources(errors, &path.child("matchConstraints"), resources),
        }
        let validations = spec.validations.as_deref().unwrap_or_default();
        if validations.is_empty() && spec.audit_annotations.as_ref().is_none_or(Vec::is_empty) {
            let detail = "validations or auditAnnotations must contain at least one item";
            errors.required(&path.child("validations"), detail);
        }
        for (index, validation) in validations.iter().enumerate() {
            let path = path.child("validations").index(index).child("expression");
            required(errors, &path, validation.expression.trim(), "expression is not specified");
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Validations", "integer"), column("ParamKind", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let kind = spec.param_kind.map_or_else(
            || crate::printing::UNSET.to_owned(),
            |kind| format!("{}/{}", kind.api_version.unwrap_or_default(), kind.kind.unwrap_or_default()),
        );
        vec![name(&self.metadata), json!(spec.validations.map_or(0, |list| list.len())), json!(kind), age(&self.metadata, now)]
    }
}
