//! ReplicaSet.

use api::apps::v1::ReplicaSet;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for ReplicaSet {
    const INFO: KindInfo = KindInfo {
        singular: "replicaset",
        short_names: &["rs"],
        categories: &["all"],
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        schema: "io.k8s.api.apps.v1.ReplicaSet",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
