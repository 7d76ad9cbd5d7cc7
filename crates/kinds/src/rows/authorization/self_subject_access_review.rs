//! SelfSubjectAccessReview: answered at once, never stored.

use api::FieldErrors;
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

    fn validate(&self, errors: &mut FieldErrors) {
        super::attributes(errors, self.spec.resource_attributes.is_some(), self.spec.non_resource_attributes.is_some());
    }
}
