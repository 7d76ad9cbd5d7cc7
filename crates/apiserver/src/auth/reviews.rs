//! The virtual kinds that ask about users and permissions: TokenReview, SelfSubjectReview, SubjectAccessReview and its siblings
//! (pkg/registry/authentication, pkg/registry/authorization).

use std::sync::Arc;

use api::authentication::v1::{SelfSubjectReview, SelfSubjectReviewStatus, TokenReview, TokenReviewStatus, UserInfo as ApiUser};
use api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, NonResourceRule, ResourceAttributes, ResourceRule, SelfSubjectAccessReview,
    SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewStatus, SubjectRulesReviewStatus,
};
use api::meta::v1::{FieldSelectorRequirement, LabelSelectorRequirement};
use api::rbac::v1::PolicyRule;
use api::{FieldErrors, Path, StatusError};
use async_trait::async_trait;
use kinds::Object;

use super::authenticate::Tokens;
use super::authorize::Modes;
use super::identity::node_name;
use super::rbac::Rbac;
use super::{Attributes, Authorizer, Decision, Reviews, UserInfo};

const AUTHORIZATION: &str = "authorization.k8s.io";

pub struct Reviewer {
    pub authorizer: Arc<dyn Authorizer>,
    pub rbac: Arc<Rbac>,
    pub tokens: Arc<Tokens>,
    pub modes: Modes,
}

fn api_user(user: &UserInfo) -> ApiUser {
    ApiUser {
        username: Some(user.name.clone()).filter(|n| !n.is_empty()),
        uid: Some(user.uid.clone()).filter(|u| !u.is_empty()),
        groups: Some(user.groups.clone()).filter(|g| !g.is_empty()),
        extra: Some(user.extra.clone()).filter(|e| !e.is_empty()),
    }
}

#[async_trait]
impl Reviews for Reviewer {
    async fn review(&self, user: &UserInfo, namespace: &str, object: &mut dyn Object) -> Result<(), StatusError> {
        if let Some(review) = object.get_mut::<TokenReview>() {
            return self.token(review);
        }
        if let Some(review) = object.get_mut::<SelfSubjectReview>() {
            review.status = Some(SelfSubjectReviewStatus { user_info: Some(api_user(user)) });
            return Ok(());
        }
        if let Some(review) = object.get_mut::<SelfSubjectRulesReview>() {
            return self.rules(user, review);
        }
        if let Some(review) = object.get_mut::<SelfSubjectAccessReview>() {
            let spec = &review.spec;
            let asked = Asked::new("SelfSubjectAccessReview", spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref())?;
            review.status = Some(self.access(user, &asked).await);
            return Ok(());
        }
        if let Some(review) = object.get_mut::<SubjectAccessReview>() {
            let spec = &review.spec;
            let other = subject("SubjectAccessReview", spec)?;
            let asked = Asked::new("SubjectAccessReview", spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref())?;
            review.status = Some(self.access(&other, &asked).await);
            return Ok(());
        }
        if let Some(review) = object.get_mut::<LocalSubjectAccessReview>() {
            let spec = &review.spec;
            let other = subject("LocalSubjectAccessReview", spec)?;
            let asked = Asked::new("LocalSubjectAccessReview", spec.resource_attributes.as_ref(), None)?;
            if asked.namespace() != namespace {
                return Err(StatusError::bad_request(format!(
                    "namespace mismatch: {namespace} (request) {} (spec.resourceAttributes.namespace)",
                    asked.namespace()
                )));
            }
            review.status = Some(self.access(&other, &asked).await);
            return Ok(());
        }
        Err(StatusError::internal("not a review"))
    }
}

impl Reviewer {
    fn token(&self, review: &mut TokenReview) -> Result<(), StatusError> {
        if review.spec.token.is_empty() {
            return Err(StatusError::bad_request("token is required for TokenReview in authentication"));
        }
        let audiences = review.spec.audiences.clone().unwrap_or_default();
        review.status = Some(match self.tokens.review(&review.spec.token, &audiences) {
            Some((user, audiences)) => TokenReviewStatus {
                authenticated: Some(true),
                user: Some(api_user(&user)),
                audiences: Some(audiences).filter(|a| !a.is_empty()),
                error: None,
            },
            None => TokenReviewStatus {
                error: Some("[invalid bearer token, token lookup failed]".into()),
                user: Some(ApiUser::default()),
                ..TokenReviewStatus::default()
            },
        });
        Ok(())
    }

    async fn access(&self, user: &UserInfo, asked: &Asked) -> SubjectAccessReviewStatus {
        let decision = self.authorizer.authorize(&asked.attributes(user)).await;
        let (allowed, denied, reason) = match decision {
            Decision::Allow => (true, None, String::new()),
            Decision::Deny(reason) => (false, Some(true), reason),
            Decision::NoOpinion(reason) => (false, None, reason),
        };
        SubjectAccessReviewStatus { allowed, denied, reason: Some(reason).filter(|r| !r.is_empty()), evaluation_error: None }
    }

