//! Mirrors Endpoints that people wrote for Services without selectors into EndpointSlices (pkg/controller/endpointslicemirroring).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use api::meta::v1::ObjectMeta;
use client::{Api, Client, Informer, ObjectKey, WorkQueue};
use kube::api::{DeleteParams, PostParams};

use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};
use crate::written::{LOOK_AGAIN, Written};

const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const BY_SERVICE: &str = "mirrored service";
/// Addresses mirrored of one subset.
const MAX_PER_SUBSET: usize = 1000;

pub struct EndpointSliceMirroring {
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    client: Client,
    written: Written,
    max_per_slice: usize,
}

#[derive(Debug, Default)]
struct Plan {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<Arc<EndpointSlice>>,
}

/// Whether these Endpoints are to be mirrored.
fn is_mirrored(service: Option<&Service>, endpoints: &Endpoints) -> bool {
    let labelled = |key: &str| endpoints.metadata.labels.as_ref().and_then(|labels| labels.get(key)).map(String::as_str);
    let leader = endpoints.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(LEADER));
    let by_hand = service.and_then(|service| service.spec.as_ref()).is_some_and(|spec| spec.selector.is_none());
    by_hand && labelled(SKIP) != Some("true") && !leader
}

/// Slices are compared by content: one that is there already stays, the others are rewritten.
fn plan(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>], max: usize) -> Plan {
    let wanted = endpoints.subsets.iter().flatten().flat_map(|subset| slices(endpoints, subset, max));
    let mut left: Vec<&Arc<EndpointSlice>> = existing.iter().collect();
    left.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    let mut missing = Vec::new();
    for slice in wanted {
        let same = |known: &&Arc<EndpointSlice>| {
            known.address_type == slice.address_type
                && known.ports == slice.ports
                && known.endpoints == slice.endpoints
                && known.metadata.labels == slice.metadata.labels
        };
        match left.iter().position(same) {
            Some(index) => {
                left.remove(index);
            }
            None => missing.push(slice),
        }
    }
    let mut plan = Plan::default();
    for slice in missing {
        match left.iter().position(|known| known.address_type == slice.address_type) {
            Some(index) => {
                let known = left.remove(index);
                let mut metadata = known.metadata.clone();
                metadata.labels = slice.metadata.labels.clone();
                plan.update.push(EndpointSlice { metadata, ..slice });
            }
            None => plan.create.push(slice),
        }
    }
    plan.delete.extend(left.into_iter().cloned());
    plan
}

fn slices(endpoints: &Endpoints, subset: &EndpointSubset, max: usize) -> Vec<EndpointSlice> {
    let ports: Vec<EndpointPort> = subset
        .ports
        .iter()
        .flatten()
        .map(|port| EndpointPort {
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".into())),
            app_protocol: port.app_protocol.clone(),
        })
        .collect();
    let mut families: BTreeMap<&str, Vec<Endpoint>> = BTreeMap::new();
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
    for (address, ready) in ready.chain(unready).take(MAX_PER_SUBSET) {
        // What is not an address cannot be in a slice; validation of Endpoints refuses it.
        let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
        families.entry(if ip.is_ipv6() { "IPv6" } else { "IPv4" }).or_default().push(endpoint(address, ready));
    }
    let mut slices = Vec::new();
    for (family, all) in families {
        slices.extend(all.chunks(max.max(1)).map(|chunk| EndpointSlice {
            metadata: metadata(endpoints),
            address_type: family.into(),
            endpoints: Some(chunk.to_vec()),
            ports: Some(ports.clone()),
        }));
    }
    slices
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: None, terminating: None }),
        hostname: address.hostname.clone(),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    labels.insert(SERVICE_NAME.into(), name.clone());
    ObjectMeta {
        generate_name: Some(format!("{name}-")),
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        owner_references: Some(vec![client::owner_reference(endpoints)]),
        ..ObjectMeta::default()
    }
}

/// The Service of a slice that this controller manages.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    let name = labels.get(SERVICE_NAME).filter(|_| ours)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name.as_str()))
}

