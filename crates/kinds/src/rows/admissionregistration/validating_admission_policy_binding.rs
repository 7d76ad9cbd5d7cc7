//! ValidatingAdmissionPolicyBinding.

use api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use super::webhooks;
use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::all_is_spec;
use crate::validation::{one_of, required_text};

impl Kind for ValidatingAdmissionPolicyBinding {
    const INFO: KindInfo = KindInfo {
        singular: "validatingadmissionpolicybinding",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        webhooks::default_match(self.spec.match_resources.as_mut());
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        let spec = self.spec.clone();
        required_text(errors, &path.child("policyName"), &spec.policy_name.clone(), names::dns_subdomain);
        if let Some(resources) = &spec.match_resources {
            webhooks::match_resources(errors, &path.child("matchResources"), resources);
        }
        if spec.validation_actions.is_empty() {
            errors.required(&path.child("validationActions"), "");
        }
        for (index, action) in spec.validation_actions.iter().enumerate() {
            one_of(errors, &path.child("validationActions").index(index), Some(action), &["Audit", "Deny", "Warn"]);
        }
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, column("PolicyName", "string"), column("ParamRef", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone();
        let reference = spec.param_ref.map_or_else(
            || crate::printing::UNSET.to_owned(),
            |reference| {
                let name = reference.name.filter(|name| !name.is_empty()).unwrap_or_else(|| "*".to_owned());
                reference.namespace.map_or_else(|| name.clone(), |namespace| format!("{namespace}/{name}"))
            },
        );
        vec![name(&self.metadata), json!(spec.policy_name.clone()), json!(reference), age(&self.metadata, now)]
    }
}
