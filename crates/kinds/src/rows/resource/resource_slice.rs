//! ResourceSlice.

use api::resource::v1::ResourceSlice;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for ResourceSlice {
    const INFO: KindInfo = KindInfo {
        singular: "resourceslice",
        scope: Scope::Cluster,
        schema: "io.k8s.api.resource.v1.ResourceSlice",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
