//! Runs a pod of a DaemonSet on every node that fits.

mod history;
mod plan;
mod pod;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use api::core::v1::{Node, Pod};
use api::selector::Selector;
use client::{Api, Client, Delta, EventType, Informer, ObjectKey, Recorder, WorkQueue};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::history::Current;
use self::plan::{Plan, Snapshot};
use crate::common::owners::{self, Claim};
use crate::common::{batch, pods, taints};
use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result, text};
use crate::replicaset::{BY_CONTROLLER, by_controller, orphans};
use crate::written::{LOOK_AGAIN, Written};

const SERVICE_ACCOUNT: &str = "daemon-set-controller";
const BURST: usize = 250;
const MIN_BACKOFF: Duration = Duration::from_secs(1);
const MAX_BACKOFF: Duration = Duration::from_secs(15 * 60);

pub struct DaemonSetController {
    sets: Informer<DaemonSet>,
    revisions: Informer<ControllerRevision>,
    pods: Informer<Pod>,
    nodes: Informer<Node>,
    client: Client,
    recorder: Recorder,
    /// Writes to pods, to revisions, and to the set's own status.
    written: Written,
    written_revisions: Written,
    own: Written,
    /// How often the pod of a set on a node failed, and when it may be replaced again.
    failures: Mutex<HashMap<(String, String), (u32, Instant)>>,
}

impl DaemonSetController {
    pub fn new(context: &Context) -> Self {
        let pods = context.informer::<Pod>();
        pods.index(BY_CONTROLLER, by_controller);
        let revisions = context.informer::<ControllerRevision>();
        revisions.index(BY_CONTROLLER, by_controller);
        Self {
            sets: context.informer(),
            revisions,
            pods,
            nodes: context.informer(),
            client: context.client(SERVICE_ACCOUNT),
            recorder: context.recorder(SERVICE_ACCOUNT),
            written: Written::default(),
            written_revisions: Written::default(),
            own: Written::default(),
            failures: Mutex::default(),
        }
    }

    fn uid(set: &DaemonSet) -> &str {
        set.metadata.uid.as_deref().unwrap_or_default()
    }

    /// The hash of the current template's revision, which is made if it is missing. `None`: its name is taken, the collision count went up.
    async fn current_hash(&self, key: &ObjectKey, set: &DaemonSet, revisions: &[Arc<ControllerRevision>]) -> Result<Option<String>> {
        let api = Api::<ControllerRevision>::namespaced(self.client.clone(), &key.namespace);
        let written = match history::current(set, revisions) {
            Current::Known(hash) => return Ok(Some(hash)),
            Current::Raise(revision) => {
                api.replace(revision.metadata.name.as_deref().unwrap_or_default(), &PostParams::default(), &revision).await?
            }
            Current::Create(revision) => match api.create(&PostParams::default(), &revision).await.map_err(Error::from) {
                Ok(written) => written,
                Err(error) if error.is_already_exists() => {
                    let existing = api.get(revision.metadata.name.as_deref().unwrap_or_default()).await?;
                    if existing.data != revision.data || !client::is_controlled_by(&existing.metadata, Self::uid(set)) {
                        let mut status = set.status.clone().unwrap_or_default();
                        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
                        self.write_status(key, set, status).await?;
                        return Ok(None);
                    }
                    existing
                }
                Err(error) => return Err(error),
            },
        };
        self.written_revisions.changed(key, &written);
        Ok(history::hash_of(&written).map(str::to_owned))
    }

    /// Own pods, after adopting and releasing.
    async fn claim(&self, key: &ObjectKey, set: &DaemonSet, selector: &Selector) -> Result<Vec<Arc<Pod>>> {
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        let owner = client::owner_reference(set);
        let mut candidates = self.pods.by_index(BY_CONTROLLER, &owner.uid);
        candidates.extend(self.pods.by_index(BY_CONTROLLER, &orphans(&key.namespace)));
        let mut claimed = Vec::new();
        for pod in candidates {
            let uid = pod.metadata.uid.as_deref().unwrap_or_default();
            let (patch, keep) = match owners::claim(&set.metadata, selector, &pod.metadata) {
                Claim::Ignore => continue,
                Claim::Keep => {
                    claimed.push(pod);
                    continue;
                }
                Claim::Release => (owners::release_patch(&owner.uid, uid), false),
                Claim::Adopt if owners::may_adopt(&Api::namespaced(self.client.clone(), &key.namespace), set).await? => {
                    (owners::adoption_patch(&owner, uid), true)
                }
                Claim::Adopt => return Err(Error::Retry("the daemon set is being deleted and adopts nothing".into())),
            };
            match api.patch(pod.metadata.name.as_deref().unwrap_or_default(), &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(patched) => self.written.changed(key, &patched),
                Err(kube::Error::Api(status)) if !keep && matches!(status.code, 404 | 422) => {}
                Err(error) => return Err(error.into()),
            }
            if keep {
                claimed.push(pod);
            }
        }
        Ok(claimed)
    }

