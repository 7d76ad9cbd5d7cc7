//! StatefulSet.

use api::apps::v1::StatefulSet;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for StatefulSet {
    const INFO: KindInfo = KindInfo {
        singular: "statefulset",
        short_names: &["sts"],
        categories: &["all"],
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        schema: "io.k8s.api.apps.v1.StatefulSet",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
