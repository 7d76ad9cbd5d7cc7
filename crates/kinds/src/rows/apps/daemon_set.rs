//! DaemonSet.

use api::apps::v1::DaemonSet;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for DaemonSet {
    const INFO: KindInfo = KindInfo {
        singular: "daemonset",
        short_names: &["ds"],
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.apps.v1.DaemonSet",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