    fn rules(&self, user: &UserInfo, review: &mut SelfSubjectRulesReview) -> Result<(), StatusError> {
        let namespace = review.spec.namespace.clone().unwrap_or_default();
        if namespace.is_empty() {
            return Err(StatusError::bad_request("no namespace on request"));
        }
        let (mut held, mut errors) = if self.modes.rbac { self.rbac.index().rules_for(user, &namespace) } else { (vec![], vec![]) };
        if self.modes.always_allow {
            use super::rbac::policy::{on, urls};
            held.extend([on("*", "*", "*").to_rule(), urls("*", "*").to_rule()]);
        }
        let incomplete = self.modes.node && node_name(user).is_some();
        if incomplete {
            errors.insert(0, "node authorizer does not support user rule resolution".into());
        }
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        for rule in held {
            let PolicyRule { api_groups, non_resource_urls, resource_names, resources: named, verbs } = rule;
            if non_resource_urls.as_ref().is_some_and(|urls| !urls.is_empty()) {
                paths.push(NonResourceRule { non_resource_urls, verbs });
            } else {
                resources.push(ResourceRule { api_groups, resource_names, resources: named, verbs });
            }
        }
        review.status = Some(SubjectRulesReviewStatus {
            evaluation_error: (!errors.is_empty()).then(|| errors.join(", ")),
            incomplete: incomplete || !errors.is_empty(),
            non_resource_rules: paths,
            resource_rules: resources,
        });
        Ok(())
    }
}

fn invalid(kind: &str, errors: &FieldErrors) -> StatusError {
    StatusError::invalid(AUTHORIZATION, kind, "", errors)
}

/// Whom a SubjectAccessReview is about.
fn subject(kind: &str, spec: &api::authorization::v1::SubjectAccessReviewSpec) -> Result<UserInfo, StatusError> {
    let (name, groups) = (spec.user.clone().unwrap_or_default(), spec.groups.clone().unwrap_or_default());
    if name.is_empty() && groups.is_empty() {
        let mut errors = FieldErrors::default();
        errors.invalid(&Path::new("spec").child("user"), "", "at least one of user or group must be specified");
        return Err(invalid(kind, &errors));
    }
    Ok(UserInfo { name, uid: spec.uid.clone().unwrap_or_default(), groups, extra: spec.extra.clone().unwrap_or_default() })
}

/// What a review asks; exactly one of the two.
struct Asked {
    resource: Option<ResourceAttributes>,
    path: NonResourceAttributes,
    field_selector: String,
    label_selector: String,
}

impl Asked {
    fn new(kind: &str, resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>) -> Result<Self, StatusError> {
        if resource.is_some() == path.is_some() {
            let mut errors = FieldErrors::default();
            let at = Path::new("spec").child(if path.is_some() { "nonResourceAttributes" } else { "resourceAttributes" });
            let detail = if path.is_some() {
                "cannot be specified in combination with resourceAttributes"
            } else {
                "exactly one of nonResourceAttributes or resourceAttributes must be specified"
            };
            errors.invalid(&at, &serde_json::Value::Null, detail);
            return Err(invalid(kind, &errors));
        }
        let fields = resource.and_then(|r| r.field_selector.as_ref());
        let labels = resource.and_then(|r| r.label_selector.as_ref());
        Ok(Self {
            field_selector: fields.map_or_else(String::new, |f| {
                f.raw_selector.clone().unwrap_or_else(|| field_text(f.requirements.as_deref().unwrap_or_default()))
            }),
            label_selector: labels.map_or_else(String::new, |l| {
                l.raw_selector.clone().unwrap_or_else(|| label_text(l.requirements.as_deref().unwrap_or_default()))
            }),
            resource: resource.cloned(),
            path: path.cloned().unwrap_or_default(),
        })
    }

    fn namespace(&self) -> &str {
        self.resource.as_ref().and_then(|r| r.namespace.as_deref()).unwrap_or_default()
    }

    fn attributes<'a>(&'a self, user: &'a UserInfo) -> Attributes<'a> {
        let r = self.resource.as_ref();
        let text = |field: fn(&ResourceAttributes) -> Option<&String>| r.and_then(field).map(String::as_str).unwrap_or_default();
        let path_text = |field: &'a Option<String>| field.as_deref().unwrap_or_default();
        Attributes {
            user,
            verb: if r.is_some() { text(|r| r.verb.as_ref()) } else { path_text(&self.path.verb) },
            is_resource: r.is_some(),
            group: text(|r| r.group.as_ref()),
            version: text(|r| r.version.as_ref()),
            resource: text(|r| r.resource.as_ref()),
            subresource: text(|r| r.subresource.as_ref()),
            namespace: text(|r| r.namespace.as_ref()),
            name: text(|r| r.name.as_ref()),
            path: path_text(&self.path.path),
            field_selector: &self.field_selector,
            label_selector: &self.label_selector,
        }
    }
}

/// Only equality is understood further down, so only it is passed on.
fn field_text(requirements: &[FieldSelectorRequirement]) -> String {
    let equal = requirements.iter().filter(|r| r.operator == "In");
    let pairs = equal.filter_map(|r| match r.values.as_deref() {
        Some([value]) => Some(format!("{}={value}", r.key)),
        _ => None,
    });
    pairs.collect::<Vec<_>>().join(",")
}

fn label_text(requirements: &[LabelSelectorRequirement]) -> String {
    let equal = requirements.iter().filter(|r| r.operator == "In");
    equal.map(|r| format!("{} in ({})", r.key, r.values.as_deref().unwrap_or_default().join(","))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_question() {
        let (resource, path) = (ResourceAttributes::default(), NonResourceAttributes::default());
        assert!(Asked::new("X", Some(&resource), None).is_ok());
        assert!(Asked::new("X", None, Some(&path)).is_ok());
        assert!(Asked::new("X", Some(&resource), Some(&path)).is_err());
        let text = Asked::new("SubjectAccessReview", None, None).err().unwrap();
        assert_eq!(
            text.message(),
            "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified"
        );
    }

    #[test]
    fn selectors_of_reviews_become_text() {
        let requirement = FieldSelectorRequirement { key: "spec.nodeName".into(), operator: "In".into(), values: Some(vec!["n1".into()]) };
        assert_eq!(field_text(&[requirement]), "spec.nodeName=n1");
    }
}
