//! MutatingWebhookConfiguration.

use api::admissionregistration::v1::MutatingWebhookConfiguration;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for MutatingWebhookConfiguration {
    const INFO: KindInfo = KindInfo {
        singular: "mutatingwebhookconfiguration",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
