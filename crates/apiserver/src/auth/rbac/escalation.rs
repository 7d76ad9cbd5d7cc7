//! Nobody hands out permissions that they do not have: an admission check on roles and bindings, on whatever flags say
//! (pkg/registry/rbac/{clusterrole,clusterrolebinding,role,rolebinding}/policybased).

use std::sync::Arc;

use api::StatusError;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef};
use async_trait::async_trait;

use super::policy::{GROUP, on, urls};
use super::rules::{compact, show, uncovered};
use super::{Attributes, Authorizer, Decision, Rbac};
use crate::admission::{AdmissionRequest, Operation, Plugin};
use crate::auth::identity::MASTERS;

pub struct Escalation {
    rbac: Arc<Rbac>,
    authorizer: Arc<dyn Authorizer>,
}

impl Escalation {
    pub fn new(rbac: Arc<Rbac>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self { rbac, authorizer }
    }

    async fn may(&self, request: &AdmissionRequest<'_>, verb: &str, resource: &str, name: &str) -> bool {
        let asked = Attributes {
            user: request.user,
            verb,
            is_resource: true,
            group: GROUP,
            version: "v1",
            resource,
            subresource: "",
            namespace: request.namespace,
            name,
            path: "",
            field_selector: "",
            label_selector: "",
        };
        self.authorizer.authorize(&asked).await == Decision::Allow
    }

    fn confirm(&self, request: &AdmissionRequest<'_>, wanted: &[PolicyRule]) -> Result<(), StatusError> {
        let (held, errors) = self.rbac.index().rules_for(request.user, request.namespace);
        let missing = uncovered(&held, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = compact(missing).iter().map(show).collect();
        lines.sort();
        lines.dedup();
        let user = request.user;
        let groups = user.groups.iter().map(|g| format!("{g:?}")).collect::<Vec<_>>().join(" ");
        let mut cause = format!(
            "user {:?} (groups=[{groups}]) is attempting to grant RBAC permissions not currently held:\n{}",
            user.name,
            lines.join("\n")
        );
        if !errors.is_empty() {
            cause.push_str(&format!("; resolution errors: [{}]", errors.join(", ")));
        }
        Err(forbid(request, &cause))
    }

    async fn role(&self, request: &AdmissionRequest<'_>, rules: &[PolicyRule], aggregates: bool) -> Result<(), StatusError> {
        if self.may(request, "escalate", request.info.resource, request.name).await {
            return Ok(());
        }
        if aggregates && self.confirm(request, &[on("*", "*", "*").to_rule(), urls("*", "*").to_rule()]).is_err() {
            return Err(forbid(request, "must have cluster-admin privileges to use the aggregationRule"));
        }
        self.confirm(request, rules)
    }

    async fn binding(&self, request: &AdmissionRequest<'_>, role: &RoleRef) -> Result<(), StatusError> {
        let resource = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
        if self.may(request, "bind", resource, &role.name).await {
            return Ok(());
        }
        match self.rbac.index().rules_of(role, request.namespace) {
            Ok(rules) => self.confirm(request, &rules),
            Err(_) => Err(StatusError::not_found(GROUP, resource, &role.name)),
        }
    }
}

fn forbid(request: &AdmissionRequest<'_>, cause: &str) -> StatusError {
    StatusError::forbidden(request.info.group, request.info.resource, request.name, cause)
}

#[async_trait]
impl Plugin for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || request.info.group != GROUP || request.user.is_in(MASTERS) {
            return Ok(());
        }
        if let Some(new) = request.get::<ClusterRole>() {
            if request.old::<ClusterRole>().is_some_and(|old| old.rules == new.rules && old.aggregation_rule == new.aggregation_rule) {
                return Ok(());
            }
            let rules = new.rules.as_deref().unwrap_or_default();
            return self.role(request, rules, new.aggregation_rule.is_some()).await;
        }
        if let Some(new) = request.get::<Role>() {
            if request.old::<Role>().is_some_and(|old| old.rules == new.rules) {
                return Ok(());
            }
            return self.role(request, new.rules.as_deref().unwrap_or_default(), false).await;
        }
        if let Some(new) = request.get::<ClusterRoleBinding>() {
            if request.old::<ClusterRoleBinding>().is_some_and(|old| old.role_ref == new.role_ref && old.subjects == new.subjects) {
                return Ok(());
            }
            return self.binding(request, &new.role_ref).await;
        }
        if let Some(new) = request.get::<RoleBinding>() {
            if request.old::<RoleBinding>().is_some_and(|old| old.role_ref == new.role_ref && old.subjects == new.subjects) {
                return Ok(());
            }
            return self.binding(request, &new.role_ref).await;
        }
        Ok(())
    }
}
