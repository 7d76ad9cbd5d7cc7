//! RuntimeClass.

use api::node::v1::RuntimeClass;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for RuntimeClass {
    const INFO: KindInfo = KindInfo {
        singular: "runtimeclass",
        scope: Scope::Cluster,
        schema: "io.k8s.api.node.v1.RuntimeClass",
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
