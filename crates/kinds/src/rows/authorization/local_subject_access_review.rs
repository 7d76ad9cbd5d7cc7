//! LocalSubjectAccessReview.

use api::authorization::v1::LocalSubjectAccessReview;

use crate::kind::{Kind, KindInfo};

impl Kind for LocalSubjectAccessReview {
    const INFO: KindInfo = KindInfo {
        singular: "localsubjectaccessreview",
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        ..KindInfo::of::<Self>()
    };
}
