//! ClusterRole.

use api::rbac::v1::ClusterRole;

use crate::kind::{Kind, KindInfo, NameRule, Scope};

impl Kind for ClusterRole {
    const INFO: KindInfo = KindInfo {
        singular: "clusterrole",
        scope: Scope::Cluster,
        schema: "io.k8s.api.rbac.v1.ClusterRole",
        name_rule: NameRule::PathSegment,
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };
}
