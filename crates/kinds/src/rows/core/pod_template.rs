//! PodTemplate.

use api::core::v1::PodTemplate;

use crate::kind::{Kind, KindInfo};

impl Kind for PodTemplate {
    const INFO: KindInfo = KindInfo { singular: "podtemplate", schema: "io.k8s.api.core.v1.PodTemplate", ..KindInfo::of::<Self>() };
}
