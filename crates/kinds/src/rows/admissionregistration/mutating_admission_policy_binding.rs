//! MutatingAdmissionPolicyBinding.

use api::admissionregistration::v1::MutatingAdmissionPolicyBinding;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for MutatingAdmissionPolicyBinding {
    const INFO: KindInfo = KindInfo {
        singular: "mutatingadmissionpolicybinding",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
