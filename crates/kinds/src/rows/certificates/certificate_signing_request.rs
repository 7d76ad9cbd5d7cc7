//! CertificateSigningRequest.

use api::certificates::v1::CertificateSigningRequest;

use crate::kind::{Kind, KindInfo, NameRule, Scope, Subresource};

impl Kind for CertificateSigningRequest {
    const INFO: KindInfo = KindInfo {
        singular: "certificatesigningrequest",
        short_names: &["csr"],
        scope: Scope::Cluster,
        subresources: &[Subresource { name: "approval", kind: None, verbs: &["get", "patch", "update"] }, Subresource::STATUS],
        schema: "io.k8s.api.certificates.v1.CertificateSigningRequest",
        name_rule: NameRule::PathSegment,
        ..KindInfo::of::<Self>()
    };
}
