//! RoleBinding.

use api::rbac::v1::RoleBinding;

use crate::kind::{Kind, KindInfo, NameRule};

impl Kind for RoleBinding {
    const INFO: KindInfo = KindInfo {
        singular: "rolebinding",
        schema: "io.k8s.api.rbac.v1.RoleBinding",
        name_rule: NameRule::PathSegment,
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };
}
