//! CSIDriver.

use api::storage::v1::CSIDriver;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for CSIDriver {
    const INFO: KindInfo = KindInfo {
        singular: "csidriver",
        scope: Scope::Cluster,
        schema: "io.k8s.api.storage.v1.CSIDriver",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
