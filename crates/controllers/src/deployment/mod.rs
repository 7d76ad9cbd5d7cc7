//! Rolls a Deployment's pods from one template to the next by sizing ReplicaSets.

mod model;
mod plan;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use api::core::v1::Pod;
use api::selector::Selector;
use client::{Api, Client, EventType, Informer, ObjectKey, Recorder, WorkQueue};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};

use self::model::{Entry, REVISION};
use self::plan::{Plan, Snapshot};
use crate::common::owners::{self, Claim};
use crate::common::{pods, template};
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result, is_namespace_terminating, text};
use crate::replicaset::{BY_CONTROLLER, by_controller, orphans};
use crate::written::{LOOK_AGAIN, Written};

const SERVICE_ACCOUNT: &str = "deployment-controller";

pub struct DeploymentController {
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    client: Client,
    recorder: Recorder,
    /// Writes to the ReplicaSets, and to the Deployment itself.
    written: Written,
    own: Written,
}

impl DeploymentController {
    pub fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        pods.index(BY_CONTROLLER, by_controller);
        let sets = context.informer::<ReplicaSet>();
        sets.index(BY_CONTROLLER, by_controller);
        Self {
            deployments: context.informer(),
            sets,
            pods,
            client: context.client(SERVICE_ACCOUNT),
            recorder: context.recorder(SERVICE_ACCOUNT),
            written: Written::default(),
            own: Written::default(),
        }
    }

    fn sets_api(&self, key: &ObjectKey) -> Api<ReplicaSet> {
        Api::namespaced(self.client.clone(), &key.namespace)
    }

    /// The ReplicaSets of the Deployment, after adopting and releasing.
    async fn claim(&self, key: &ObjectKey, deployment: &Deployment, selector: &Selector) -> Result<Vec<Arc<ReplicaSet>>> {
        let api = self.sets_api(key);
        let owner = client::owner_reference(deployment);
        let mut claimed = Vec::new();
        let mut candidates = self.sets.by_index(BY_CONTROLLER, &owner.uid);
        candidates.extend(self.sets.by_index(BY_CONTROLLER, &orphans(&key.namespace)));
        for set in candidates {
            let uid = set.metadata.uid.as_deref().unwrap_or_default();
            let patch = match owners::claim(&deployment.metadata, selector, &set.metadata) {
                Claim::Ignore => continue,
                Claim::Keep => {
                    claimed.push(set);
                    continue;
                }
                Claim::Adopt => {
                    if !owners::may_adopt(&Api::namespaced(self.client.clone(), &key.namespace), deployment).await? {
                        return Err(Error::Retry("the deployment is being deleted and adopts nothing".into()));
                    }
                    owners::adoption_patch(&owner, uid)
                }
                Claim::Release => owners::release_patch(&owner.uid, uid),
            };
            let name = set.metadata.name.as_deref().unwrap_or_default();
            match api.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(set) => {
                    self.written.changed(key, &set);
                    if client::is_controlled_by(&set.metadata, &owner.uid) {
                        claimed.push(Arc::new(set));
                    }
                }
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(claimed)
    }

    fn with_pods(&self, sets: &[Arc<ReplicaSet>]) -> HashSet<String> {
        let uids = sets.iter().filter_map(|set| set.metadata.uid.clone());
        uids.filter(|uid| self.pods.by_index(BY_CONTROLLER, uid).iter().any(|pod| !pods::is_finished(pod))).collect()
    }

    async fn apply(&self, key: &ObjectKey, deployment: &Deployment, mut plan: Plan) -> Result<Next> {
        let failed = self.write_sets(key, deployment, &mut plan).await;
        let mut current = deployment.clone();
        if let Some(revision) = plan.revision.filter(|_| failed.is_ok()) {
            current.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision);
            let deployments = Api::<Deployment>::namespaced(self.client.clone(), &key.namespace);
            current = deployments.replace(&key.name, &PostParams::default(), &current).await?;
            self.own.changed(key, &current);
        }
        self.write_status(key, current, plan.status).await?;
        failed?;
        Ok(plan.next_check.into())
    }

    async fn write_sets(&self, key: &ObjectKey, deployment: &Deployment, plan: &mut Plan) -> Result<()> {
        let api = self.sets_api(key);
        let regarding = client::object_ref(deployment);
        for entry in std::mem::take(&mut plan.writes) {
            if entry.delete {
                let only_this = Preconditions { uid: entry.set.metadata.uid.clone(), resource_version: None };
                match api.delete(entry.name(), &DeleteParams::background().preconditions(only_this)).await {
                    Ok(_) => self.written.deleted(key, &entry.set),
                    Err(kube::Error::Api(status)) if status.is_not_found() => {}
                    Err(error) => return Err(error.into()),
                }
                continue;
            }
            if entry.origin.is_some() {
                let set = api.replace(entry.name(), &PostParams::default(), &entry.set).await?;
                self.written.changed(key, &set);
            } else if !self.create(key, deployment, &entry, plan).await? {
                continue;
            }
            for note in entry.notes {
                self.recorder.event(&regarding, EventType::Normal, "ScalingReplicaSet", "", note);
            }
        }
        Ok(())
    }

    /// Whether a new set was created. One of the same name with another template raises the collision count, so that the next plan names it differently.
    async fn create(&self, key: &ObjectKey, deployment: &Deployment, entry: &Entry, plan: &mut Plan) -> Result<bool> {
        let api = self.sets_api(key);
        let error = match api.create(&PostParams::default(), &entry.set).await {
            Ok(set) => {
                self.written.changed(key, &set);
                return Ok(true);
            }
            Err(error) => error,
        };
        let now = base::clock::now();
        if matches!(&error, kube::Error::Api(status) if status.is_already_exists()) {
            let existing = api.get(entry.name()).await?;
            self.written.changed(key, &existing);
            let template = |set: &ReplicaSet| set.spec.as_ref().and_then(|spec| spec.template.clone()).unwrap_or_default();
            let ours = client::is_controlled_by(&existing.metadata, deployment.metadata.uid.as_deref().unwrap_or_default());
            if !ours || !template::equal_ignoring_hash(&template(&existing), &template(&entry.set)) {
                let count = deployment.status.as_ref().and_then(|status| status.collision_count).unwrap_or(0) + 1;
                tracing::info!(%key, count, "a replica set of the new one's name exists, trying another name");
                plan.status = DeploymentStatus { collision_count: Some(count), ..deployment.status.clone().unwrap_or_default() };
                plan.revision = None;
            }
            return Ok(false);
        }
        if !is_namespace_terminating(&error) {
            progress::note_create_failure(deployment, &mut plan.status, entry.name(), &text(&error), now);
            let note = format!("Failed to create new replica set {:?}: {}", entry.name(), text(&error));
            self.recorder.event(&client::object_ref(deployment), EventType::Warning, "ReplicaSetCreateError", "", note);
        }
        plan.revision = None;
        Err(error.into())
    }

    /// With the resource version: a status write carries the metadata too, and must not undo what others changed there.
    async fn write_status(&self, key: &ObjectKey, deployment: Deployment, status: DeploymentStatus) -> Result<()> {
        if progress::is_current(deployment.status.as_ref().unwrap_or(&DeploymentStatus::default()), &status) {
            return Ok(());
        }
        let deployments = Api::<Deployment>::namespaced(self.client.clone(), &key.namespace);
        let new = Deployment { status: Some(status), ..deployment };
        match deployments.replace_status(&key.name, &PostParams::default(), &new).await {
            Ok(written) => {
                self.own.changed(key, &written);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Controller for DeploymentController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "deployment-controller"
    }

    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let deployments = queue.clone();
        self.deployments.on_change(move |delta| deployments.add(client::key_of(&**delta.object())));
        let (sets, deployments) = (queue.clone(), self.deployments.clone());
        self.sets.on_change(move |delta| {
            for set in [delta.old(), delta.current()].into_iter().flatten() {
                let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
                match client::controller_of(&set.metadata) {
                    Some(owner) if owner.kind == "Deployment" => sets.add(ObjectKey::new(namespace, owner.name.as_str())),
                    Some(_) => {}
                    None => {
                        let candidates = deployments.list_in(namespace);
                        candidates
                            .iter()
                            .filter(|deployment| selects(deployment, set))
                            .for_each(|deployment| sets.add(client::key_of(&**deployment)));
                    }
                }
            }
        });
        // Only Recreate cares for pods: it waits for the last old one to go.
        let (queue, sets) = (queue.clone(), self.sets.clone());
        self.pods.on_change(move |delta| {
            let client::Delta::Deleted(pod) = delta else { return };
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let set = client::controller_of(&pod.metadata).and_then(|owner| sets.get(Some(namespace), &owner.name));
            let owner = set.as_ref().and_then(|set| client::controller_of(&set.metadata)).filter(|owner| owner.kind == "Deployment");
            if let Some(owner) = owner {
                queue.add(ObjectKey::new(namespace, owner.name.as_str()));
            }
        });
    }

    async fn synced(&self) {
        self.deployments.synced().await;
        self.sets.synced().await;
        self.pods.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(deployment) = self.deployments.get_key(key) else {
            self.written.forget(key);
            self.own.forget(key);
            return Ok(Next::Done);
        };
        if !self.written.seen(key, &self.sets) || !self.own.seen(key, &self.deployments) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let selector = deployment.spec.as_ref().and_then(|spec| Selector::from_label_selector(&spec.selector).ok());
        let Some(selector) = selector.filter(|selector| !selector.is_everything()) else {
            let note = "This deployment is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&client::object_ref(&*deployment), EventType::Warning, "SelectingAll", "", note);
            return Ok(Next::Done);
        };
        let sets = self.claim(key, &deployment, &selector).await?;
        let with_pods = self.with_pods(&sets);
        let plan = plan::plan(&Snapshot { deployment: deployment.clone(), sets, with_pods }, base::clock::now());
        self.apply(key, &deployment, plan).await
    }
}

fn selects(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let selector = deployment.spec.as_ref().and_then(|spec| Selector::from_label_selector(&spec.selector).ok());
    selector.is_some_and(|selector| !selector.is_everything() && selector.matches_opt(set.metadata.labels.as_ref()))
}
