//! HorizontalPodAutoscaler.

use api::autoscaling::v2::HorizontalPodAutoscaler;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for HorizontalPodAutoscaler {
    const INFO: KindInfo = KindInfo {
        singular: "horizontalpodautoscaler",
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        ..KindInfo::of::<Self>()
    };
}
