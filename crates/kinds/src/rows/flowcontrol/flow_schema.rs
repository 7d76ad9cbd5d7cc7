//! FlowSchema.

use api::flowcontrol::v1::FlowSchema;

use crate::kind::{Kind, KindInfo, Scope, Subresource};

impl Kind for FlowSchema {
    const INFO: KindInfo = KindInfo {
        singular: "flowschema",
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.flowcontrol.v1.FlowSchema",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
