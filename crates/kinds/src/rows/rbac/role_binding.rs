//! RoleBinding.

use api::rbac::v1::RoleBinding;
use api::{FieldErrors, Path};
use serde_json::Value;

use super::rules;
use crate::kind::{Column, Kind, KindInfo, NameRule};

impl Kind for RoleBinding {
    const INFO: KindInfo = KindInfo {
        singular: "rolebinding",
        schema: "io.k8s.api.rbac.v1.RoleBinding",
        name_rule: NameRule::PathSegment,
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        rules::default_binding(&mut self.role_ref, self.subjects.as_deref_mut().unwrap_or_default());
    }

    fn validate(&self, errors: &mut FieldErrors) {
        rules::binding(errors, &self.role_ref, self.subjects.as_deref().unwrap_or_default(), true);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        if self.role_ref != old.role_ref {
            let value = crate::validation::shown(&self.role_ref);
            errors.invalid(&Path::new("roleRef"), &value, "cannot change roleRef");
        }
    }

    fn columns() -> &'static [Column] {
        rules::BINDING_COLUMNS
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        rules::binding_cells(&self.metadata, &self.role_ref, self.subjects.as_deref().unwrap_or_default(), now)
    }
}