    async fn apply(&self, key: &ObjectKey, snapshot: &Snapshot, mut plan: Plan) -> Result<Option<Duration>> {
        let set = &snapshot.set;
        let regarding = client::object_ref(&**set);
        let mut wait: Option<Duration> = None;
        for pod in std::mem::take(&mut plan.replace) {
            let (name, node) = (pod.metadata.name.clone().unwrap_or_default(), pod::target_node(&pod).unwrap_or_default().to_owned());
            if pods::phase(&pod) == "Failed" {
                if let Some(left) = self.failed_too_often(Self::uid(set), &node) {
                    wait = Some(wait.map_or(left, |other| other.min(left)));
                    continue;
                }
                let note = format!(
                    "Found failed daemon pod {key_namespace}/{name} on node {node}, will try to kill it",
                    key_namespace = key.namespace
                );
                self.recorder.event(&regarding, EventType::Warning, "FailedDaemonPod", "", note);
            } else {
                let note = format!("Found succeeded daemon pod {}/{name} on node {node}, will try to delete it", key.namespace);
                self.recorder.event(&regarding, EventType::Normal, "SucceededDaemonPod", "", note);
            }
            plan.delete.push(pod);
        }
        let api = Api::<Pod>::namespaced(self.client.clone(), &key.namespace);
        plan.create.truncate(BURST);
        let create = async |index: usize| {
            let pod = api.create(&PostParams::default(), &pod::new_pod(set, &snapshot.hash, &plan.create[index])).await?;
            self.written.changed(key, &pod);
            let note = format!("Created pod: {}", pod.metadata.name.as_deref().unwrap_or_default());
            self.recorder.event(&regarding, EventType::Normal, "SuccessfulCreate", "", note);
            Ok::<_, kube::Error>(())
        };
        let (_, failure) = batch::slow_start(plan.create.len(), create).await;
        for pod in plan.delete.iter().take(BURST) {
            let name = pod.metadata.name.as_deref().unwrap_or_default();
            let only_this = Preconditions { uid: pod.metadata.uid.clone(), resource_version: None };
            match api.delete(name, &DeleteParams::default().preconditions(only_this)).await.map_err(Error::from) {
                Ok(_) => {
                    self.written.deleted(key, &**pod);
                    self.recorder.event(&regarding, EventType::Normal, "SuccessfulDelete", "", format!("Deleted pod: {name}"));
                }
                Err(error) if error.is_not_found() || error.is_conflict() => {}
                Err(error) => return Err(error),
            }
        }
        match failure.map(Error::from) {
            None => Ok(wait),
            Some(error) if error.is_namespace_terminating() => Ok(wait),
            Some(error) => {
                let cause = if let Error::Api(error) = &error { text(error) } else { error.to_string() };
                self.recorder.event(&regarding, EventType::Warning, "FailedCreate", "", format!("Error creating: {cause}"));
                Err(error)
            }
        }
    }

    /// How long the next replacement of a failed pod has to wait, or nothing and the next one waits twice as long.
    fn failed_too_often(&self, set: &str, node: &str) -> Option<Duration> {
        let now = base::clock::monotonic();
        let mut failures = self.failures.lock();
        failures.retain(|_, (_, until)| now < *until + MAX_BACKOFF);
        let (count, until) = failures.entry((set.to_owned(), node.to_owned())).or_insert((0, now));
        if now < *until {
            return Some(*until - now);
        }
        *until = now + MIN_BACKOFF.saturating_mul(2u32.saturating_pow(*count)).min(MAX_BACKOFF);
        *count += 1;
        None
    }

