//! ValidatingWebhookConfiguration.

use api::admissionregistration::v1::ValidatingWebhookConfiguration;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for ValidatingWebhookConfiguration {
    const INFO: KindInfo = KindInfo {
        singular: "validatingwebhookconfiguration",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
