//! TokenReview.

use api::authentication::v1::TokenReview;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for TokenReview {
    const INFO: KindInfo = KindInfo {
        singular: "tokenreview",
        scope: Scope::Cluster,
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.authentication.v1.TokenReview",
        ..KindInfo::of::<Self>()
    };
}
