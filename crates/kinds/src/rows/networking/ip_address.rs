//! IPAddress.

use api::networking::v1::IPAddress;

use crate::kind::{Kind, KindInfo, NameRule, Scope};

impl Kind for IPAddress {
    const INFO: KindInfo = KindInfo {
        singular: "ipaddress",
        short_names: &["ip"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.networking.v1.IPAddress",
        name_rule: NameRule::PathSegment,
        ..KindInfo::of::<Self>()
    };
}
