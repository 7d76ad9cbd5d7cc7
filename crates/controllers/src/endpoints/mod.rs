//! Keeps the Endpoints of Services with selectors, for clients that do not know EndpointSlices.

mod plan;

use api::core::v1::{Endpoints, Pod, Service};
use client::{Api, Client, Delta, EventType, Informer, ObjectKey, Recorder, WorkQueue};
use kube::api::{DeleteParams, PostParams};

use crate::common::services;
use crate::context::Context;
use crate::endpointslice::watch_pods;
use crate::frame::{Controller, Error, Next, Result};

const SERVICE_ACCOUNT: &str = "endpoint-controller";

pub struct EndpointsController {
    services: Informer<Service>,
    pods: Informer<Pod>,
    endpoints: Informer<Endpoints>,
    client: Client,
    recorder: Recorder,
}

impl EndpointsController {
    pub fn new(context: &Context) -> Self {
        Self {
            services: context.informer(),
            pods: context.informer(),
            endpoints: context.informer(),
            client: context.client(SERVICE_ACCOUNT),
            recorder: context.recorder(SERVICE_ACCOUNT),
        }
    }
}

impl Controller for EndpointsController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "endpoints-controller"
    }

    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let services = queue.clone();
        self.services.on_change(move |delta| services.add(client::key_of(&**delta.object())));
        let endpoints = queue.clone();
        self.endpoints.on_change(move |delta| {
            if let Delta::Deleted(endpoints_object) = delta {
                endpoints.add(client::key_of(&**endpoints_object));
            }
        });
        watch_pods(&self.pods, &self.services, queue);
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.pods.synced().await;
        self.endpoints.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let api = Api::<Endpoints>::namespaced(self.client.clone(), &key.namespace);
        let current = self.endpoints.get_key(key);
        let Some(service) = self.services.get_key(key) else {
            // Only what belonged to a Service: others, such as leader election records, are not ours.
            let ours =
                current.is_some_and(|current| current.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(plan::MANAGED_BY)));
            if !ours {
                return Ok(Next::Done);
            }
            return match api.delete(&key.name, &DeleteParams::default()).await.map_err(Error::from) {
                Err(error) if !error.is_not_found() => Err(error),
                _ => Ok(Next::Done),
            };
        };
        let Some(selector) = services::selector(&service) else { return Ok(Next::Done) };
        let pods: Vec<_> =
            self.pods.list_in(&key.namespace).into_iter().filter(|pod| selector.matches_opt(pod.metadata.labels.as_ref())).collect();
        let Some(new) = plan::plan(&service, &pods, current.as_deref()) else { return Ok(Next::Done) };
        let written = match current {
            None => api.create(&PostParams::default(), &new).await,
            Some(_) => api.replace(&key.name, &PostParams::default(), &new).await,
        };
        match written.map_err(Error::from) {
            Ok(_) => Ok(Next::Done),
            Err(error) if error.is_namespace_terminating() => Ok(Next::Done),
            Err(error) => {
                if !error.is_conflict() && !error.is_already_exists() {
                    let note = format!("Failed to update endpoint {key}: {error}");
                    self.recorder.event(&client::object_ref(&*service), EventType::Warning, "FailedToUpdateEndpoint", "", note);
                }
                Err(error)
            }
        }
    }
}