impl EndpointSliceMirroring {
    pub fn new(context: &Context, max_per_slice: usize) -> Self {
        let slices = context.informer::<EndpointSlice>();
        slices.index(BY_SERVICE, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
        Self {
            services: context.informer(),
            endpoints: context.informer(),
            slices,
            client: context.client("endpointslicemirroring-controller"),
            written: Written::default(),
            max_per_slice,
        }
    }
}

impl Controller for EndpointSliceMirroring {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpointslice-mirroring-controller"
    }

    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let (services, endpoints, slices) = (queue.clone(), queue.clone(), queue.clone());
        self.services.on_change(move |delta| services.add(client::key_of(&**delta.object())));
        self.endpoints.on_change(move |delta| endpoints.add(client::key_of(&**delta.object())));
        self.slices.on_change(move |delta| {
            [delta.old(), delta.current()].into_iter().flatten().filter_map(|slice| service_of(slice)).for_each(|key| slices.add(key));
        });
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.endpoints.synced().await;
        self.slices.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        if !self.written.seen(key, &self.slices) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let existing = self.slices.by_index(BY_SERVICE, &key.to_string());
        let service = self.services.get_key(key);
        let plan = match self.endpoints.get_key(key).filter(|endpoints| is_mirrored(service.as_deref(), endpoints)) {
            Some(endpoints) => plan(&endpoints, &existing, self.max_per_slice),
            None => Plan { delete: existing, ..Plan::default() },
        };
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.namespace);
        for slice in &plan.create {
            match api.create(&PostParams::default(), slice).await.map_err(Error::from) {
                Ok(slice) => self.written.changed(key, &slice),
                Err(error) if error.is_namespace_terminating() => return Ok(Next::Done),
                Err(error) => return Err(error),
            }
        }
        for slice in &plan.update {
            let slice = api.replace(slice.metadata.name.as_deref().unwrap_or_default(), &PostParams::default(), slice).await?;
            self.written.changed(key, &slice);
        }
        for slice in &plan.delete {
            match api.delete(slice.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await.map_err(Error::from) {
                Ok(_) => self.written.deleted(key, &**slice),
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn endpoints(subsets: Value) -> Endpoints {
        serde_json::from_value(json!({"metadata": {"name": "db", "namespace": "ns", "uid": "e"}, "subsets": subsets})).expect("endpoints")
    }

    #[test]
    fn mirrors_addresses_by_family() {
        let one = endpoints(
            json!([{"addresses": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}], "notReadyAddresses": [{"ip": "10.0.0.2"}], "ports": [{"port": 80}]}]),
        );
        let first = plan(&one, &[], 100);
        let text: Vec<_> =
            first.create.iter().map(|slice| format!("{} {}", slice.address_type, slice.endpoints.iter().flatten().count())).collect();
        assert_eq!(text, ["IPv4 2", "IPv6 1"]);
        let existing: Vec<_> = first.create.into_iter().map(Arc::new).collect();
        let again = plan(&one, &existing, 100);
        assert_eq!((again.create.len(), again.update.len(), again.delete.len()), (0, 0, 0));
        let other = plan(&endpoints(json!([{"addresses": [{"ip": "10.0.0.9"}], "ports": [{"port": 80}]}])), &existing, 100);
        assert_eq!((other.create.len(), other.update.len(), other.delete.len()), (0, 1, 1));
    }

    #[test]
    fn only_services_without_selectors() {
        let service = |spec: Value| -> Service { serde_json::from_value(json!({"spec": spec})).expect("a service") };
        let object = endpoints(json!([]));
        assert!(is_mirrored(Some(&service(json!({}))), &object));
        assert!(!is_mirrored(Some(&service(json!({"selector": {"app": "web"}}))), &object));
        assert!(!is_mirrored(None, &object));
        let mut skipped = object.clone();
        skipped.metadata.labels = Some(BTreeMap::from([(SKIP.to_owned(), "true".to_owned())]));
        assert!(!is_mirrored(Some(&service(json!({}))), &skipped));
    }
}
