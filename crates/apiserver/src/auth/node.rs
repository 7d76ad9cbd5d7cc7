//! The Node authorizer: a kubelet reads only what its own pods need (plugin/pkg/auth/authorizer/node).

use std::sync::Arc;

use api::core::v1::{PersistentVolume, Pod};
use api::rbac::v1::PolicyRule;
use api::resource::v1::ResourceSlice;
use api::selector::FieldSelector;
use api::storage::v1::VolumeAttachment;
use async_trait::async_trait;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::identity::node_name;
use super::rbac::{defaults, rules};
use super::{Attributes, Authorizer, Decision};
use crate::Objects;
use crate::pod_refs::{PodRefs, pod_refs};

/// What the pods of a node in one namespace refer to, by pod name, with the pod's revision.
type Known = HashMap<String, (i64, Arc<PodRefs>)>;

pub struct NodeAuthorizer {
    objects: Objects,
    rules: Vec<PolicyRule>,
    /// By node and namespace: a pod is decoded once per revision, when its node first asks.
    known: Mutex<HashMap<(String, String), Known>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ResourceClaim,
    ServiceAccount,
    Attachment,
    Pod,
    Slice,
}

fn no(reason: impl Into<String>) -> Decision {
    Decision::NoOpinion(reason.into())
}

impl NodeAuthorizer {
    pub fn new(objects: Objects) -> Self {
        Self { objects, rules: defaults::node_rules(), known: Mutex::default() }
    }

    fn decide(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if asked.is_resource {
            match (asked.group, asked.resource) {
                ("", "secrets") => return self.read(node, What::Secret, asked),
                ("", "configmaps") => return self.read(node, What::ConfigMap, asked),
                ("", "persistentvolumeclaims") if asked.subresource == "status" => {
                    return match asked.verb {
                        "update" | "patch" => self.related(node, What::Claim, asked),
                        _ => no("can only get/update/patch this type"),
                    };
                }
                ("", "persistentvolumeclaims") => return self.get(node, What::Claim, asked),
                ("", "persistentvolumes") => return self.get(node, What::Volume, asked),
                ("resource.k8s.io", "resourceclaims") => return self.get(node, What::ResourceClaim, asked),
                ("storage.k8s.io", "volumeattachments") => return self.get(node, What::Attachment, asked),
                ("", "serviceaccounts") => return self.service_account(node, asked),
                ("coordination.k8s.io", "leases") => return lease(node, asked),
                ("storage.k8s.io", "csinodes") => return csi_node(node, asked),
                ("resource.k8s.io", "resourceslices") => return self.slice(node, asked),
                ("", "nodes") => return own_node(node, asked),
                ("", "pods") => return self.pod(node, asked),
                _ => {}
            }
        }
        if self.rules.iter().any(|rule| rules::allows(rule, asked)) { Decision::Allow } else { no("") }
    }

    fn get(&self, node: &str, what: What, asked: &Attributes<'_>) -> Decision {
        if asked.verb != "get" {
            return no("can only get individual resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot get subresource");
        }
        self.related(node, what, asked)
    }

