//! NodeRestriction: a kubelet changes only its own node and the pods bound to it (plugin/pkg/admission/noderestriction).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::StatusError;
use api::authentication::v1::TokenRequest;
use api::certificates::v1::CertificateSigningRequest;
use api::core::v1::{Node, PersistentVolumeClaim, Pod};
use api::resource::v1::ResourceSlice;
use api::storage::v1::CSIDriver;
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin, certificates, forbid};
use crate::Objects;
use crate::auth::node_name;
use crate::pod_refs::{MIRROR, all_refs};

pub struct NodeRestriction {
    objects: Objects,
}

type Checked = Result<(), StatusError>;

impl NodeRestriction {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    fn pod(&self, node: &str, request: &AdmissionRequest<'_>) -> Checked {
        let bound = |pod: Option<&Pod>| pod.and_then(|p| p.spec.as_ref()).and_then(|s| s.node_name.as_deref()) == Some(node);
        match (request.subresource, request.operation) {
            ("", Operation::Create) => self.new_pod(node, request),
            ("", Operation::Delete) if bound(request.old()) => Ok(()),
            ("", Operation::Delete) => Err(forbid(request, format!("node {node:?} can only delete pods with spec.nodeName set to itself"))),
            ("", _) => {
                Err(forbid(request, format!("unexpected operation \"UPDATE\", node {node:?} can only create and delete mirror pods")))
            }
            ("status", Operation::Update) => pod_status(node, request, bound(request.old())),
            ("eviction", Operation::Create) => {
                let pod: Option<Arc<Pod>> = self.objects.get(Some(request.namespace), request.name);
                let pod = pod.ok_or_else(|| StatusError::not_found("", "pods", request.name))?;
                if bound(Some(&pod)) {
                    return Ok(());
                }
                Err(forbid(request, format!("node {node} can only evict pods with spec.nodeName set to itself")))
            }
            (other, _) => Err(forbid(request, format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))),
        }
    }

    fn new_pod(&self, node: &str, request: &AdmissionRequest<'_>) -> Checked {
        let Some(pod) = request.get::<Pod>() else { return Ok(()) };
        if let Err(cause) = mirror_pod(node, pod) {
            return Err(forbid(request, cause));
        }
        let uid = pod.metadata.owner_references.iter().flatten().map(|owner| owner.uid.as_str()).next().unwrap_or_default();
        let found: Option<Arc<Node>> = self.objects.get(None, node);
        let found = found.ok_or_else(|| StatusError::not_found("", "nodes", node))?;
        match found.metadata.uid.as_deref() {
            Some(expected) if expected == uid => Ok(()),
            expected => {
                let expected = expected.unwrap_or_default();
                Err(forbid(request, format!("node {node} UID mismatch: expected {expected} got {uid}")))
            }
        }
    }

    fn token(&self, node: &str, request: &AdmissionRequest<'_>) -> Checked {
        let Some(token) = request.body::<TokenRequest>() else { return Ok(()) };
        let spec = token.spec.as_ref();
        let reference = spec.and_then(|s| s.bound_object_ref.as_ref());
        let is = |field: Option<&String>, value: &str| field.is_some_and(|f| f == value);
        let Some(reference) = reference.filter(|r| is(r.api_version.as_ref(), "v1") && is(r.kind.as_ref(), "Pod")) else {
            return Err(forbid(request, "node requested token not bound to a pod"));
        };
        let name = reference.name.as_deref().unwrap_or_default();
        let uid = reference.uid.as_deref().unwrap_or_default();
        if name.is_empty() {
            return Err(forbid(request, "node requested token not bound to a pod"));
        }
        if uid.is_empty() {
            return Err(forbid(request, "node requested token with a pod binding without a uid"));
        }
        let pod: Option<Arc<Pod>> = self.objects.get(Some(request.namespace), name);
        let pod = pod.ok_or_else(|| StatusError::not_found("", "pods", name))?;
        if pod.metadata.uid.as_deref() != Some(uid) {
            return Err(forbid(
                request,
                format!(
                    "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
                ),
            ));
        }
        if pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) != Some(node) {
            return Err(forbid(request, "node requested token bound to a pod scheduled on a different node"));
        }
        let audiences = spec.and_then(|s| s.audiences.as_deref()).unwrap_or_default();
        match audiences {
            [] => Ok(()),
            [audience] if self.is_audience(&pod, audience) => Ok(()),
            [audience] => Err(forbid(request, format!("audience {audience:?} not found in pod spec volume"))),
            _ => Err(forbid(request, "node may only request 0 or 1 audiences")),
        }
    }

    /// Whether the pod's volumes or a CSI driver ask for tokens of this audience.
    fn is_audience(&self, pod: &Pod, audience: &str) -> bool {
        let volumes = pod.spec.iter().flat_map(|s| s.volumes.iter().flatten());
        let sources = volumes.filter_map(|v| v.projected.as_ref()).flat_map(|p| p.sources.iter().flatten());
        let mut tokens = sources.filter_map(|s| s.service_account_token.as_ref());
        tokens.any(|t| t.audience.as_deref().unwrap_or_default() == audience)
            || audience.is_empty()
            || self
                .objects
                .list::<CSIDriver>(None)
                .iter()
                .any(|driver| driver.spec.token_requests.iter().flatten().any(|t| t.audience == audience))
    }
}

