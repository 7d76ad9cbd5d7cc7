//! Event.

use api::core::v1::Event;

use crate::kind::{Kind, KindInfo};

impl Kind for Event {
    const INFO: KindInfo = KindInfo {
        singular: "event",
        short_names: &["ev"],
        schema: "io.k8s.api.core.v1.Event",
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };
}
