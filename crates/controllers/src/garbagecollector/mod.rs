//! Deletes what lost its owners, holds foreground deletions until the dependents are gone, sets orphans free (pkg/controller/garbagecollector).

mod graph;
mod monitors;

use std::fmt;
use std::sync::Arc;

use api::meta::v1::{ObjectMeta, OwnerReference};
use base::Tasks;
use client::{Api, Client, WorkQueue};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde_json::json;

use self::graph::{FOREGROUND, Kind, Look, Node, ORPHAN, Uid};
use self::monitors::Monitors;
use crate::common::discovery::Metadata;
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

pub struct GarbageCollector {
    monitors: Arc<Monitors>,
    client: Client,
    tasks: Tasks,
}

/// What the owners of an object are.
#[derive(Default)]
struct Owners {
    /// There and staying.
    solid: Vec<OwnerReference>,
    /// Gone.
    dangling: Vec<OwnerReference>,
    /// Waiting for this object to go.
    waiting: Vec<OwnerReference>,
}

impl GarbageCollector {
    pub fn new(context: &Context) -> Self {
        let client = context.client("generic-garbage-collector");
        Self { monitors: Arc::new(Monitors::new(client.clone())), client, tasks: context.tasks.clone() }
    }

    /// The collection of an object; cluster-scoped kinds ignore the namespace.
    fn api(&self, kind: &Kind, namespace: &str) -> Result<(Api<Metadata>, bool)> {
        let resource = self
            .monitors
            .resource(kind)
            .ok_or_else(|| Error::Retry(format!("no resource is known for {} {}", kind.api_version, kind.kind)))?;
        Ok((resource.in_namespace(&self.client, namespace), resource.namespaced))
    }

    /// The object as it is now, if it still is the one with this uid.
    async fn latest(&self, uid: Uid, kind: &Kind, namespace: &str, name: &str) -> Result<Option<ObjectMeta>> {
        let (api, namespaced) = self.api(kind, namespace)?;
        if namespaced && namespace.is_empty() {
            return Ok(None);
        }
        let found = api.get_opt(name).await?.map(|object| object.metadata);
        Ok(found.filter(|meta| meta.uid.as_deref().map(Uid::of) == Some(uid)))
    }

