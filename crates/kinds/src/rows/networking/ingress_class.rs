//! IngressClass.

use api::networking::v1::IngressClass;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for IngressClass {
    const INFO: KindInfo = KindInfo {
        singular: "ingressclass",
        scope: Scope::Cluster,
        schema: "io.k8s.api.networking.v1.IngressClass",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
