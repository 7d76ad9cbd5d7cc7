//! ValidatingAdmissionPolicy.

use api::admissionregistration::v1::ValidatingAdmissionPolicy;

use crate::kind::{Kind, KindInfo, Scope, Subresource};

impl Kind for ValidatingAdmissionPolicy {
    const INFO: KindInfo = KindInfo {
        singular: "validatingadmissionpolicy",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
