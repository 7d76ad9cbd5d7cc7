//! Roles and bindings arranged for questions: who is bound to which rules, where. Pure; made anew when one of them changes.

use std::sync::Arc;

use api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use api::selector::Selector;
use hashbrown::{HashMap, HashSet};

use super::rules::allows;
use crate::auth::identity::service_account_user;
use crate::auth::{Attributes, UserInfo};

type Rules = Arc<[PolicyRule]>;

/// A binding as one of its subjects sees it; `None`: the role does not exist, and its name is in the text.
struct Bound {
    rules: Result<Rules, Arc<str>>,
}

/// Bindings of one scope by subject.
#[derive(Default)]
struct Scope {
    users: HashMap<String, Vec<Arc<Bound>>>,
    groups: HashMap<String, Vec<Arc<Bound>>>,
}

#[derive(Default)]
pub struct Index {
    cluster: Scope,
    namespaces: HashMap<String, Scope>,
    cluster_roles: HashMap<String, Rules>,
    roles: HashMap<String, HashMap<String, Rules>>,
}

impl Scope {
    fn add(&mut self, subjects: &[Subject], namespace: &str, bound: &Arc<Bound>) {
        for subject in subjects {
            let (map, key) = match subject.kind.as_str() {
                "User" => (&mut self.users, subject.name.clone()),
                "Group" => (&mut self.groups, subject.name.clone()),
                "ServiceAccount" => {
                    let namespace = subject.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or(namespace);
                    (&mut self.users, service_account_user(namespace, &subject.name))
                }
                _ => continue,
            };
            map.entry(key).or_default().push(bound.clone());
        }
    }

    fn of<'a>(&'a self, user: &'a UserInfo) -> impl Iterator<Item = &'a Arc<Bound>> {
        let named = self.users.get(&user.name).into_iter().flatten();
        named.chain(user.groups.iter().filter_map(|group| self.groups.get(group)).flatten())
    }
}

impl Index {
    pub fn new(
        cluster_roles: &[Arc<ClusterRole>],
        roles: &[Arc<Role>],
        cluster_bindings: &[Arc<ClusterRoleBinding>],
        bindings: &[Arc<RoleBinding>],
    ) -> Self {
        let mut index = Self::default();
        for role in cluster_roles {
            let name = role.metadata.name.clone().unwrap_or_default();
            index.cluster_roles.insert(name, aggregated(role, cluster_roles).into());
        }
        for role in roles {
            let namespace = role.metadata.namespace.clone().unwrap_or_default();
            let rules = role.rules.clone().unwrap_or_default().into();
            index.roles.entry(namespace).or_default().insert(role.metadata.name.clone().unwrap_or_default(), rules);
        }
        let mut cluster = Scope::default();
        for binding in cluster_bindings {
            let bound = Arc::new(Bound { rules: index.rules_of(&binding.role_ref, "") });
            cluster.add(binding.subjects.as_deref().unwrap_or_default(), "", &bound);
        }
        index.cluster = cluster;
        for binding in bindings {
            let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
            let bound = Arc::new(Bound { rules: index.rules_of(&binding.role_ref, namespace) });
            let scope = index.namespaces.entry(namespace.to_owned()).or_default();
            scope.add(binding.subjects.as_deref().unwrap_or_default(), namespace, &bound);
        }
        index
    }

    /// The rules of a role that a binding in `namespace` names; the error says that there is none.
    pub fn rules_of(&self, role: &RoleRef, namespace: &str) -> Result<Rules, Arc<str>> {
        let (found, resource) = match role.kind.as_str() {
            "ClusterRole" => (self.cluster_roles.get(&role.name), "clusterrole"),
            _ => (self.roles.get(namespace).and_then(|roles| roles.get(&role.name)), "role"),
        };
        found.cloned().ok_or_else(|| format!("{resource}.rbac.authorization.k8s.io {:?} not found", role.name).into())
    }

    fn bound<'a>(&'a self, user: &'a UserInfo, namespace: &str) -> impl Iterator<Item = &'a Arc<Bound>> {
        let local = (!namespace.is_empty()).then(|| self.namespaces.get(namespace)).flatten();
        self.cluster.of(user).chain(local.into_iter().flat_map(|scope| scope.of(user)))
    }

    /// Whether any rule allows it; otherwise a reason, mostly empty.
    pub fn authorize(&self, asked: &Attributes<'_>) -> Result<(), String> {
        let mut missing: Vec<&str> = Vec::new();
        for bound in self.bound(asked.user, asked.namespace) {
            match &bound.rules {
                Ok(rules) if rules.iter().any(|rule| allows(rule, asked)) => return Ok(()),
                Ok(_) => {}
                Err(role) if missing.contains(&&**role) => {}
                Err(role) => missing.push(role),
            }
        }
        Err(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// Every rule that the user has in a namespace (empty: cluster-wide), and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<PolicyRule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        for bound in self.bound(user, namespace) {
            match &bound.rules {
                Ok(list) => rules.extend(list.iter().cloned()),
                Err(error) => errors.push(error.to_string()),
            }
        }
        (rules, errors)
    }
}

/// The rules of a role; for an aggregating one those of all roles that its selectors choose, however deep.
/// Upstream's clusterrole-aggregation-controller writes them into the role; here they hold from the moment the parts are there.
pub fn aggregated(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<PolicyRule> {
    if role.aggregation_rule.is_none() {
        return role.rules.clone().unwrap_or_default();
    }
    let mut rules: Vec<PolicyRule> = Vec::new();
    let mut seen: HashSet<&str> = HashSet::new();
    let mut open: Vec<&ClusterRole> = vec![role];
    while let Some(role) = open.pop() {
        if !seen.insert(role.metadata.name.as_deref().unwrap_or_default()) {
            continue;
        }
        let Some(aggregation) = &role.aggregation_rule else {
            for rule in role.rules.iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            continue;
        };
        // A selector that cannot be read chooses nothing; validation does not let one in.
        let selectors: Vec<Selector> =
            aggregation.cluster_role_selectors.iter().flatten().filter_map(|s| Selector::from_label_selector(s).ok()).collect();
        let mut chosen: Vec<&ClusterRole> = all
            .iter()
            .filter(|other| selectors.iter().any(|selector| selector.matches_opt(other.metadata.labels.as_ref())))
            .map(AsRef::as_ref)
            .collect();
        chosen.sort_by(|a, b| b.metadata.name.cmp(&a.metadata.name));
        open.extend(chosen);
    }
    rules
}
