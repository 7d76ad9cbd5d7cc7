//! HorizontalPodAutoscaler.

use api::autoscaling::v1::HorizontalPodAutoscaler;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for HorizontalPodAutoscaler {
    const INFO: KindInfo = KindInfo {
        singular: "horizontalpodautoscaler",
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        stored_as: Some(("autoscaling", "v2", "horizontalpodautoscalers")),
        schema: "io.k8s.api.autoscaling.v1.HorizontalPodAutoscaler",
        ..KindInfo::of::<Self>()
    };
}
