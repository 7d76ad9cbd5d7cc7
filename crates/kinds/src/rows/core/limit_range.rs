//! LimitRange.

use api::core::v1::LimitRange;

use crate::kind::{Kind, KindInfo};

impl Kind for LimitRange {
    const INFO: KindInfo = KindInfo {
        singular: "limitrange",
        short_names: &["limits"],
        schema: "io.k8s.api.core.v1.LimitRange",
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };
}