    async fn write_status(&self, key: &ObjectKey, set: &DaemonSet, status: DaemonSetStatus) -> Result<()> {
        if plan::is_current(set.status.as_ref(), &status) {
            return Ok(());
        }
        let new = DaemonSet { status: Some(status), ..set.clone() };
        match Api::<DaemonSet>::namespaced(self.client.clone(), &key.namespace)
            .replace_status(&key.name, &PostParams::default(), &new)
            .await
        {
            Ok(written) => {
                self.own.changed(key, &written);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    async fn clean_up(&self, key: &ObjectKey, snapshot: &Snapshot, revisions: &[Arc<ControllerRevision>]) -> Result<()> {
        let limit = snapshot
            .set
            .spec
            .as_ref()
            .and_then(|spec| spec.revision_history_limit)
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(10);
        let hashes = snapshot.pods.iter().filter_map(|pod| pod.metadata.labels.as_ref()?.get(pod::REVISION_HASH).cloned());
        let live: HashSet<String> = hashes.chain([snapshot.hash.clone()]).collect();
        let api = Api::<ControllerRevision>::namespaced(self.client.clone(), &key.namespace);
        for revision in history::superfluous(revisions, &live, limit) {
            match api.delete(revision.metadata.name.as_deref().unwrap_or_default(), &DeleteParams::default()).await.map_err(Error::from) {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => self.written_revisions.deleted(key, &*revision),
            }
        }
        Ok(())
    }

    fn is_up_to_date(&self, key: &ObjectKey) -> bool {
        self.written.seen(key, &self.pods) && self.written_revisions.seen(key, &self.revisions) && self.own.seen(key, &self.sets)
    }
}

impl Controller for DaemonSetController {
    type Key = ObjectKey;

    fn name(&self) -> &'static str {
        "daemonset-controller"
    }

    fn watch(&self, queue: &WorkQueue<ObjectKey>) {
        let sets = queue.clone();
        self.sets.on_change(move |delta| sets.add(client::key_of(&**delta.object())));
        let (pods, known) = (queue.clone(), self.sets.clone());
        self.pods.on_change(move |delta| {
            for pod in [delta.old(), delta.current()].into_iter().flatten() {
                let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
                match client::controller_of(&pod.metadata) {
                    Some(owner) if owner.kind == "DaemonSet" => pods.add(ObjectKey::new(namespace, owner.name.as_str())),
                    Some(_) => {}
                    None => known.list_in(namespace).iter().for_each(|set| pods.add(client::key_of(&**set))),
                }
            }
        });
        let (nodes, known) = (queue.clone(), self.sets.clone());
        self.nodes.on_change(move |delta| {
            let same = |old: &Node, new: &Node| old.metadata.labels == new.metadata.labels && taints::of(old) == taints::of(new);
            if !matches!(delta, Delta::Updated { old, new } if same(old, new)) {
                known.list().iter().for_each(|set| nodes.add(client::key_of(&**set)));
            }
        });
    }

    async fn synced(&self) {
        self.sets.synced().await;
        self.revisions.synced().await;
        self.pods.synced().await;
        self.nodes.synced().await;
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Next> {
        let Some(set) = self.sets.get_key(key) else {
            self.written.forget(key);
            self.written_revisions.forget(key);
            self.own.forget(key);
            return Ok(Next::Done);
        };
        if set.metadata.deletion_timestamp.is_some() {
            return Ok(Next::Done);
        }
        if !self.is_up_to_date(key) {
            return Ok(Next::After(LOOK_AGAIN));
        }
        let selector = set.spec.as_ref().and_then(|spec| Selector::from_label_selector(&spec.selector).ok());
        let Some(selector) = selector.filter(|selector| !selector.is_everything()) else {
            let note = "This daemon set is selecting all pods. A non-empty selector is required.";
            self.recorder.event(&client::object_ref(&*set), EventType::Warning, "SelectingAll", "", note);
            return Ok(Next::Done);
        };
        let revisions = self.revisions.by_index(BY_CONTROLLER, Self::uid(&set));
        let Some(hash) = self.current_hash(key, &set, &revisions).await? else { return Ok(Next::After(LOOK_AGAIN)) };
        let pods = self.claim(key, &set, &selector).await?;
        let snapshot = Snapshot { set: set.clone(), hash, nodes: self.nodes.list(), pods };
        let now = base::clock::now();
        let applied = self.apply(key, &snapshot, plan::plan(&snapshot, now)).await;
        self.write_status(key, &set, plan::status(&snapshot, now)).await?;
        let wait = applied?;
        self.clean_up(key, &snapshot, &revisions).await?;
        // Pods become available by waiting.
        let min_ready = set.spec.as_ref().and_then(|spec| spec.min_ready_seconds).filter(|&seconds| seconds > 0);
        let maturing =
            min_ready.filter(|&seconds| snapshot.pods.iter().any(|pod| pods::is_ready(pod) && !pods::is_available(pod, seconds, now)));
        Ok(wait.or(maturing.map(|_| Duration::from_secs(1))).into())
    }
}
