//! Objects that the server itself keeps: system namespaces, the `kubernetes` Service with its endpoints.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Duration;

use api::core::v1::{Endpoints, Namespace, Service};
use api::discovery::v1::EndpointSlice;
use api::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::options::Options;

const SYSTEM_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];
/// Upstream: EndpointInterval in controlplane/instance.go.
const KEEP_EVERY: Duration = Duration::from_secs(10);

/// Creates those that are missing.
pub async fn system_namespaces(client: &Client) -> Result<(), kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in SYSTEM_NAMESPACES {
        if namespaces.get_opt(name).await?.is_some() {
            continue;
        }
        let namespace = Namespace { metadata: ObjectMeta { name: Some((*name).into()), ..ObjectMeta::default() }, ..Namespace::default() };
        created(namespaces.create(&PostParams::default(), &namespace).await)?;
    }
    Ok(())
}

fn created<K>(done: Result<K, kube::Error>) -> Result<(), kube::Error> {
    match done {
        Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => Ok(()),
        done => done.map(drop),
    }
}

/// Where the members of the cluster reach this server.
pub fn advertised(options: &Options) -> Option<IpAddr> {
    let given = options.advertise_address.or(Some(options.bind_address).filter(|a| !a.is_unspecified()));
    let found = given.or_else(|| {
        // The address of the default route: connecting a datagram socket sends nothing.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    });
    // No pod reaches a loopback address, and Endpoints may not name one.
    found.filter(|address| !address.is_loopback())
}

/// Keeps `kubernetes` in `default`, its Endpoints and EndpointSlice as they should be (controlplane/controller/kubernetesservice).
pub async fn keep_kubernetes_service(client: Client, options: Options, port: u16) {
    loop {
        if let Err(error) = reconcile(&client, &options, port).await {
            tracing::warn!(%error, "the kubernetes service cannot be brought up to date");
        }
        tokio::time::sleep(KEEP_EVERY).await;
    }
}

pub async fn reconcile(client: &Client, options: &Options, port: u16) -> Result<(), kube::Error> {
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    if services.get_opt("kubernetes").await?.is_none() {
        created(services.create(&PostParams::default(), &parse(service(options, port))).await)?;
    }
    let Some(address) = advertised(options) else {
        tracing::warn!("there is no address that pods could reach: the kubernetes service has no endpoints. Set --advertise-address");
        return Ok(());
    };
    keep::<Endpoints>(client, &["subsets"], endpoints(address, port)).await?;
    keep::<EndpointSlice>(client, &["addressType", "endpoints", "ports"], slice(address, port)).await
}

/// Creates the object, or sets these fields where they differ.
async fn keep<K>(client: &Client, fields: &[&str], wanted: Value) -> Result<(), kube::Error>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), "default");
    let Some(found) = api.get_opt("kubernetes").await? else {
        return created(api.create(&PostParams::default(), &parse::<K>(wanted)).await);
    };
    let mut value = serde_json::to_value(&found).map_err(kube::Error::SerdeError)?;
    // Compared as the types print them: what is absent and what is empty are the same.
    let plain = serde_json::to_value(parse::<K>(wanted)).map_err(kube::Error::SerdeError)?;
    if fields.iter().all(|field| value.get(field) == plain.get(field)) {
        return Ok(());
    }
    for field in fields {
        value[*field] = plain.get(field).cloned().unwrap_or(Value::Null);
    }
    api.replace("kubernetes", &PostParams::default(), &parse::<K>(value)).await.map(drop)
}

fn parse<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("the values of this module fit their types")
}

fn service(options: &Options, port: u16) -> Value {
    let range = options.service_cluster_ip_range.split(',').next().unwrap_or_default();
    let first = range.parse::<ipnet::Ipv4Net>().ok().and_then(|range| range.hosts().next()).map(|ip| ip.to_string());
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "clusterIP": first, "type": "ClusterIP", "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
        },
    })
}

fn endpoints(address: IpAddr, port: u16) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address}], "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    })
}

fn slice(address: IpAddr, port: u16) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    })
}
