//! PriorityLevelConfiguration.

use api::flowcontrol::v1::PriorityLevelConfiguration;

use crate::kind::{Kind, KindInfo, Scope, Subresource};

impl Kind for PriorityLevelConfiguration {
    const INFO: KindInfo = KindInfo {
        singular: "prioritylevelconfiguration",
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.flowcontrol.v1.PriorityLevelConfiguration",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
