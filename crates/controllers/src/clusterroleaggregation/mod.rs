//! Fills ClusterRoles with an aggregation rule from the roles that it selects (pkg/controller/clusterroleaggregation).

use std::sync::Arc;

use api::meta::v1::LabelSelector;
use api::rbac::v1::{ClusterRole, PolicyRule};
use api::selector::Selector;
use client::{Api, Client, Informer, ResourceExt, WorkQueue};
use kube::api::PostParams;

use crate::context::Context;
use crate::frame::{Controller, Next, Result};

pub struct ClusterRoleAggregation {
    roles: Informer<ClusterRole>,
    client: Client,
}

/// The rules of all selected roles, by the selectors' order and the roles' names, each once.
fn plan(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors: &[LabelSelector] = role.aggregation_rule.as_ref()?.cluster_role_selectors.as_deref().unwrap_or_default();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors.iter().filter_map(|selector| Selector::from_label_selector(selector).ok()) {
        let mut selected: Vec<&Arc<ClusterRole>> = all
            .iter()
            .filter(|other| other.metadata.name != role.metadata.name && selector.matches_opt(other.metadata.labels.as_ref()))
            .collect();
        selected.sort_by(|left, right| left.metadata.name.cmp(&right.metadata.name));
        for rule in selected.iter().flat_map(|role| role.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    (rules != role.rules.as_deref().unwrap_or_default()).then_some(rules)
}

impl ClusterRoleAggregation {
    pub fn new(context: &Context) -> Self {
        Self { roles: context.informer(), client: context.client("clusterrole-aggregation-controller") }
    }
}

impl Controller for ClusterRoleAggregation {
    type Key = String;

    fn name(&self) -> &'static str {
        "clusterrole-aggregation-controller"
    }

    fn watch(&self, queue: &WorkQueue<String>) {
        let (queue, roles) = (queue.clone(), self.roles.clone());
        // Any role may be part of any aggregate; aggregates are few.
        self.roles.on_change(move |_| {
            roles.list().iter().filter(|role| role.aggregation_rule.is_some()).for_each(|role| queue.add(role.name_any()))
        });
    }

    async fn synced(&self) {
        self.roles.synced().await;
    }

    async fn reconcile(&self, key: &String) -> Result<Next> {
        let Some(role) = self.roles.get(None, key) else { return Ok(Next::Done) };
        let Some(rules) = plan(&role, &self.roles.list()) else { return Ok(Next::Done) };
        let new = ClusterRole { rules: Some(rules), ..ClusterRole::clone(&role) };
        Api::<ClusterRole>::all(self.client.clone()).replace(key, &PostParams::default(), &new).await?;
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn rules_are_gathered_once() {
        let role = |name: &str, label: &str, resource: &str| -> Arc<ClusterRole> {
            let rule = json!({"apiGroups": [""], "resources": [resource], "verbs": ["get"]});
            Arc::new(serde_json::from_value(json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": [rule]})).expect("a role"))
        };
        let aggregate = |rules: Value| -> ClusterRole {
            let rule = json!({"clusterRoleSelectors": [{"matchLabels": {"to": "view"}}, {"matchLabels": {"to": "edit"}}]});
            serde_json::from_value(json!({"metadata": {"name": "admin"}, "aggregationRule": rule, "rules": rules})).expect("a role")
        };
        let all = [role("b", "view", "pods"), role("a", "edit", "secrets"), role("c", "edit", "pods"), role("d", "other", "nodes")];
        let rules = plan(&aggregate(json!([])), &all).expect("a change");
        let resources: Vec<_> = rules.iter().map(|rule| rule.resources.clone().unwrap_or_default()[0].clone()).collect();
        assert_eq!(resources, ["pods", "secrets"]);
        assert_eq!(plan(&aggregate(json!(rules)), &all), None);
        assert_eq!(plan(&all[0], &all), None, "no aggregate");
    }
}
