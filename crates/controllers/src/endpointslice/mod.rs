//! Keeps the EndpointSlices of Services with selectors.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use api::core::v1::{Node, Pod, Service};
use api::discovery::v1::EndpointSlice;
use client::{Api, Client, EventType, Informer, ObjectKey, Recorder, WorkQueue};
use kube::api::{DeleteParams, PostParams};

use self::plan::{MANAGED_BY, MANAGER, SERVICE_NAME, Snapshot};
use crate::common::{pods, services};
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};
use crate::written::{LOOK_AGAIN, Written};

const SERVICE_ACCOUNT: &str = "endpointslice-controller";
const BY_SERVICE: &str = "service";

pub struct EndpointSliceController {
    services: Informer<Service>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    client: Client,
    recorder: Recorder,
    written: Written,
    max_per_slice: usize,
}

impl EndpointSliceController {
    pub fn new(context: &Context, max_per_slice: usize) -> Self {
        let slices = context.informer::<EndpointSlice>();
        slices.index(BY_SERVICE, |slice| service_of(slice).map(|key| key.to_string()).into_iter().collect());
        Self {
            services: context.informer(),
            pods: context.informer(),
            nodes: context.informer(),
            slices,
            client: context.client(SERVICE_ACCOUNT),
            recorder: context.recorder(SERVICE_ACCOUNT),
            written: Written::default(),
            max_per_slice,
        }
    }

    fn snapshot(&self, key: &ObjectKey, service: Arc<Service>) -> Option<Snapshot> {
        let selector = services::selector(&service)?;
        let pods: Vec<_> =
            self.pods.list_in(&key.namespace).into_iter().filter(|pod| selector.matches_opt(pod.metadata.labels.as_ref())).collect();
        let names = pods.iter().filter_map(|pod| pods::node_name(pod));
        let nodes: HashMap<String, Arc<Node>> = names.filter_map(|name| Some((name.to_owned(), self.nodes.get(None, name)?))).collect();
        let slices = self.slices.by_index(BY_SERVICE, &key.to_string());
        Some(Snapshot { service, pods, nodes, slices, max_per_slice: self.max_per_slice })
    }

    async fn apply(&self, key: &ObjectKey, plan: plan::Plan) -> Result<()> {
        let api = Api::<EndpointSlice>::namespaced(self.client.clone(), &key.namespace);
        for slice in &plan.create {
            match api.create(&PostParams::default(), slice).await.map_err(Error::from) {
                Ok(slice) => self.written.changed(key, &slice),
                Err(error) if error.is_namespace_terminating() => return Ok(()),
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
        Ok(())
    }
}

/// The Service of a slice that this controller manages.
fn service_of(slice: &EndpointSlice) -> Option<ObjectKey> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(MANAGED_BY).is_some_and(|manager| manager == MANAGER);
    let name = labels.get(SERVICE_NAME).filter(|_| ours)?;
    Some(ObjectKey::new(slice.metadata.namespace.as_deref().unwrap_or_default(), name.as_str()))
}

/// Puts the Services that select a changed pod on the queue.
pub fn watch_pods(pods: &Informer<Pod>, services: &Informer<Service>, queue: &WorkQueue<ObjectKey>) {
    let (services, queue) = (services.clone(), queue.clone());
    pods.on_change(move |delta| {
        if let (Some(old), Some(new)) = (delta.old(), delta.current())
            && !matters(old, new)
        {
            return;
        }
        let states: Vec<_> = [delta.old(), delta.current()].into_iter().flatten().collect();
        let namespace = delta.object().metadata.namespace.as_deref().unwrap_or_default();
        for service in services.list_in(namespace) {
            let Some(selector) = services::selector(&service) else { continue };
            if states.iter().any(|pod| selector.matches_opt(pod.metadata.labels.as_ref())) {
                queue.add(client::key_of(&*service));
            }
        }
    });
}

/// Whether endpoints can differ between two states of a pod.
fn matters(old: &Pod, new: &Pod) -> bool {
    let facts = |pod: &Pod| {
        let status = pod.status.as_ref();
        (
            (pods::is_ready(pod), pods::is_terminating(pod), pods::is_finished(pod)),
            status.and_then(|status| status.pod_ip.clone()),
            status.and_then(|status| status.pod_ips.clone()),
            pods::node_name(pod).map(str::to_owned),
            pod.metadata.labels.clone(),
        )
    };
    facts(old) != facts(new)
}

impl Controller for EndpointSliceController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpointslice-controller"
    }

    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let services = queue.clone();
        self.services.on_change(move |delta| services.add(client::key_of(&**delta.object())));
        let slices = queue.clone();
        self.slices.on_change(move |delta| {
            [delta.old(), delta.current()].into_iter().flatten().filter_map(|slice| service_of(slice)).for_each(|key| slices.add(key))
        });
        watch_pods(&self.pods, &self.services, queue);
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.pods.synced().await;
        self.nodes.synced().await;
        self.slices.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(service) = self.services.get_key(key).filter(|service| service.metadata.deletion_timestamp.is_none()) else {
            // The garbage collector deletes the slices: the Service owns them.
            self.written.forget(key);
            return Ok(Next::Done);
        };
        if !self.written.seen(key, &self.slices) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let Some(snapshot) = self.snapshot(key, service.clone()) else { return Ok(Next::Done) };
        if let Err(error) = self.apply(key, plan::plan(&snapshot)).await {
            if !error.is_conflict() {
                let note = format!("Error updating Endpoint Slices for Service {key}: {error}");
                self.recorder.event(&client::object_ref(&*service), EventType::Warning, "FailedToUpdateEndpointSlices", "", note);
            }
            return Err(error);
        }
        Ok(Next::Done)
    }
}
