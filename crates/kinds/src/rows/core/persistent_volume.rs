//! PersistentVolume.

use api::core::v1::PersistentVolume;

use crate::kind::{Kind, KindInfo, Scope, Subresource};

impl Kind for PersistentVolume {
    const INFO: KindInfo = KindInfo {
        singular: "persistentvolume",
        short_names: &["pv"],
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.core.v1.PersistentVolume",
        ..KindInfo::of::<Self>()
    };
}
