//! CSINode.

use api::storage::v1::CSINode;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for CSINode {
    const INFO: KindInfo = KindInfo {
        singular: "csinode",
        scope: Scope::Cluster,
        schema: "io.k8s.api.storage.v1.CSINode",
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
