//! ResourceQuota.

use api::core::v1::ResourceQuota;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for ResourceQuota {
    const INFO: KindInfo = KindInfo {
        singular: "resourcequota",
        short_names: &["quota"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.core.v1.ResourceQuota",
        ..KindInfo::of::<Self>()
    };
}
