//! A Deployment and its ReplicaSets while a plan is made: steps change the model, the difference to what was is the plan. Numbers of pods, annotations and
//! revisions as upstream keeps them (pkg/controller/deployment/util). Pure.

use std::sync::Arc;

use api::IntOrString;
use api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use api::meta::v1::ObjectMeta;

use crate::common::template;

pub const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of the Deployment that its ReplicaSets do not get.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// Bytes of revision history kept in an annotation.
const MAX_HISTORY: usize = 2000;

/// One ReplicaSet of the Deployment.
#[derive(Clone, Debug)]
pub struct Entry {
    pub set: ReplicaSet,
    /// As it is in the API; none for one to be created.
    pub origin: Option<Arc<ReplicaSet>>,
    /// Notes of `ScalingReplicaSet` events.
    pub notes: Vec<String>,
    pub delete: bool,
}

impl Entry {
    pub fn replicas(&self) -> i32 {
        self.set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)
    }

    pub fn available(&self) -> i32 {
        self.set.status.as_ref().and_then(|status| status.available_replicas).unwrap_or(0)
    }

    pub fn name(&self) -> &str {
        self.set.metadata.name.as_deref().unwrap_or_default()
    }

    pub fn revision(&self) -> i64 {
        self.annotation(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.set.metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn annotate(&mut self, key: &str, value: String) {
        self.set.metadata.annotations.get_or_insert_default().insert(key.to_owned(), value);
    }

    /// The Deployment's size when this set was last scaled.
    pub fn desired(&self) -> Option<i32> {
        self.annotation(DESIRED_REPLICAS)?.parse().ok()
    }

    pub fn max(&self) -> Option<i32> {
        self.annotation(MAX_REPLICAS)?.parse().ok()
    }

    pub fn changed(&self) -> bool {
        self.origin
            .as_ref()
            .is_none_or(|origin| origin.spec != self.set.spec || origin.metadata.annotations != self.set.metadata.annotations)
    }
}

pub struct Model {
    pub deployment: Arc<Deployment>,
    /// The oldest first.
    pub sets: Vec<Entry>,
    /// The set of the current template.
    pub new: Option<usize>,
}

impl Model {
    pub fn new(deployment: Arc<Deployment>, mut sets: Vec<Arc<ReplicaSet>>) -> Self {
        sets.sort_by(|left, right| order(&left.metadata).cmp(&order(&right.metadata)));
        let entry = |set: Arc<ReplicaSet>| Entry { set: ReplicaSet::clone(&set), origin: Some(set), notes: Vec::new(), delete: false };
        let sets: Vec<Entry> = sets.into_iter().map(entry).collect();
        let current = deployment.spec.as_ref().map(|spec| &spec.template);
        let matches = |entry: &Entry| {
            let template = entry.set.spec.as_ref().and_then(|spec| spec.template.as_ref());
            template.zip(current).is_some_and(|(template, current)| template::equal_ignoring_hash(template, current))
        };
        let new = sets.iter().position(matches);
        Self { deployment, sets, new }
    }

    pub fn spec(&self) -> &DeploymentSpec {
        static EMPTY: std::sync::LazyLock<DeploymentSpec> = std::sync::LazyLock::new(DeploymentSpec::default);
        self.deployment.spec.as_ref().unwrap_or(&EMPTY)
    }

    pub fn replicas(&self) -> i32 {
        self.spec().replicas.unwrap_or(1)
    }

    pub fn is_rolling(&self) -> bool {
        self.spec().strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
    }

    /// Pods above the wanted number, and below it, that a rolling update may have (`ResolveFenceposts`).
    fn fenceposts(&self) -> (i32, i32) {
        let rolling = self.spec().strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".into());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        let surge = scaled(surge, self.replicas(), true);
        let unavailable = scaled(unavailable, self.replicas(), false);
        if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
    }

    pub fn max_surge(&self) -> i32 {
        if self.is_rolling() { self.fenceposts().0 } else { 0 }
    }

    pub fn max_unavailable(&self) -> i32 {
        if self.is_rolling() && self.replicas() > 0 { self.fenceposts().1.min(self.replicas()) } else { 0 }
    }

    /// Indexes of all sets but the new one, the oldest first.
    pub fn old(&self) -> Vec<usize> {
        (0..self.sets.len()).filter(|&index| Some(index) != self.new).collect()
    }

    pub fn active_old(&self) -> Vec<usize> {
        self.old().into_iter().filter(|&index| self.sets[index].replicas() > 0).collect()
    }

    pub fn total(&self) -> i32 {
        self.sets.iter().map(Entry::replicas).sum()
    }

    pub fn available(&self) -> i32 {
        self.sets.iter().map(Entry::available).sum()
    }

    /// How many pods the new set may have now (`NewRSNewReplicas`).
    pub fn new_size(&self, current: i32) -> i32 {
        if !self.is_rolling() {
            return self.replicas();
        }
        let room = self.replicas() + self.max_surge() - self.total();
        if room <= 0 { current } else { current + room.min(self.replicas() - current) }
    }

    /// Scales one set and keeps the Deployment's size in its annotations. Whether the size changed.
    pub fn scale(&mut self, index: usize, size: i32) -> bool {
        let (desired, max) = (self.replicas(), self.replicas() + self.max_surge());
        let entry = &mut self.sets[index];
        let before = entry.replicas();
        if entry.desired() != Some(desired) || entry.max() != Some(max) {
            entry.annotate(DESIRED_REPLICAS, desired.to_string());
            entry.annotate(MAX_REPLICAS, max.to_string());
        }
        if before == size {
            return false;
        }
        entry.set.spec.get_or_insert_default().replicas = Some(size);
        let direction = if before < size { "up" } else { "down" };
        entry.notes.push(format!("Scaled {direction} replica set {} from {before} to {size}", entry.name()));
        true
    }

    /// Brings revision, annotations and settings of the new set up to date. Creates it when told.
    pub fn sync_new(&mut self, create: bool) {
        let revision = self.old().into_iter().map(|index| self.sets[index].revision()).max().unwrap_or(0) + 1;
        if self.new.is_none() && create {
            self.create_new();
        }
        let Some(index) = self.new else { return };
        let (annotations, min_ready) = (self.deployment.metadata.annotations.clone(), self.spec().min_ready_seconds);
        let (desired, max) = (self.replicas(), self.replicas() + self.max_surge());
        let entry = &mut self.sets[index];
        for (key, value) in annotations.into_iter().flatten().filter(|(key, _)| !NOT_COPIED.contains(&key.as_str())) {
            entry.annotate(&key, value);
        }
        raise_revision(entry, revision);
        if entry.origin.is_none() {
            entry.annotate(DESIRED_REPLICAS, desired.to_string());
            entry.annotate(MAX_REPLICAS, max.to_string());
        }
        let spec = entry.set.spec.get_or_insert_default();
        if spec.min_ready_seconds.unwrap_or(0) != min_ready.unwrap_or(0) {
            spec.min_ready_seconds = min_ready;
        }
    }

    fn create_new(&mut self) {
        let spec = self.spec().clone();
        let collisions = self.deployment.status.as_ref().and_then(|status| status.collision_count);
        let hash = template::hash(&spec.template, collisions);
        let deployment = &self.deployment.metadata;
        let name = format!("{}-{hash}", deployment.name.as_deref().unwrap_or_default());
        let mut pod_template = spec.template;
        let labels = pod_template.metadata.get_or_insert_default().labels.get_or_insert_default();
        labels.insert(template::POD_TEMPLATE_HASH.into(), hash.clone());
        let labels = labels.clone();
        let mut selector = spec.selector;
        selector.match_labels.get_or_insert_default().insert(template::POD_TEMPLATE_HASH.into(), hash);
        let size = self.new_size(0);
        let set = ReplicaSet {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: deployment.namespace.clone(),
                labels: Some(labels),
                owner_references: Some(vec![client::owner_reference(&*self.deployment)]),
                ..ObjectMeta::default()
            },
            spec: Some(api::apps::v1::ReplicaSetSpec {
                replicas: Some(size),
                min_ready_seconds: spec.min_ready_seconds,
                selector,
                template: Some(pod_template),
            }),
            status: None,
        };
        let notes = if size > 0 { vec![format!("Scaled up replica set {name} from 0 to {size}")] } else { Vec::new() };
        self.new = Some(self.sets.len());
        self.sets.push(Entry { set, origin: None, notes, delete: false });
    }
}

