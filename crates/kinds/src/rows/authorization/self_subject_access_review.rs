//! SelfSubjectAccessReview.

use api::authorization::v1::SelfSubjectAccessReview;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for SelfSubjectAccessReview {
    const INFO: KindInfo = KindInfo {
        singular: "selfsubjectaccessreview",
        scope: Scope::Cluster,
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        ..KindInfo::of::<Self>()
    };
}
