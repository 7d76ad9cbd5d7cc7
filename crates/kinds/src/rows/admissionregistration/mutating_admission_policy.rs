//! MutatingAdmissionPolicy.

use api::admissionregistration::v1::MutatingAdmissionPolicy;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for MutatingAdmissionPolicy {
    const INFO: KindInfo = KindInfo {
        singular: "mutatingadmissionpolicy",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
