//! ControllerRevision.

use api::apps::v1::ControllerRevision;

use crate::kind::{Kind, KindInfo};

impl Kind for ControllerRevision {
    const INFO: KindInfo =
        KindInfo { singular: "controllerrevision", schema: "io.k8s.api.apps.v1.ControllerRevision", ..KindInfo::of::<Self>() };
}