    fn read(&self, node: &str, what: What, asked: &Attributes<'_>) -> Decision {
        if !matches!(asked.verb, "get" | "list" | "watch") {
            return no("can only read resources of this type");
        }
        if !asked.subresource.is_empty() {
            return no("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return no("can only read namespaced object of this type");
        }
        self.related(node, what, asked)
    }

    fn service_account(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if asked.verb == "get" && asked.subresource.is_empty() {
            return self.get(node, What::ServiceAccount, asked);
        }
        if asked.verb != "create" || asked.name.is_empty() {
            return no("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return no("can only create token subresource of serviceaccount");
        }
        self.related(node, What::ServiceAccount, asked)
    }

    fn slice(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        if !asked.subresource.is_empty() {
            return no("cannot authorize ResourceSlice subresources");
        }
        match asked.verb {
            "create" => Decision::Allow,
            "get" | "update" | "patch" | "delete" => self.related(node, What::Slice, asked),
            "watch" | "list" | "deletecollection" if selects(asked, "nodeName", node) || selects(asked, "spec.nodeName", node) => {
                Decision::Allow
            }
            "watch" | "list" | "deletecollection" => no("can only list/watch/deletecollection resourceslices with nodeName field selector"),
            _ => no(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, asked: &Attributes<'_>) -> Decision {
        match (asked.subresource, asked.verb) {
            ("", "get") => self.related(node, What::Pod, asked),
            ("", "list" | "watch") if selects(asked, "spec.nodeName", node) => Decision::Allow,
            ("", "list" | "watch") if !asked.name.is_empty() => self.related(node, What::Pod, asked),
            ("", "list" | "watch") => no("can only list/watch pods with spec.nodeName field selector"),
            // Which pods is for the NodeRestriction admission plugin.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => Decision::Allow,
            _ => no(""),
        }
    }

    fn related(&self, node: &str, what: What, asked: &Attributes<'_>) -> Decision {
        if asked.name.is_empty() {
            return no("No Object name found");
        }
        if self.is_related(node, what, asked.namespace, asked.name) {
            Decision::Allow
        } else {
            no(format!("no relationship found between node '{node}' and this object"))
        }
    }

    fn is_related(&self, node: &str, what: What, namespace: &str, name: &str) -> bool {
        let own = |field: Option<&str>| field == Some(node);
        match what {
            What::Pod => self.objects.get::<Pod>(Some(namespace), name).is_some_and(|pod| own(pod_node(&pod))),
            What::Slice => self.objects.get::<ResourceSlice>(None, name).is_some_and(|slice| own(slice.spec.node_name.as_deref())),
            What::Attachment => self.objects.get::<VolumeAttachment>(None, name).is_some_and(|a| own(Some(&a.spec.node_name))),
            What::Volume => {
                let volume = self.objects.get::<PersistentVolume>(None, name);
                volume.as_deref().and_then(claim_of).is_some_and(|(namespace, claim)| self.is_related(node, What::Claim, namespace, claim))
            }
            What::Secret => {
                self.any_pod(node, namespace, |refs| refs.secrets.contains(name)) || self.secret_of_volume(node, namespace, name)
            }
            What::ConfigMap => self.any_pod(node, namespace, |refs| refs.config_maps.contains(name)),
            What::Claim => self.any_pod(node, namespace, |refs| refs.claims.contains(name)),
            What::ResourceClaim => self.any_pod(node, namespace, |refs| refs.resource_claims.contains(name)),
            What::ServiceAccount => self.any_pod(node, namespace, |refs| refs.service_account == name),
        }
    }

    fn any_pod(&self, node: &str, namespace: &str, test: impl Fn(&PodRefs) -> bool) -> bool {
        let entries = self.objects.entries::<Pod>(Some(namespace), |entry| entry.field("spec.nodeName") == Some(node));
        let mut known = self.known.lock();
        let pods = known.entry((node.to_owned(), namespace.to_owned())).or_default();
        pods.retain(|name, _| entries.iter().any(|entry| entry.name() == name));
        let mut found = false;
        for entry in &entries {
            let refs = match pods.get(entry.name()) {
                Some((revision, refs)) if *revision == entry.revision => refs.clone(),
                _ => {
                    let Some(pod) = self.objects.decode_entry::<Pod>(entry) else { continue };
                    let refs = Arc::new(pod_refs(&pod));
                    pods.insert(entry.name().to_owned(), (entry.revision, refs.clone()));
                    refs
                }
            };
            found = found || test(&refs);
        }
        if pods.is_empty() {
            known.remove(&(node.to_owned(), namespace.to_owned()));
        }
        found
    }

    /// Secrets that volumes of the node's pods need to be mounted.
    fn secret_of_volume(&self, node: &str, namespace: &str, secret: &str) -> bool {
        self.objects.list::<PersistentVolume>(None).iter().any(|volume| {
            let Some((claim_namespace, claim)) = claim_of(volume) else { return false };
            let csi = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
            let secrets = csi.into_iter().flat_map(|csi| {
                [&csi.node_publish_secret_ref, &csi.node_stage_secret_ref, &csi.node_expand_secret_ref].into_iter().flatten()
            });
            let mut named = secrets.filter(|s| s.name.as_deref() == Some(secret));
            named.any(|s| s.namespace.as_deref() == Some(namespace)) && self.is_related(node, What::Claim, claim_namespace, claim)
        })
    }
}

fn pod_node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn claim_of(volume: &PersistentVolume) -> Option<(&str, &str)> {
    let claim = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some((claim.namespace.as_deref()?, claim.name.as_deref()?))
}

fn selects(asked: &Attributes<'_>, field: &str, value: &str) -> bool {
    FieldSelector::parse(asked.field_selector).is_ok_and(|selector| selector.exact(field) == Some(value))
}

fn lease(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a node lease");
    }
    if asked.namespace != "kube-node-lease" {
        return no("can only access leases in the \"kube-node-lease\" system namespace");
    }
    // The name of one that is created is checked by the NodeRestriction admission plugin.
    if asked.verb != "create" && asked.name != node {
        return no("can only access node lease with the same name as the requesting node");
    }
    Decision::Allow
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Decision {
    if !matches!(asked.verb, "get" | "create" | "update" | "patch" | "delete") {
        return no("can only get, create, update, patch, or delete a CSINode");
    }
    if !asked.subresource.is_empty() {
        return no("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return no("can only access CSINode with the same name as the requesting node");
    }
    Decision::Allow
}

fn own_node(node: &str, asked: &Attributes<'_>) -> Decision {
    match (asked.subresource, asked.verb) {
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Decision::Allow,
        ("", "get" | "list" | "watch") => match asked.name {
            name if name == node => Decision::Allow,
            "" if selects(asked, "metadata.name", node) => Decision::Allow,
            "" => no(format!("node '{node}' cannot read all nodes, only its own Node object")),
            name => no(format!("node '{node}' cannot read '{name}', only its own Node object")),
        },
        _ => no(""),
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        match node_name(asked.user) {
            None => no(""),
            Some("") => no(format!("unknown node for user {:?}", asked.user.name)),
            Some(node) => self.decide(node, asked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::UserInfo;

    fn asks<'a>(user: &'a UserInfo, verb: &'a str, resource: &'a str, name: &'a str, field_selector: &'a str) -> Attributes<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            user,
            verb,
            is_resource: true,
            group: "",
            version: "v1",
            resource,
            subresource,
            namespace: "kube-node-lease",
            name,
            path: "",
            field_selector,
            label_selector: "",
        }
    }

    #[test]
    fn nodes_see_themselves() {
        let user = UserInfo::default();
        let check = |decide: fn(&str, &Attributes<'_>) -> Decision, verb, resource, name, fields, expected: bool| {
            let decision = decide("n1", &asks(&user, verb, resource, name, fields));
            assert_eq!(decision == Decision::Allow, expected, "{verb} {resource} {name} {fields}: {decision:?}");
        };
        check(own_node, "get", "nodes", "n1", "", true);
        check(own_node, "get", "nodes", "n2", "", false);
        check(own_node, "list", "nodes", "", "", false);
        check(own_node, "watch", "nodes", "", "metadata.name=n1", true);
        check(own_node, "patch", "nodes/status", "n1", "", true);
        check(own_node, "delete", "nodes", "n1", "", false);
        check(lease, "create", "leases", "", "", true);
        check(lease, "update", "leases", "n2", "", false);
        check(lease, "list", "leases", "n1", "", false);
        check(csi_node, "update", "csinodes", "n1", "", true);
        check(csi_node, "update", "csinodes/status", "n1", "", false);
    }
}
