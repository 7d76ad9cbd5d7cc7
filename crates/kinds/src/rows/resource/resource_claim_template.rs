//! ResourceClaimTemplate.

use api::resource::v1::ResourceClaimTemplate;

use crate::kind::{Kind, KindInfo};

impl Kind for ResourceClaimTemplate {
    const INFO: KindInfo =
        KindInfo { singular: "resourceclaimtemplate", schema: "io.k8s.api.resource.v1.ResourceClaimTemplate", ..KindInfo::of::<Self>() };
}
