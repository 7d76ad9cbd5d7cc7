//! SubjectAccessReview.

use api::authorization::v1::SubjectAccessReview;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for SubjectAccessReview {
    const INFO: KindInfo = KindInfo {
        singular: "subjectaccessreview",
        scope: Scope::Cluster,
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.authorization.v1.SubjectAccessReview",
        ..KindInfo::of::<Self>()
    };
}
