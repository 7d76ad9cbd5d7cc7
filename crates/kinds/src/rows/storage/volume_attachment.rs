//! VolumeAttachment.

use api::storage::v1::VolumeAttachment;

use crate::kind::{Kind, KindInfo, Scope, Subresource};

impl Kind for VolumeAttachment {
    const INFO: KindInfo = KindInfo {
        singular: "volumeattachment",
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.storage.v1.VolumeAttachment",
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
