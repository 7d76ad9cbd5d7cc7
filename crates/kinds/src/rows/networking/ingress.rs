//! Ingress.

use api::networking::v1::Ingress;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for Ingress {
    const INFO: KindInfo = KindInfo {
        singular: "ingress",
        short_names: &["ing"],
        subresources: &[Subresource::STATUS],
        storage_prefix: "ingress",
        schema: "io.k8s.api.networking.v1.Ingress",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