    async fn delete(&self, uid: Uid, queue: &WorkQueue<Look>) -> Result<()> {
        let Some(node) = self.monitors.node(uid) else { return Ok(()) };
        // Going already, or there and owned by nobody.
        if (node.being_deleted || (node.owners.is_empty() && !node.is_virtual)) && !node.waits_for_dependents {
            return Ok(());
        }
        let Some(latest) = self.latest(uid, &node.kind, &node.namespace, &node.name).await? else {
            // The watch may be late, or the node was only a reference: either way it is gone.
            self.monitors.gone(&node.kind, uid).into_iter().for_each(|look| queue.add(look));
            return Ok(());
        };
        if node.waits_for_dependents {
            return self.finish_foreground(uid, &node, &latest, queue).await;
        }
        let references = latest.owner_references.clone().unwrap_or_default();
        if references.is_empty() {
            return Ok(());
        }
        let owners = self.classify(&references, &node.namespace).await?;
        if !owners.solid.is_empty() {
            let lost: Vec<OwnerReference> = owners.dangling.into_iter().chain(owners.waiting).collect();
            return if lost.is_empty() { Ok(()) } else { self.drop_owners(&node, &latest, &lost).await };
        }
        let policy = if !owners.waiting.is_empty() && !node.dependents.is_empty() {
            self.break_cycles(&node, &latest).await?;
            PropagationPolicy::Foreground
        } else if has(&latest, ORPHAN) {
            PropagationPolicy::Orphan
        } else if has(&latest, FOREGROUND) {
            PropagationPolicy::Foreground
        } else {
            PropagationPolicy::Background
        };
        let only_this = Preconditions { uid: latest.uid.clone(), resource_version: latest.resource_version.clone() };
        let params = DeleteParams { propagation_policy: Some(policy), preconditions: Some(only_this), ..DeleteParams::default() };
        tracing::debug!(kind = node.kind.kind, namespace = %node.namespace, name = %node.name, "deleting an object whose owners are gone");
        match self.api(&node.kind, &node.namespace)?.0.delete(&node.name, &params).await.map_err(Error::from) {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn classify(&self, references: &[OwnerReference], namespace: &str) -> Result<Owners> {
        let mut owners = Owners::default();
        for reference in references {
            let kind = Kind { api_version: reference.api_version.clone(), kind: reference.kind.clone() };
            if namespace.is_empty() && self.api(&kind, namespace)?.1 {
                // The reference cannot be followed: a cluster-scoped object has no namespace to look in. Deleting would be a guess.
                tracing::warn!(owner = reference.name, kind = reference.kind, "a cluster-scoped object names a namespaced owner");
                owners.solid.push(reference.clone());
                continue;
            }
            match self.latest(Uid::of(&reference.uid), &kind, namespace, &reference.name).await? {
                None => owners.dangling.push(reference.clone()),
                Some(owner) if owner.deletion_timestamp.is_some() && has(&owner, FOREGROUND) => owners.waiting.push(reference.clone()),
                Some(_) => owners.solid.push(reference.clone()),
            }
        }
        Ok(owners)
    }

    /// A foreground deletion ends when nothing blocks it any more.
    async fn finish_foreground(&self, uid: Uid, node: &Node, latest: &ObjectMeta, queue: &WorkQueue<Look>) -> Result<()> {
        let blockers = self.monitors.blockers(uid);
        if blockers.is_empty() {
            return self.remove_finalizer(node, latest, FOREGROUND).await;
        }
        blockers.into_iter().filter(|(_, waits)| !waits).for_each(|(dependent, _)| queue.add(Look::Delete(dependent)));
        Ok(())
    }

    /// When a dependent waits for its own dependents too, the two might wait for each other.
    async fn break_cycles(&self, node: &Node, latest: &ObjectMeta) -> Result<()> {
        let waits = |uid: &Uid| self.monitors.node(*uid).is_some_and(|dependent| dependent.waits_for_dependents);
        if !node.dependents.iter().any(waits) {
            return Ok(());
        }
        let mut references = latest.owner_references.clone().unwrap_or_default();
        references.iter_mut().for_each(|reference| reference.block_owner_deletion = Some(false));
        self.patch(
            node,
            json!({"metadata": {"uid": latest.uid, "resourceVersion": latest.resource_version, "ownerReferences": references}}),
        )
        .await
    }

    async fn drop_owners(&self, node: &Node, latest: &ObjectMeta, lost: &[OwnerReference]) -> Result<()> {
        let keep = |reference: &&OwnerReference| !lost.iter().any(|gone| gone.uid == reference.uid);
        let references: Vec<&OwnerReference> = latest.owner_references.iter().flatten().filter(keep).collect();
        self.patch(
            node,
            json!({"metadata": {"uid": latest.uid, "resourceVersion": latest.resource_version, "ownerReferences": references}}),
        )
        .await
    }

    async fn remove_finalizer(&self, node: &Node, latest: &ObjectMeta, finalizer: &str) -> Result<()> {
        let left: Vec<&String> = latest.finalizers.iter().flatten().filter(|known| *known != finalizer).collect();
        if left.len() == latest.finalizers.as_ref().map_or(0, Vec::len) {
            return Ok(());
        }
        self.patch(node, json!({"metadata": {"uid": latest.uid, "resourceVersion": latest.resource_version, "finalizers": left}})).await
    }

    /// A merge patch, because custom resources know no other.
    async fn patch(&self, node: &Node, patch: serde_json::Value) -> Result<()> {
        match self
            .api(&node.kind, &node.namespace)?
            .0
            .patch(&node.name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::from)
        {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }

    async fn orphan(&self, uid: Uid) -> Result<()> {
        let Some(node) = self.monitors.node(uid) else { return Ok(()) };
        let Some(latest) = self.latest(uid, &node.kind, &node.namespace, &node.name).await? else { return Ok(()) };
        tracing::debug!(kind = node.kind.kind, namespace = %node.namespace, name = %node.name, dependents = node.dependents.len(), "setting orphans free");
        for dependent in &node.dependents {
            let Some(child) = self.monitors.node(*dependent) else { continue };
            let Some(meta) = self.latest(*dependent, &child.kind, &child.namespace, &child.name).await? else { continue };
            let lost: Vec<OwnerReference> =
                meta.owner_references.iter().flatten().filter(|owner| Uid::of(&owner.uid) == uid).cloned().collect();
            if !lost.is_empty() {
                self.drop_owners(&child, &meta, &lost).await?;
            }
        }
        self.remove_finalizer(&node, &latest, ORPHAN).await
    }
}

fn has(meta: &ObjectMeta, finalizer: &str) -> bool {
    meta.finalizers.iter().flatten().any(|known| known == finalizer)
}

impl Controller for GarbageCollector {
    type Key = Look;

    fn name(&self) -> &'static str {
        "garbage-collector-controller"
    }

    fn watch(&self, queue: &WorkQueue<Look>) {
        self.monitors.set_queue(queue.clone());
        let (monitors, tasks) = (self.monitors.clone(), self.tasks.clone());
        self.tasks.spawn_restarting("garbage collector monitors", move || monitors.clone().run(tasks.clone()));
    }

    async fn synced(&self) {
        self.monitors.synced().await;
    }

    async fn reconcile(&self, key: &Look) -> Result<Next> {
        match key {
            Look::Delete(uid) => self.delete(*uid, &self.monitors.queue()).await?,
            Look::Orphan(uid) => self.orphan(*uid).await?,
        }
        Ok(Next::Done)
    }
}
