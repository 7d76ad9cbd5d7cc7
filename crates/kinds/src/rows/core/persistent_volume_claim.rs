//! PersistentVolumeClaim.

use api::core::v1::PersistentVolumeClaim;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for PersistentVolumeClaim {
    const INFO: KindInfo = KindInfo {
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
        ..KindInfo::of::<Self>()
    };
}
