//! Empties namespaces that are being deleted and lets them go (pkg/controller/namespace/deletion).

mod plan;

use std::time::Duration;

use api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus, Pod};
use client::{Api, Client, Informer, ResourceExt, WorkQueue};
use kube::api::{DeleteParams, ListParams, PostParams};

use self::plan::Round;
use crate::common::discovery::{self, Resource};
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result, text};

const FINALIZER: &str = "kubernetes";

pub struct NamespaceController {
    namespaces: Informer<Namespace>,
    client: Client,
}

impl NamespaceController {
    pub fn new(context: &Context) -> Self {
        Self { namespaces: context.informer(), client: context.client("namespace-controller") }
    }

    async fn round(&self, namespace: &str) -> Result<Round> {
        let mut round = Round::default();
        let resources = match discovery::resources(&self.client).await {
            Ok(resources) => resources,
            Err(error) => {
                round.discovery_errors.push(text(&error));
                return Ok(round);
            }
        };
        let mut wanted: Vec<&Resource> =
            resources.iter().filter(|resource| resource.namespaced && resource.can("delete") && resource.can("list")).collect();
        // Pods first, so that nothing they use is taken from under them (KEP-5080).
        wanted.sort_by_key(|resource| !(resource.api.group.is_empty() && resource.api.plural == "pods"));
        for resource in wanted {
            let is_pods = resource.api.group.is_empty() && resource.api.plural == "pods";
            if let Err(error) = self.delete_all(resource, namespace, &mut round).await {
                round.delete_errors.push(format!("{}: {}", resource.title(), text(&error)));
            }
            if is_pods && (!round.remaining.is_empty() || !round.delete_errors.is_empty()) {
                break;
            }
        }
        Ok(round)
    }

    async fn delete_all(&self, resource: &Resource, namespace: &str, round: &mut Round) -> Result<(), kube::Error> {
        let api = resource.in_namespace(&self.client, namespace);
        let listed = api.list(&ListParams::default()).await?.items;
        if listed.is_empty() {
            return Ok(());
        }
        let background = DeleteParams::background();
        if resource.can("deletecollection") {
            api.delete_collection(&background, &ListParams::default()).await?;
        } else {
            for object in listed.iter().filter(|object| object.metadata.deletion_timestamp.is_none()) {
                match api.delete(&object.name_any(), &background).await {
                    Err(kube::Error::Api(status)) if status.is_not_found() => {}
                    Err(error) => return Err(error),
                    Ok(_) => {}
                }
            }
        }
        let left = api.list(&ListParams::default()).await?.items;
        if left.is_empty() {
            return Ok(());
        }
        let name = format!("{}.{}", resource.api.plural, resource.api.group);
        round.remaining.insert(name, left.len());
        for finalizer in left.iter().flat_map(|object| object.metadata.finalizers.iter().flatten()) {
            *round.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        if resource.api.plural == "pods" {
            let pods = Api::<Pod>::namespaced(self.client.clone(), namespace).list(&ListParams::default()).await?;
            let grace = pods.items.iter().filter_map(|pod| pod.spec.as_ref()?.termination_grace_period_seconds);
            round.grace_seconds = grace.max().unwrap_or(0);
        }
        Ok(())
    }

    /// Writes phase and conditions if they changed, and returns the namespace as it is then.
    async fn write_status(&self, namespace: Namespace, conditions: Option<Vec<NamespaceCondition>>) -> Result<Namespace> {
        let status = namespace.status.clone().unwrap_or_default();
        if conditions.is_none() && status.phase.as_deref() == Some("Terminating") {
            return Ok(namespace);
        }
        let status = NamespaceStatus { phase: Some("Terminating".into()), conditions: conditions.or(status.conditions) };
        let new = Namespace { status: Some(status), ..namespace };
        let api = Api::<Namespace>::all(self.client.clone());
        Ok(api.replace_status(&new.name_any(), &PostParams::default(), &new).await?)
    }

    /// Takes this controller's finalizer from the specification, which ends the namespace.
    async fn finalize(&self, name: &str) -> Result<()> {
        let api = Api::<Namespace>::all(self.client.clone());
        let mut namespace = api.get(name).await?;
        let finalizers = namespace.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            return Ok(());
        }
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        api.replace_subresource::<Namespace>("finalize", name, &Default::default(), &namespace).await?;
        Ok(())
    }
}

impl Controller for NamespaceController {
    type Key = String;

    fn name(&self) -> &'static str {
        "namespace-controller"
    }

    fn watch(&self, queue: &WorkQueue<String>) {
        let queue = queue.clone();
        self.namespaces.on_change(move |delta| {
            if delta.current().is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_some()) {
                queue.add(delta.object().name_any());
            }
        });
    }

    async fn synced(&self) {
        self.namespaces.synced().await;
    }

    async fn reconcile(&self, key: &String) -> Result<Next> {
        let Some(namespace) = self.namespaces.get(None, key).filter(|namespace| namespace.metadata.deletion_timestamp.is_some()) else {
            return Ok(Next::Done);
        };
        let waiting = |namespace: &Namespace| {
            namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten()).any(|finalizer| finalizer == FINALIZER)
        };
        if !waiting(&namespace) {
            return Ok(Next::Done);
        }
        let work = async {
            let namespace = self.write_status(Namespace::clone(&namespace), None).await?;
            let round = self.round(key).await?;
            if round.is_empty() {
                self.finalize(key).await?;
                return Ok(Next::Done);
            }
            let conditions = plan::conditions(&namespace, &round, base::clock::now());
            self.write_status(namespace, conditions).await?;
            if let Some(cause) = round.discovery_errors.first().or(round.delete_errors.first()) {
                return Err(Error::Retry(cause.clone()));
            }
            // Half of the longest grace period, as upstream; things without one usually go within a second.
            let seconds = u64::try_from(round.grace_seconds / 2 + 1).unwrap_or(1);
            Ok(Next::After(Duration::from_secs(seconds.min(5))))
        };
        match work.await {
            Err(error) if error.is_not_found() => Ok(Next::Done),
            other => other,
        }
    }
}
