//! `--allow-privileged=false`: no container may be privileged. Upstream makes it a part of validation
//! (ValidateSecurityContext in pkg/apis/core/validation), with a setting of the whole process, which the pure hooks of the rows do not have.

use api::core::v1::{PodSpec, SecurityContext};
use api::{FieldErrors, Path, StatusError};
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin, templates};

pub struct Privileged;

#[async_trait]
impl Plugin for Privileged {
    fn name(&self) -> &'static str {
        "AllowPrivileged"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let checked = matches!(request.operation, Operation::Create | Operation::Update)
            && matches!(request.subresource, "" | "ephemeralcontainers" | "resize");
        if !checked {
            return Ok(());
        }
        let Some((path, spec)) = request.object.as_deref().and_then(templates::pod_spec) else { return Ok(()) };
        let errors = refusals(&path, spec);
        if errors.is_empty() { Ok(()) } else { Err(StatusError::invalid(request.info.group, request.info.kind, request.name, &errors)) }
    }
}

fn refusals(path: &Path, spec: &PodSpec) -> FieldErrors {
    let mut errors = FieldErrors::default();
    let mut check = |list: &str, index: usize, context: Option<&SecurityContext>| {
        if context.is_some_and(|c| c.privileged == Some(true)) {
            let path = path.child(list).index(index).child("securityContext").child("privileged");
            errors.forbidden(&path, "disallowed by cluster policy");
        }
    };
    for (index, container) in spec.containers.iter().enumerate() {
        check("containers", index, container.security_context.as_ref());
    }
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        check("initContainers", index, container.security_context.as_ref());
    }
    for (index, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        check("ephemeralContainers", index, container.security_context.as_ref());
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(kind: (&str, &str, &str), object: serde_json::Value, expected: &[&str]) {
        let (group, version, resource) = kind;
        let object = kinds::find(group, version, resource).unwrap().from_value(object).unwrap();
        let (path, spec) = templates::pod_spec(object.as_ref()).unwrap();
        let seen: Vec<String> = refusals(&path, spec).0.iter().map(ToString::to_string).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn privileged_containers_are_refused() {
        let container = |privileged: bool| json!({"name": "c", "securityContext": {"privileged": privileged}});
        let spec = json!({"containers": [container(false), container(true)], "initContainers": [container(true)]});
        check(("", "v1", "pods"), json!({"spec": {"containers": [container(false), {"name": "d"}]}}), &[]);
        check(
            ("", "v1", "pods"),
            json!({"spec": spec}),
            &[
                "spec.containers[1].securityContext.privileged: Forbidden: disallowed by cluster policy",
                "spec.initContainers[0].securityContext.privileged: Forbidden: disallowed by cluster policy",
            ],
        );
        check(
            ("batch", "v1", "cronjobs"),
            json!({"spec": {"jobTemplate": {"spec": {"template": {"spec": {"containers": [container(true)]}}}}}}),
            &["spec.jobTemplate.spec.template.spec.containers[0].securityContext.privileged: Forbidden: disallowed by cluster policy"],
        );
        check(
            ("", "v1", "podtemplates"),
            json!({"template": {"spec": {"containers": [container(true)]}}}),
            &["template.spec.containers[0].securityContext.privileged: Forbidden: disallowed by cluster policy"],
        );
    }
}
