//! NetworkPolicy.

use api::networking::v1::NetworkPolicy;

use crate::kind::{Kind, KindInfo};

impl Kind for NetworkPolicy {
    const INFO: KindInfo = KindInfo {
        singular: "networkpolicy",
        short_names: &["netpol"],
        schema: "io.k8s.api.networking.v1.NetworkPolicy",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
