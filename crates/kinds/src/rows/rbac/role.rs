//! Role.

use api::rbac::v1::Role;
use api::{FieldErrors, Path};

use super::rules;
use crate::kind::{Kind, KindInfo, NameRule};

impl Kind for Role {
    const INFO: KindInfo = KindInfo {
        singular: "role",
        schema: "io.k8s.api.rbac.v1.Role",
        name_rule: NameRule::PathSegment,
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        rules::rules(errors, &Path::new("rules"), self.rules.as_deref().unwrap_or_default(), false);
    }
}
