//! Keeps as many pods of a ReplicaSet as it asks for.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use api::core::v1::Pod;
use api::selector::Selector;
use client::{Api, Client, EventType, Informer, ObjectKey, Recorder, Resource, WorkQueue};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};

use self::plan::{Plan, Snapshot};
use crate::common::{batch, owners, pods, template};
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result, is_namespace_terminating, text};
use crate::written::{LOOK_AGAIN, Written};

const SERVICE_ACCOUNT: &str = "replicaset-controller";

/// Index of objects by the uid of their controller; orphans are under `orphans` of their namespace.
pub const BY_CONTROLLER: &str = "controller";

/// The entry of objects without a controller in a namespace.
pub fn orphans(namespace: &str) -> String {
    format!("/{namespace}")
}

/// The values of `BY_CONTROLLER`.
pub fn by_controller<K: Resource>(object: &K) -> Vec<String> {
    match client::controller_of(object.meta()) {
        Some(owner) => vec![owner.uid.clone()],
        None => vec![orphans(object.meta().namespace.as_deref().unwrap_or_default())],
    }
}

pub struct ReplicaSetController {
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    client: Client,
    recorder: Recorder,
    /// Writes to pods, and to the set's own status.
    written: Written,
    own: Written,
}

impl ReplicaSetController {
    pub fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        pods.index(BY_CONTROLLER, by_controller);
        let sets = context.informer::<ReplicaSet>();
        sets.index(BY_CONTROLLER, by_controller);
        Self {
            sets,
            pods,
            client: context.client(SERVICE_ACCOUNT),
            recorder: context.recorder(SERVICE_ACCOUNT),
            written: Written::default(),
            own: Written::default(),
        }
    }

    fn snapshot(&self, set: Arc<ReplicaSet>, selector: Selector) -> Snapshot {
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        let mut candidates = self.pods.by_index(BY_CONTROLLER, uid);
        candidates.extend(self.pods.by_index(BY_CONTROLLER, &orphans(namespace)));
        let related = match client::controller_of(&set.metadata) {
            None => candidates.clone(),
            Some(owner) => {
                let siblings = self.sets.by_index(BY_CONTROLLER, &owner.uid);
                let uids = siblings.iter().filter_map(|sibling| sibling.metadata.uid.as_deref());
                uids.flat_map(|uid| self.pods.by_index(BY_CONTROLLER, uid)).collect()
            }
        };
        let related = related.into_iter().filter(|pod| pods::is_active(pod)).collect();
        Snapshot { set, selector, pods: candidates, related }
    }

    async fn apply(&self, key: &ObjectKey, set: &ReplicaSet, plan: &Plan) -> Result<()> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let owner = client::owner_reference(set);
        if !plan.adopt.is_empty() && !owners::may_adopt(&Api::namespaced(self.client.clone(), &key.namespace), set).await? {
            return Err(Error::Retry("the replica set is being deleted and adopts nothing".into()));
        }
        for (pod, adopt) in plan.adopt.iter().map(|pod| (pod, true)).chain(plan.release.iter().map(|pod| (pod, false))) {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let patch = if adopt { owners::adoption_patch(&owner, uid) } else { owners::release_patch(&owner.uid, uid) };
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            match pods.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(pod) => self.written.changed(key, &pod),
                // Gone or replaced meanwhile.
                Err(kube::Error::Api(status)) if !adopt && matches!(status.code, 404 | 422) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.create(key, set, plan, &pods).await?;
        self.delete(key, set, plan, &pods).await
    }

    async fn create(&self, key: &ObjectKey, set: &ReplicaSet, plan: &Plan, pods: &Api<Pod>) -> Result<()> {
        let Some(template) = set.spec.as_ref().and_then(|spec| spec.template.as_ref()).filter(|_| plan.create > 0) else { return Ok(()) };
        let pod = template::pod(template, client::owner_reference(set));
        let regarding = client::object_ref(set);
        let one = async |_| match pods.create(&PostParams::default(), &pod).await {
            Ok(created) => {
                let note = format!("Created pod: {}", created.metadata.name.as_deref().unwrap_or_default());
                self.written.changed(key, &created);
                self.recorder.event(&regarding, EventType::Normal, "SuccessfulCreate", "", note);
                Ok(())
            }
            Err(error) => Err(error),
        };
        let (_, failure) = batch::slow_start(plan.create, one).await;
        match failure {
            None => Ok(()),
            // The namespace is going away: nothing can be created, and nothing needs to be.
            Some(error) if is_namespace_terminating(&error) => Ok(()),
            Some(error) => {
                let note = format!("Error creating: {}", text(&error));
                self.recorder.event(&regarding, EventType::Warning, "FailedCreate", "", note);
                Err(error.into())
            }
        }
    }

    async fn delete(&self, key: &ObjectKey, set: &ReplicaSet, plan: &Plan, pods: &Api<Pod>) -> Result<()> {
        let regarding = client::object_ref(set);
        let one = async |index: usize| {
            let pod = &plan.delete[index];
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let only_this = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
            match pods.delete(name, &DeleteParams::default().preconditions(only_this)).await {
                Ok(_) => {
                    self.written.deleted(key, &**pod);
                    self.recorder.event(&regarding, EventType::Normal, "SuccessfulDelete", "", format!("Deleted pod: {name}"));
                    Ok(())
                }
                Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
                Err(error) => {
                    let note = format!("Error deleting: {}", text(&error));
                    self.recorder.event(&regarding, EventType::Warning, "FailedDelete", "", note);
                    Err(error)
                }
            }
        };
        let results = futures::future::join_all((0..plan.delete.len()).map(one)).await;
        results.into_iter().collect::<std::result::Result<(), kube::Error>>().map_err(Error::from)
    }

    async fn write_status(&self, set: &ReplicaSet, status: ReplicaSetStatus) -> Result<()> {
        if plan::is_current(set, &status) {
            return Ok(());
        }
        let key = client::key_of(set);
        let sets = Api::<ReplicaSet>::namespaced(self.client.clone(), &key.namespace);
        let new = ReplicaSet { status: Some(status), ..set.clone() };
        match sets.replace_status(&key.name, &PostParams::default(), &new).await {
            Ok(written) => {
                self.own.changed(&key, &written);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Controller for ReplicaSetController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "replicaset-controller"
    }

    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let sets = queue.clone();
        self.sets.on_change(move |delta| sets.add(client::key_of(&**delta.object())));
        let (queue, sets) = (queue.clone(), self.sets.clone());
        self.pods.on_change(move |delta| {
            for pod in [delta.old(), delta.current()].into_iter().flatten() {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                match client::controller_of(&pod.metadata) {
                    Some(owner) if owner.kind == "ReplicaSet" => queue.add(ObjectKey::new(namespace, owner.name.as_str())),
                    Some(_) => {}
                    // An orphan wakes the sets that may adopt it.
                    None => {
                        sets.list_in(namespace).iter().filter(|set| selects(set, pod)).for_each(|set| queue.add(client::key_of(&**set)))
                    }
                }
            }
        });
    }

    async fn synced(&self) {
        self.sets.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(set) = self.sets.get_key(key) else {
            self.written.forget(key);
            self.own.forget(key);
            return Ok(Next::Done);
        };
        if !self.written.seen(key, &self.pods) || !self.own.seen(key, &self.sets) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let Some(selector) = set.spec.as_ref().and_then(|spec| Selector::from_label_selector(&spec.selector).ok()) else {
            tracing::error!(%key, "the selector of the replica set is not valid");
            return Ok(Next::Done);
        };
        let now = base::clock::now();
        let snapshot = self.snapshot(set.clone(), selector);
        let plan = plan::plan(&snapshot, now);
        let managed = self.apply(key, &set, &plan).await;
        let failure = managed.as_ref().err().map(|error| match error {
            Error::Api(error) => text(error),
            Error::Retry(cause) => cause.clone(),
        });
        self.write_status(&set, plan::status(&set, &plan, failure.as_deref(), now)).await?;
        managed?;
        Ok(plan::next_availability(&set, &plan, now).into())
    }
}

fn selects(set: &ReplicaSet, pod: &Pod) -> bool {
    let selector = set.spec.as_ref().and_then(|spec| Selector::from_label_selector(&spec.selector).ok());
    selector.is_some_and(|selector| selector.matches_opt(pod.metadata.labels.as_ref()))
}
