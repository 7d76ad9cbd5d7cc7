//! Default roles and bindings at start: what is missing is made, what lost a rule or a subject gets it back; what users added stays.
//! Roles annotated `autoupdate: "false"` are left alone (pkg/registry/rbac/rest/storage_rbac.go, component-helpers/auth/rbac/reconciliation).

use std::sync::Arc;

use api::core::v1::Namespace;
use api::meta::v1::ObjectMeta;
use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use futures::{StreamExt, TryStreamExt};
use kinds::Kind;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde::Serialize;

use super::{aggregated, defaults, policy::AUTO_UPDATE, rules};
use crate::Objects;
use crate::auth::AuthError;

/// Writes under way at once: the store commits them together.
const AT_ONCE: usize = 32;

/// What a default object needs for the comparison with the one that is there.
trait Default_: Kind + Serialize {
    /// `Some`: `self`, the object that is there, with what `wanted` has more; `None`: nothing is missing.
    fn completed(&self, wanted: &Self) -> Option<Self>;
    /// Whether it has to be made anew, as a binding's role cannot be changed.
    fn is_other(&self, _wanted: &Self) -> bool {
        false
    }
}

fn complete_meta(meta: &ObjectMeta, wanted: &ObjectMeta) -> ObjectMeta {
    let mut meta = meta.clone();
    for (key, value) in wanted.labels.iter().flatten() {
        meta.labels.get_or_insert_default().insert(key.clone(), value.clone());
    }
    for (key, value) in wanted.annotations.iter().flatten() {
        meta.annotations.get_or_insert_default().entry(key.clone()).or_insert_with(|| value.clone());
    }
    meta
}

fn complete_rules(rules: Option<&Vec<PolicyRule>>, wanted: Option<&Vec<PolicyRule>>) -> Option<Vec<PolicyRule>> {
    let mut all = rules.cloned().unwrap_or_default();
    let missing = rules::uncovered(&all, wanted.map(Vec::as_slice).unwrap_or_default());
    all.extend(rules::compact(missing));
    (!all.is_empty()).then_some(all)
}

fn complete_subjects(subjects: Option<&Vec<Subject>>, wanted: Option<&Vec<Subject>>) -> Option<Vec<Subject>> {
    let mut all = subjects.cloned().unwrap_or_default();
    for subject in wanted.into_iter().flatten() {
        if !all.contains(subject) {
            all.push(subject.clone());
        }
    }
    (!all.is_empty()).then_some(all)
}

fn changed<K: PartialEq>(now: &K, next: K) -> Option<K> {
    (*now != next).then_some(next)
}

impl Default_ for ClusterRole {
    fn completed(&self, wanted: &Self) -> Option<Self> {
        let metadata = complete_meta(&self.metadata, &wanted.metadata);
        let aggregation_rule = wanted.aggregation_rule.clone().or_else(|| self.aggregation_rule.clone());
        let rules = complete_rules(self.rules.as_ref(), wanted.rules.as_ref());
        changed(self, Self { metadata, aggregation_rule, rules })
    }
}

impl Default_ for Role {
    fn completed(&self, wanted: &Self) -> Option<Self> {
        let metadata = complete_meta(&self.metadata, &wanted.metadata);
        changed(self, Self { metadata, rules: complete_rules(self.rules.as_ref(), wanted.rules.as_ref()) })
    }
}

fn same_role(a: &RoleRef, b: &RoleRef) -> bool {
    a.kind == b.kind && a.name == b.name
}

impl Default_ for ClusterRoleBinding {
    fn completed(&self, wanted: &Self) -> Option<Self> {
        let metadata = complete_meta(&self.metadata, &wanted.metadata);
        let subjects = complete_subjects(self.subjects.as_ref(), wanted.subjects.as_ref());
        changed(self, Self { metadata, subjects, role_ref: self.role_ref.clone() })
    }

    fn is_other(&self, wanted: &Self) -> bool {
        !same_role(&self.role_ref, &wanted.role_ref)
    }
}

impl Default_ for RoleBinding {
    fn completed(&self, wanted: &Self) -> Option<Self> {
        let metadata = complete_meta(&self.metadata, &wanted.metadata);
        let subjects = complete_subjects(self.subjects.as_ref(), wanted.subjects.as_ref());
        changed(self, Self { metadata, subjects, role_ref: self.role_ref.clone() })
    }

    fn is_other(&self, wanted: &Self) -> bool {
        !same_role(&self.role_ref, &wanted.role_ref)
    }
}

/// `None`: leave it as it is.
enum Write<K> {
    Create(K),
    Replace(K),
    Remake(K),
}

