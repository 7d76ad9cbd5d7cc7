//! The default roles and the index, by questions whose answers upstream's documentation gives.

use std::sync::Arc;

use api::rbac::v1::{ClusterRole, RoleBinding};

use super::defaults;
use super::policy::{account, binding, cluster_role, on, role, user};
use super::*;
use crate::auth::UserInfo;

fn default_index(extra: Vec<RoleBinding>) -> Index {
    let mut bindings: Vec<_> = defaults::role_bindings();
    bindings.extend(extra);
    fn arcs<K>(list: Vec<K>) -> Vec<Arc<K>> {
        list.into_iter().map(Arc::new).collect()
    }
    let mut roles = defaults::roles();
    roles.push(role("team", "reader", &[on("get list", "core", "configmaps")]));
    Index::new(&arcs(defaults::cluster_roles()), &arcs(roles), &arcs(defaults::cluster_role_bindings()), &arcs(bindings))
}

fn asks<'a>(user: &'a UserInfo, verb: &'a str, namespace: &'a str, what: &'a str) -> Attributes<'a> {
    let is_resource = !what.starts_with('/');
    let (resource, group) = if is_resource { what.split_once('.').unwrap_or((what, "")) } else { ("", "") };
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let path = if is_resource { "" } else { what };
    Attributes {
        user,
        verb,
        is_resource,
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name: "x",
        path,
        field_selector: "",
        label_selector: "",
    }
}

fn who(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo { name: name.into(), groups: groups.iter().map(|g| (*g).to_owned()).collect(), ..UserInfo::default() }
}

#[test]
fn default_roles_answer_as_documented() {
    let mut edits = binding("team", "edits", "edit", vec![user("ed"), account("", "bot")]);
    edits.role_ref.kind = "ClusterRole".into();
    let gone = binding("team", "gone", "nowhere", vec![user("lost")]);
    let index = default_index(vec![edits, gone, binding("team", "reads", "reader", vec![user("rea")])]);
    let check = |user: &UserInfo, verb: &str, namespace: &str, what: &str, expected: bool| {
        let answer = index.authorize(&asks(user, verb, namespace, what));
        assert_eq!(answer.is_ok(), expected, "{} {verb} {what} in {namespace:?}: {answer:?}", user.name);
    };
    let nobody = who("system:anonymous", &["system:unauthenticated"]);
    check(&nobody, "get", "", "/healthz", true);
    check(&nobody, "get", "", "/version", true);
    check(&nobody, "get", "", "/api", false);
    check(&nobody, "list", "default", "pods", false);
    let anybody = who("jo", &["system:authenticated"]);
    check(&anybody, "get", "", "/apis/apps/v1", true);
    check(&anybody, "create", "", "selfsubjectaccessreviews.authorization.k8s.io", true);
    check(&anybody, "get", "default", "pods", false);
    let ed = who("ed", &["system:authenticated"]);
    check(&ed, "create", "team", "deployments.apps", true);
    check(&ed, "get", "team", "pods/log", true);
    check(&ed, "create", "team", "roles.rbac.authorization.k8s.io", false);
    check(&ed, "create", "other", "deployments.apps", false);
    check(&ed, "get", "", "nodes", false);
    check(&who("system:serviceaccount:team:bot", &[]), "delete", "team", "pods", true);
    let scheduler = who("system:kube-scheduler", &[]);
    check(&scheduler, "create", "team", "pods/binding", true);
    check(&scheduler, "create", "team", "pods", false);
    let deployments = who("system:serviceaccount:kube-system:deployment-controller", &[]);
    check(&deployments, "create", "team", "replicasets.apps", true);
    check(&deployments, "create", "team", "pods", false);
    check(&who("root", &["system:masters"]), "anything", "team", "things.acme.com", true);
    check(&who("rea", &[]), "list", "team", "configmaps", true);
    check(&who("rea", &[]), "list", "other", "configmaps", false);
    let lost = index.authorize(&asks(&who("lost", &[]), "get", "team", "pods")).unwrap_err();
    assert_eq!(lost, "RBAC: role.rbac.authorization.k8s.io \"nowhere\" not found");
}

#[test]
fn aggregation_goes_deep_and_survives_circles() {
    let all: Vec<Arc<ClusterRole>> = defaults::cluster_roles().into_iter().map(Arc::new).collect();
    let find = |name: &str| all.iter().find(|r| r.metadata.name.as_deref() == Some(name)).unwrap();
    let (admin, edit, view) = (aggregated(find("admin"), &all), aggregated(find("edit"), &all), aggregated(find("view"), &all));
    assert!(admin.len() > edit.len() && edit.len() > view.len() && !view.is_empty());
    let mut own = policy::aggregating_role("a", &["a"]);
    own.rules = None;
    let part = cluster_role("part", &["a"], &[on("get", "acme.com", "things")]);
    let circle = [Arc::new(own), Arc::new(part)];
    assert_eq!(aggregated(&circle[0], &circle).len(), 1);
}

#[test]
fn default_names_are_unique() {
    let mut names: Vec<_> = defaults::cluster_roles().into_iter().filter_map(|r| r.metadata.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    for binding in defaults::cluster_role_bindings() {
        assert!(names.contains(&binding.role_ref.name), "{}", binding.role_ref.name);
    }
}
