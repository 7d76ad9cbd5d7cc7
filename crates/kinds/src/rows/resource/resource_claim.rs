//! ResourceClaim.

use api::resource::v1::ResourceClaim;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for ResourceClaim {
    const INFO: KindInfo = KindInfo {
        singular: "resourceclaim",
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.resource.v1.ResourceClaim",
        ..KindInfo::of::<Self>()
    };
}
