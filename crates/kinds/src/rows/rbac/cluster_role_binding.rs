//! ClusterRoleBinding.

use api::rbac::v1::ClusterRoleBinding;

use crate::kind::{Kind, KindInfo, NameRule, Scope};

impl Kind for ClusterRoleBinding {
    const INFO: KindInfo = KindInfo {
        singular: "clusterrolebinding",
        scope: Scope::Cluster,
        schema: "io.k8s.api.rbac.v1.ClusterRoleBinding",
        name_rule: NameRule::PathSegment,
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };
}
