//! PriorityClass.

use api::scheduling::v1::PriorityClass;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for PriorityClass {
    const INFO: KindInfo = KindInfo {
        singular: "priorityclass",
        short_names: &["pc"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.scheduling.v1.PriorityClass",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
