//! SubjectAccessReview: answered at once, never stored.

use api::authorization::v1::SubjectAccessReview;
use api::{FieldErrors, Path};

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

    fn validate(&self, errors: &mut FieldErrors) {
        let user = self.spec.user.as_deref().unwrap_or_default();
        let no_groups = self.spec.groups.as_ref().is_none_or(Vec::is_empty);
        super::attributes(errors, self.spec.resource_attributes.is_some(), self.spec.non_resource_attributes.is_some());
        if user.is_empty() && no_groups {
            errors.invalid(&Path::new("spec").child("user"), user, "at least one of user or group must be specified");
        }
    }
}
