//! Deployment.

use api::apps::v1::Deployment;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for Deployment {
    const INFO: KindInfo = KindInfo {
        singular: "deployment",
        short_names: &["deploy"],
        categories: &["all"],
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        schema: "io.k8s.api.apps.v1.Deployment",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
