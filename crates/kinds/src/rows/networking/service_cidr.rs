//! ServiceCIDR.

use api::networking::v1::ServiceCIDR;

use crate::kind::{Kind, KindInfo, Scope, Subresource};

impl Kind for ServiceCIDR {
    const INFO: KindInfo = KindInfo {
        singular: "servicecidr",
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.networking.v1.ServiceCIDR",
        ..KindInfo::of::<Self>()
    };
}