/// What a node may say in a pod that it makes.
fn mirror_pod(node: &str, pod: &Pod) -> Result<(), String> {
    if !pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR)) {
        return Err(format!("pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"));
    }
    if pod.spec.as_ref().and_then(|s| s.node_name.as_deref()) != Some(node) {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    match pod.metadata.owner_references.as_deref().unwrap_or_default() {
        [] => return Err(format!("node {node:?} can only create pods with an owner reference set to itself")),
        [owner] => {
            if owner.api_version != "v1" || owner.kind != "Node" || owner.name != node {
                return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
            }
            if owner.controller != Some(true) {
                return Err(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
            }
            if owner.block_owner_deletion == Some(true) {
                return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
            }
        }
        _ => return Err(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    }
    let refs = all_refs(pod);
    let what = if !refs.service_account.is_empty() {
        "a service account"
    } else if !refs.secrets.is_empty() {
        "secrets"
    } else if !refs.config_maps.is_empty() {
        "configmaps"
    } else if refs.cluster_trust_bundles {
        "clustertrustbundles"
    } else if !refs.claims.is_empty() {
        "persistentvolumeclaims"
    } else if !refs.resource_claims.is_empty() {
        "resourceclaims"
    } else {
        return Ok(());
    };
    Err(format!("node {node:?} can not create pods that reference {what}"))
}

fn pod_status(node: &str, request: &AdmissionRequest<'_>, is_bound: bool) -> Checked {
    if !is_bound {
        return Err(forbid(request, format!("node {node:?} can only update pod status for pods with spec.nodeName set to itself")));
    }
    let (Some(old), Some(new)) = (request.old::<Pod>(), request.get::<Pod>()) else { return Ok(()) };
    if old.metadata.labels != new.metadata.labels {
        return Err(forbid(request, format!("node {node:?} cannot update labels through pod status")));
    }
    let claims = |pod: &Pod| pod.status.as_ref().and_then(|s| s.resource_claim_statuses.clone()).unwrap_or_default();
    if claims(old) != claims(new) {
        return Err(forbid(request, format!("node {node:?} cannot update resource claim statues")));
    }
    Ok(())
}

fn node_object(node: &str, request: &AdmissionRequest<'_>) -> Checked {
    let new = request.get::<Node>();
    let name = if request.name.is_empty() { new.and_then(|n| n.metadata.name.as_deref()).unwrap_or_default() } else { request.name };
    if name != node {
        return Err(forbid(request, format!("node {node:?} is not allowed to modify node {name:?}")));
    }
    let Some(new) = new else { return Ok(()) };
    let labels = |node: &Node| node.metadata.labels.clone().unwrap_or_default();
    match (request.operation, request.old::<Node>()) {
        (Operation::Create, _) => {
            let bad = forbidden_labels(&labels(new), &BTreeMap::new());
            if !bad.is_empty() {
                return Err(forbid(request, format!("node {node:?} is not allowed to set the following labels: {}", bad.join(", "))));
            }
        }
        (Operation::Update, Some(old)) => {
            let taints = |node: &Node| node.spec.as_ref().and_then(|s| s.taints.clone()).unwrap_or_default();
            if taints(new) != taints(old) {
                return Err(forbid(request, format!("node {node:?} is not allowed to modify taints")));
            }
            let bad = forbidden_labels(&labels(new), &labels(old));
            if !bad.is_empty() {
                return Err(forbid(request, format!("is not allowed to modify labels: {}", bad.join(", "))));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Labels that differ and are not a kubelet's to set (staging/src/k8s.io/kubelet/pkg/apis/well_known_labels.go).
fn forbidden_labels(new: &BTreeMap<String, String>, old: &BTreeMap<String, String>) -> Vec<String> {
    let keys: BTreeSet<&String> = new.keys().chain(old.keys()).filter(|key| new.get(*key) != old.get(*key)).collect();
    keys.into_iter().filter(|key| is_forbidden_label(key)).cloned().collect()
}

fn is_forbidden_label(key: &str) -> bool {
    const OWN: &[&str] = &[
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    ];
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let below = |domain: &str| namespace == domain || namespace.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'));
    if below("node-restriction.kubernetes.io") {
        return true;
    }
    let is_ours = below("kubernetes.io") || below("k8s.io");
    is_ours && !OWN.contains(&key) && !below("kubelet.kubernetes.io") && !below("node.kubernetes.io")
}

fn claim_status(node: &str, request: &AdmissionRequest<'_>) -> Checked {
    if request.subresource != "status" {
        return Err(forbid(request, "may only update PVC status"));
    }
    let (Some(old), Some(new)) = (request.old::<PersistentVolumeClaim>(), request.get::<PersistentVolumeClaim>()) else { return Ok(()) };
    let stripped = |claim: &PersistentVolumeClaim| {
        let mut claim = claim.clone();
        claim.metadata.resource_version = None;
        claim.metadata.managed_fields = None;
        if let Some(status) = &mut claim.status {
            status.capacity = None;
            status.conditions = None;
            status.allocated_resources = None;
            status.allocated_resource_statuses = None;
        }
        claim
    };
    if stripped(old) != stripped(new) {
        let cause = format!("node {node:?} is not allowed to update fields other than status.capacity and status.conditions");
        return Err(forbid(request, cause));
    }
    Ok(())
}

fn same_name(node: &str, request: &AdmissionRequest<'_>, cause: &str) -> Checked {
    let name = if request.name.is_empty() {
        request.object.as_deref().and_then(|o| o.meta().name.as_deref()).unwrap_or_default()
    } else {
        request.name
    };
    if name == node { Ok(()) } else { Err(forbid(request, cause)) }
}

fn slice(node: &str, request: &AdmissionRequest<'_>) -> Checked {
    let of = |slice: Option<&ResourceSlice>| slice.is_some_and(|s| s.spec.node_name.as_deref() == Some(node));
    match request.operation {
        Operation::Create if !of(request.get()) => {
            Err(forbid(request, "can only create ResourceSlice with the same NodeName as the requesting node"))
        }
        Operation::Update if !of(request.old()) => {
            Err(forbid(request, "can only update ResourceSlice with the same NodeName as the requesting node"))
        }
        Operation::Delete if !of(request.old()) => {
            Err(forbid(request, "can only delete ResourceSlice with the same NodeName as the requesting node"))
        }
        _ => Ok(()),
    }
}

/// Nodes ask for certificates of their own name only.
fn signing_request(node: &str, request: &AdmissionRequest<'_>) -> Checked {
    let Some(csr) = request.get::<CertificateSigningRequest>().filter(|_| request.operation == Operation::Create) else { return Ok(()) };
    if !matches!(csr.spec.signer_name.as_str(), "kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet") {
        return Ok(());
    }
    let wanted = format!("system:node:{node}");
    match certificates::subject(&csr.spec.request.0) {
        Err(cause) => Err(forbid(request, format!("unable to parse csr: {cause}"))),
        Ok((name, _)) if name == wanted => Ok(()),
        Ok(_) => Err(forbid(request, format!("can only create a node CSR with CN={wanted}"))),
    }
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let Some(node) = node_name(request.user) else { return Ok(()) };
        if request.operation == Operation::Connect {
            return Ok(());
        }
        if node.is_empty() {
            return Err(forbid(request, format!("could not determine node from user {:?}", request.user.name)));
        }
        match (request.info.group, request.info.resource) {
            ("", "pods") => self.pod(node, request),
            ("", "nodes") => node_object(node, request),
            ("", "persistentvolumeclaims") => claim_status(node, request),
            ("", "serviceaccounts") if request.subresource == "token" => self.token(node, request),
            ("coordination.k8s.io", "leases") if request.namespace != "kube-node-lease" => {
                Err(forbid(request, "can only access leases in the \"kube-node-lease\" system namespace"))
            }
            ("coordination.k8s.io", "leases") => {
                same_name(node, request, "can only access node lease with the same name as the requesting node")
            }
            ("storage.k8s.io", "csinodes") => same_name(node, request, "can only access CSINode with the same name as the requesting node"),
            ("resource.k8s.io", "resourceslices") => slice(node, request),
            ("certificates.k8s.io", "certificatesigningrequests") => signing_request(node, request),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_of_kubelets() {
        let check = |key: &str, expected: bool| assert_eq!(is_forbidden_label(key), expected, "{key}");
        check("kubernetes.io/hostname", false);
        check("node.kubernetes.io/gpu", false);
        check("a.kubelet.kubernetes.io/x", false);
        check("acme.com/team", false);
        check("team", false);
        check("node-role.kubernetes.io/control-plane", true);
        check("node-restriction.kubernetes.io/x", true);
        check("fakekubernetes.io/x", false);
        check("k8s.io/x", true);
    }

    #[test]
    fn mirror_pods_refer_to_nothing() {
        let pod = |change: serde_json::Value| -> Pod {
            let mut value = serde_json::json!({
                "metadata": {"name": "p", "annotations": {MIRROR: "x"},
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u", "controller": true}]},
                "spec": {"nodeName": "n1", "containers": []},
            });
            json_patch::merge(&mut value, &change);
            serde_json::from_value(value).unwrap()
        };
        let check = |change: serde_json::Value, expected: &str| {
            assert_eq!(mirror_pod("n1", &pod(change)).err().unwrap_or_default(), expected);
        };
        check(serde_json::json!({}), "");
        check(
            serde_json::json!({"metadata": {"annotations": null}}),
            "pod does not have \"kubernetes.io/config.mirror\" annotation, node \"n1\" can only create mirror pods",
        );
        check(serde_json::json!({"spec": {"nodeName": "n2"}}), "node \"n1\" can only create pods with spec.nodeName set to itself");
        check(
            serde_json::json!({"metadata": {"ownerReferences": []}}),
            "node \"n1\" can only create pods with an owner reference set to itself",
        );
        check(
            serde_json::json!({"spec": {"volumes": [{"name": "a", "secret": {"secretName": "s"}}]}}),
            "node \"n1\" can not create pods that reference secrets",
        );
    }
}
