//! Binding: the answer of the scheduler; it is never stored.

use api::core::v1::Binding;
use api::{FieldErrors, Path};

use crate::kind::{Kind, KindInfo};

impl Kind for Binding {
    const INFO: KindInfo = KindInfo {
        singular: "binding",
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.core.v1.Binding",
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        let path = Path::new("target");
        let kind = self.target.kind.as_deref().unwrap_or_default();
        if !matches!(kind, "" | "Node") {
            errors.not_supported(&path.child("kind"), kind, &["Node", "<empty>"]);
        }
        if self.target.name.as_deref().unwrap_or_default().is_empty() {
            errors.required(&path.child("name"), "");
        }
    }
}
