//! Binding.

use api::core::v1::Binding;

use crate::kind::{Kind, KindInfo};

impl Kind for Binding {
    const INFO: KindInfo = KindInfo {
        singular: "binding",
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.core.v1.Binding",
        ..KindInfo::of::<Self>()
    };
}
