//! TokenReview: answered at once, never stored.

use api::authentication::v1::TokenReview;
use api::{FieldErrors, Path};

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

    fn validate(&self, errors: &mut FieldErrors) {
        crate::validation::required(errors, &Path::new("spec").child("token"), &self.spec.token, "");
    }
}