/// The oldest first; objects not yet in the API are the youngest.
fn order(meta: &ObjectMeta) -> (bool, Option<jiff::Timestamp>, Option<&str>) {
    let created = meta.creation_timestamp.as_ref().map(|time| time.0);
    (created.is_none(), created, meta.name.as_deref())
}

/// Gives the set a revision if it is higher; an old one goes to the history, because the Deployment was rolled back to this set.
fn raise_revision(entry: &mut Entry, revision: i64) {
    let old = entry.annotation(REVISION).map(str::to_owned);
    if entry.revision() >= revision {
        return;
    }
    entry.annotate(REVISION, revision.to_string());
    let Some(old) = old else { return };
    let mut history: Vec<&str> = entry.annotation(REVISION_HISTORY).map(|text| text.split(',').collect()).unwrap_or_default();
    history.push(&old);
    let length = |history: &[&str]| history.iter().map(|entry| entry.len() + 1).sum::<usize>();
    while length(&history) > MAX_HISTORY {
        history.remove(0);
    }
    let history = history.join(",");
    entry.annotate(REVISION_HISTORY, history);
}

/// A number, or a percentage of `total`. What is not a percentage counts as zero: validation refuses it.
fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: i64 = text.strip_suffix('%').and_then(|digits| digits.parse().ok()).unwrap_or(0);
            let hundredths = percent * i64::from(total);
            let value = if round_up { (hundredths + 99) / 100 } else { hundredths / 100 };
            i32::try_from(value).unwrap_or(i32::MAX)
        }
    }
}