fn plan<K: Default_>(there: Option<&K>, wanted: K) -> Option<Write<K>> {
    let Some(there) = there else { return Some(Write::Create(wanted)) };
    if there.metadata().annotations.as_ref().and_then(|a| a.get(AUTO_UPDATE)).is_some_and(|value| value == "false") {
        return None;
    }
    if there.is_other(&wanted) {
        return Some(Write::Remake(wanted));
    }
    there.completed(&wanted).map(Write::Replace)
}

async fn perform<K>(api: Api<K>, name: String, write: Write<K>) -> Result<(), kube::Error>
where
    K: Default_ + std::fmt::Debug,
{
    let post = PostParams::default();
    let done = match write {
        Write::Create(object) => api.create(&post, &object).await,
        Write::Replace(object) => api.replace(&name, &post, &object).await,
        Write::Remake(object) => {
            api.delete(&name, &DeleteParams::default()).await?;
            api.create(&post, &object).await
        }
    };
    match done {
        // Another server of the cluster was faster.
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" || status.reason == "Conflict" => Ok(()),
        other => other.map(drop),
    }
}

async fn reconcile<K>(objects: &Objects, api: impl Fn(Option<&str>) -> Api<K>, wanted: Vec<K>) -> Result<(), AuthError>
where
    K: Default_ + std::fmt::Debug,
{
    let writes: Vec<_> = wanted
        .into_iter()
        .filter_map(|wanted| {
            let (namespace, name) = (wanted.metadata().namespace.clone(), wanted.metadata().name.clone()?);
            let there: Option<Arc<K>> = objects.get(namespace.as_deref(), &name);
            Some(perform(api(namespace.as_deref()), name, plan(there.as_deref(), wanted)?))
        })
        .collect();
    futures::stream::iter(writes)
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
        .map_err(|e| AuthError(format!("default {} cannot be written: {e}", K::INFO.resource)))
}

/// Makes or completes all defaults. `client` must be in `system:masters`.
pub async fn bootstrap(client: &Client, objects: &Objects) -> Result<(), AuthError> {
    for namespace in ["kube-system", "kube-public"] {
        if objects.get::<Namespace>(None, namespace).is_none() {
            let object =
                Namespace { metadata: ObjectMeta { name: Some(namespace.into()), ..ObjectMeta::default() }, ..Namespace::default() };
            match Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await {
                Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
                other => drop(other.map_err(|e| AuthError(format!("namespace {namespace} cannot be made: {e}")))?),
            }
        }
    }
    let mut cluster_roles = defaults::cluster_roles();
    let all: Vec<Arc<ClusterRole>> = cluster_roles.iter().cloned().map(Arc::new).collect();
    for role in &mut cluster_roles {
        role.rules = Some(aggregated(role, &all));
    }
    let namespace = |n: Option<&str>| n.expect("a default role of a namespace names it").to_owned();
    tokio::try_join!(
        reconcile(objects, |_| Api::all(client.clone()), cluster_roles),
        reconcile(objects, |_| Api::all(client.clone()), defaults::cluster_role_bindings()),
        reconcile(objects, |n| Api::namespaced(client.clone(), &namespace(n)), defaults::roles()),
        reconcile(objects, |n| Api::namespaced(client.clone(), &namespace(n)), defaults::role_bindings()),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::rbac::policy::{cluster_binding, cluster_role, group, on, user};

    #[test]
    fn missing_rules_come_back_and_added_ones_stay() {
        let wanted = cluster_role("a", &[], &[on("get list", "core", "pods")]);
        assert!(matches!(plan(None, wanted.clone()), Some(Write::Create(_))));
        assert!(plan(Some(&wanted), wanted.clone()).is_none());
        let mine = cluster_role("a", &[], &[on("get", "core", "pods"), on("get", "core", "secrets")]);
        let Some(Write::Replace(next)) = plan(Some(&mine), wanted.clone()) else { panic!("nothing replaced") };
        let rules = next.rules.unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[2], on("list", "core", "pods").to_rule());
        let mut frozen = mine;
        frozen.metadata.annotations = Some([(AUTO_UPDATE.to_owned(), "false".to_owned())].into());
        assert!(plan(Some(&frozen), wanted).is_none());
    }

    #[test]
    fn bindings_keep_their_subjects() {
        let wanted = cluster_binding("a", vec![group("g")]);
        let mine = cluster_binding("a", vec![user("u")]);
        let Some(Write::Replace(next)) = plan(Some(&mine), wanted.clone()) else { panic!("nothing replaced") };
        assert_eq!(next.subjects.unwrap(), [user("u"), group("g")]);
        let mut other = mine;
        other.role_ref.name = "b".into();
        assert!(matches!(plan(Some(&other), wanted), Some(Write::Remake(_))));
    }
}
