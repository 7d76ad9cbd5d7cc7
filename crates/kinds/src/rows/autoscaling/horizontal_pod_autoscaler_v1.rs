//! HorizontalPodAutoscaler of autoscaling/v1: stored as v2.

use api::autoscaling::v1::HorizontalPodAutoscaler;
use serde_json::Value;

use super::conversion;
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

    fn from_stored(stored: Value) -> Value {
        conversion::to_v1(stored)
    }

    fn to_stored(own: Value) -> Value {
        conversion::to_v2(own)
    }
}
