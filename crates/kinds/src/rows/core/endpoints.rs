//! Endpoints.

use api::core::v1::Endpoints;

use crate::kind::{Kind, KindInfo};

impl Kind for Endpoints {
    const INFO: KindInfo = KindInfo {
        singular: "endpoints",
        short_names: &["ep"],
        storage_prefix: "services/endpoints",
        schema: "io.k8s.api.core.v1.Endpoints",
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };
}
