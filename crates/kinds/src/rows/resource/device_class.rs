//! DeviceClass.

use api::resource::v1::DeviceClass;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for DeviceClass {
    const INFO: KindInfo = KindInfo {
        singular: "deviceclass",
        scope: Scope::Cluster,
        schema: "io.k8s.api.resource.v1.DeviceClass",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
