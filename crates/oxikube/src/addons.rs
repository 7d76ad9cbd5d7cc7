//! Objects that every cluster of `oxikube up` has beside those that components make: the admins' rights, cluster DNS with its
//! Service and its rights, the rights of the pod network's agent.

use std::net::IpAddr;

use anyhow::{Context, Result};
use client::Client;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;

/// Where cluster DNS is and where clients look for it.
pub struct Dns {
    pub service_ip: IpAddr,
    pub node_address: IpAddr,
    pub port: u16,
}

/// Applies the objects with the field manager `oxikube`.
pub async fn ensure(client: &Client, dns: &Dns) -> Result<()> {
    let family = if dns.node_address.is_ipv6() { "IPv6" } else { "IPv4" };
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": { "name": "kube-dns", "namespace": "kube-system",
            "labels": { "k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS" } },
        // No selector: DNS runs in a process of the node, not in a pod.
        "spec": { "clusterIP": dns.service_ip, "ports": [
            { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": dns.port },
            { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": dns.port },
        ] },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": { "name": "kube-dns-oxikube", "namespace": "kube-system",
            "labels": { "kubernetes.io/service-name": "kube-dns", "endpointslice.kubernetes.io/managed-by": "oxikube" } },
        "addressType": family,
        "endpoints": [{ "addresses": [dns.node_address], "conditions": { "ready": true, "serving": true, "terminating": false } }],
        "ports": [
            { "name": "dns", "port": dns.port, "protocol": "UDP" },
            { "name": "dns-tcp", "port": dns.port, "protocol": "TCP" },
        ],
    });
    // What kubeadm makes for the group in admin.conf (cmd/kubeadm/app/phases/kubeconfig/kubeconfig.go).
    let admins = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "kubeadm:cluster-admins" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "kubeadm:cluster-admins" }],
    });
    // What CoreDNS has (cluster/addons/dns/coredns).
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "system:coredns", "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" } },
        "rules": [
            { "apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": ["list", "watch"] },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"] },
        ],
    });
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "coredns", "namespace": "kube-system" } });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "system:coredns", "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" } },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns" },
        "subjects": [{ "kind": "ServiceAccount", "name": "coredns", "namespace": "kube-system" }],
    });
    // The pod network's agent looks at nodes: their addresses and their parts of the pod network.
    let network_role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "oxikube:network" },
        "rules": [{ "apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"] }],
    });
    let network_account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "oxikube-network", "namespace": "kube-system" } });
    let network_binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "oxikube:network" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "oxikube:network" },
        "subjects": [{ "kind": "ServiceAccount", "name": "oxikube-network", "namespace": "kube-system" }],
    });
    for object in [admins, account, role, binding, network_account, network_role, network_binding, service, slice] {
        apply(client, object).await?;
    }
    Ok(())
}

async fn apply(client: &Client, object: serde_json::Value) -> Result<()> {
    let text = |path: &str| object.pointer(path).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api: Api<DynamicObject> = if namespace.is_empty() {
        Api::all_with(client.clone(), &resource)
    } else {
        Api::namespaced_with(client.clone(), &namespace, &resource)
    };
    api.patch(&name, &PatchParams::apply("oxikube").force(), &Patch::Apply(&object))
        .await
        .with_context(|| format!("applying {kind} {namespace}/{name}"))?;
    Ok(())
}
