//! SelfSubjectRulesReview.

use api::authorization::v1::SelfSubjectRulesReview;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for SelfSubjectRulesReview {
    const INFO: KindInfo = KindInfo {
        singular: "selfsubjectrulesreview",
        scope: Scope::Cluster,
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
        ..KindInfo::of::<Self>()
    };
}
