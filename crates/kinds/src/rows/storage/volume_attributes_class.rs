//! VolumeAttributesClass.

use api::storage::v1::VolumeAttributesClass;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for VolumeAttributesClass {
    const INFO: KindInfo = KindInfo {
        singular: "volumeattributesclass",
        short_names: &["vac"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.storage.v1.VolumeAttributesClass",
        ..KindInfo::of::<Self>()
    };
}
