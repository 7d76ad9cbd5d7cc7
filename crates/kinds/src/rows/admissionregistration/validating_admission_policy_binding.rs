//! ValidatingAdmissionPolicyBinding.

use api::admissionregistration::v1::ValidatingAdmissionPolicyBinding;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for ValidatingAdmissionPolicyBinding {
    const INFO: KindInfo = KindInfo {
        singular: "validatingadmissionpolicybinding",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
