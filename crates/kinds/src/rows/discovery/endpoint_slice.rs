//! EndpointSlice.

use api::discovery::v1::EndpointSlice;

use crate::kind::{Kind, KindInfo};

impl Kind for EndpointSlice {
    const INFO: KindInfo = KindInfo {
        singular: "endpointslice",
        schema: "io.k8s.api.discovery.v1.EndpointSlice",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
