//! LocalSubjectAccessReview: answered at once, never stored.

use api::authorization::v1::LocalSubjectAccessReview;
use api::{FieldErrors, Path};

use crate::kind::{Kind, KindInfo};
use crate::validation::shown;

impl Kind for LocalSubjectAccessReview {
    const INFO: KindInfo = KindInfo {
        singular: "localsubjectaccessreview",
        verbs: &["create"],
        storage_prefix: "",
        schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        let user = self.spec.user.as_deref().unwrap_or_default();
        let no_groups = self.spec.groups.as_ref().is_none_or(Vec::is_empty);
        super::attributes(errors, self.spec.resource_attributes.is_some(), self.spec.non_resource_attributes.is_some());
        if user.is_empty() && no_groups {
            errors.invalid(&Path::new("spec").child("user"), user, "at least one of user or group must be specified");
        }
        let namespace = self.spec.resource_attributes.as_ref().and_then(|attributes| attributes.namespace.as_deref());
        let own = self.metadata.namespace.as_deref().unwrap_or_default();
        if let Some(namespace) = namespace.filter(|namespace| *namespace != own) {
            let detail = format!("must match metadata.namespace: {own}");
            errors.invalid(&Path::new("spec").child("resourceAttributes").child("namespace"), namespace, &detail);
        }
        if self.spec.non_resource_attributes.is_some() {
            let path = Path::new("spec").child("nonResourceAttributes");
            errors.invalid(&path, &shown(&self.spec.non_resource_attributes), "disallowed on this kind of request");
        }
    }
}
