//! SelfSubjectReview.

use api::authentication::v1::SelfSubjectReview;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for SelfSubjectReview {
    const INFO: KindInfo = KindInfo {
        singular: "selfsubjectreview",
        scope: Scope::Cluster,
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.authentication.v1.SelfSubjectReview",
        ..KindInfo::of::<Self>()
    };
}
