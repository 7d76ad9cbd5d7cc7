//! ComponentStatus.

use api::core::v1::ComponentStatus;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for ComponentStatus {
    const INFO: KindInfo = KindInfo {
        singular: "componentstatus",
        short_names: &["cs"],
        scope: Scope::Cluster,
        verbs: &["get", "list"],
        storage_prefix: "",
        schema: "io.k8s.api.core.v1.ComponentStatus",
        ..KindInfo::of::<Self>()
    };
}
