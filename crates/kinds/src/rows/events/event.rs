//! Event.

use api::events::v1::Event;

use crate::kind::{Kind, KindInfo};

impl Kind for Event {
    const INFO: KindInfo = KindInfo {
        singular: "event",
        short_names: &["ev"],
        stored_as: Some(("", "v1", "events")),
        schema: "io.k8s.api.events.v1.Event",
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };
}
