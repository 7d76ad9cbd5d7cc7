//! Shows in aggregating ClusterRoles the rules that they have: what upstream's clusterrole-aggregation-controller does. Decisions do not wait for it.

use std::sync::Arc;

use api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};

use super::{Rbac, aggregated};

const MANAGER: &str = "clusterrole-aggregation-controller";

/// Roles whose rules are not those of their parts, with the right ones.
fn outdated(roles: &[Arc<ClusterRole>]) -> Vec<(String, Vec<PolicyRule>)> {
    let aggregating = roles.iter().filter(|role| role.aggregation_rule.is_some());
    let wanted = aggregating.map(|role| (role, aggregated(role, roles)));
    wanted
        .filter(|(role, rules)| role.rules.as_deref().unwrap_or_default() != rules.as_slice())
        .map(|(role, rules)| (role.metadata.name.clone().unwrap_or_default(), rules))
        .collect()
}

/// Runs until something fails; to be started again then.
pub async fn aggregate(rbac: Arc<Rbac>, client: Client) {
    let Some(mut changes) = rbac.objects().subscribe::<ClusterRole>() else { return std::future::pending().await };
    let api = Api::<ClusterRole>::all(client);
    loop {
        changes.borrow_and_update();
        for (name, rules) in outdated(&rbac.objects().list(None)) {
            let patch = Patch::Merge(serde_json::json!({ "rules": rules }));
            match api.patch(&name, &PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }, &patch).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    tracing::warn!(role = name, %error, "the rules of an aggregated role cannot be written");
                    return;
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::rbac::policy::{aggregating_role, cluster_role, on};

    #[test]
    fn only_what_differs_is_written() {
        let part = Arc::new(cluster_role("part", &["whole"], &[on("get", "core", "pods")]));
        let mut whole = aggregating_role("whole", &[]);
        let found = outdated(&[part.clone(), Arc::new(whole.clone())]);
        assert_eq!(found, [("whole".to_owned(), vec![on("get", "core", "pods").to_rule()])]);
        whole.rules = Some(found[0].1.clone());
        assert!(outdated(&[part, Arc::new(whole)]).is_empty());
    }
}
