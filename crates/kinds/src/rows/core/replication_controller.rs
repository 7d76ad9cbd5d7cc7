//! ReplicationController.

use api::core::v1::ReplicationController;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for ReplicationController {
    const INFO: KindInfo = KindInfo {
        singular: "replicationcontroller",
        short_names: &["rc"],
        categories: &["all"],
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        storage_prefix: "controllers",
        schema: "io.k8s.api.core.v1.ReplicationController",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
