//! Whole rollouts of a simulated Deployment, step by step, within their bounds.

use std::collections::{BTreeMap, HashSet};

use api::IntOrString;
use api::apps::v1::{DeploymentSpec, DeploymentStrategy, ReplicaSetStatus, RollingUpdateDeployment};
use api::core::v1::PodTemplateSpec;
use api::meta::v1::{LabelSelector, ObjectMeta, Time};
use jiff::Timestamp;

use super::*;

/// A Deployment and its ReplicaSets, where plans are applied and pods become available at once or never.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    now: i64,
    events: Vec<String>,
}

fn labels(version: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "web".to_owned()), ("version".to_owned(), version.to_owned())])
}

fn template(version: &str) -> PodTemplateSpec {
    PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels(version)), ..ObjectMeta::default() }), spec: None }
}

impl World {
    fn new(replicas: i32, surge: &str, unavailable: &str) -> Self {
        let int = |text: &str| text.parse().map_or_else(|_| IntOrString::String(text.into()), IntOrString::Int);
        let rolling = RollingUpdateDeployment { max_surge: Some(int(surge)), max_unavailable: Some(int(unavailable)) };
        let metadata = ObjectMeta { name: Some("web".into()), uid: Some("web".into()), generation: Some(1), ..ObjectMeta::default() };
        let spec = DeploymentSpec {
            replicas: Some(replicas),
            strategy: Some(DeploymentStrategy { type_: Some("RollingUpdate".into()), rolling_update: Some(rolling) }),
            selector: LabelSelector { match_labels: Some(labels("1")), ..LabelSelector::default() },
            template: template("1"),
            progress_deadline_seconds: Some(600),
            revision_history_limit: Some(10),
            ..DeploymentSpec::default()
        };
        Self { deployment: Deployment { metadata, spec: Some(spec), status: None }, sets: Vec::new(), now: 1_000_000, events: Vec::new() }
    }

    fn spec(&mut self) -> &mut DeploymentSpec {
        *self.deployment.metadata.generation.get_or_insert(0) += 1;
        self.deployment.spec.as_mut().unwrap()
    }

    /// Plans and applies one step. Whether anything changed.
    fn step(&mut self) -> bool {
        self.now += 1;
        let now = Timestamp::from_second(self.now).expect("in range");
        let sets = self.sets.iter().cloned().map(Arc::new).collect::<Vec<_>>();
        let busy = |set: &&ReplicaSet| set.status.as_ref().is_some_and(|status| status.replicas > 0);
        let with_pods: HashSet<String> = self.sets.iter().filter(busy).filter_map(|set| set.metadata.uid.clone()).collect();
        let plan = plan::plan(&Snapshot { deployment: Arc::new(self.deployment.clone()), sets, with_pods }, now);
        let old = self.deployment.status.replace(plan.status);
        let changed = !plan.writes.is_empty() || plan.revision.is_some();
        if let Some(revision) = plan.revision {
            self.deployment.metadata.annotations.get_or_insert_default().insert(REVISION.into(), revision);
        }
        for mut entry in plan.writes {
            self.events.append(&mut entry.notes);
            self.sets.retain(|set| set.metadata.name != entry.set.metadata.name);
            if !entry.delete {
                entry.set.metadata.uid = entry.set.metadata.name.clone();
                entry.set.metadata.creation_timestamp.get_or_insert(Time(now));
                self.sets.push(entry.set);
            }
        }
        self.sets.sort_by(|left, right| left.metadata.creation_timestamp.cmp(&right.metadata.creation_timestamp));
        changed || old != self.deployment.status
    }

    /// Pods follow the sets' sizes; those of `broken` versions never become available.
    fn run_pods(&mut self, broken: &str) {
        for set in &mut self.sets {
            let size = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
            let version =
                set.spec.as_ref().and_then(|spec| spec.template.as_ref()?.metadata.as_ref()?.labels.as_ref()?.get("version").cloned());
            let healthy = if version.as_deref() == Some(broken) { 0 } else { size };
            set.status = Some(ReplicaSetStatus {
                replicas: size,
                ready_replicas: Some(healthy),
                available_replicas: Some(healthy),
                observed_generation: set.metadata.generation,
                ..ReplicaSetStatus::default()
            });
        }
    }

    fn sizes(&self) -> Vec<i32> {
        self.sets.iter().map(|set| set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0)).collect()
    }

    fn available(&self) -> i32 {
        self.sets.iter().filter_map(|set| set.status.as_ref()?.available_replicas).sum()
    }

    /// Steps until nothing changes, checking the bounds of every step.
    fn settle(&mut self, broken: &str, max_total: i32, min_available: i32) {
        for _ in 0..100 {
            if !self.step() {
                return;
            }
            assert!(self.sizes().iter().sum::<i32>() <= max_total, "{:?} {:?}", self.sizes(), self.events);
            self.run_pods(broken);
            assert!(self.available() >= min_available, "{:?} {:?}", self.sizes(), self.events);
        }
        panic!("does not settle: {:?}", self.events);
    }

    fn condition(&self, kind: &str) -> Option<String> {
        let conditions = self.deployment.status.as_ref()?.conditions.as_ref()?;
        conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .map(|it| format!("{} {}", it.status, it.reason.as_deref().unwrap_or_default()))
    }

    fn revision(&self) -> Option<&str> {
        self.deployment.metadata.annotations.as_ref()?.get(REVISION).map(String::as_str)
    }
}

/// A rollout of version 2 over version 1 within the bounds.
fn check(replicas: i32, surge: &str, unavailable: &str, max_total: i32, min_available: i32) {
    let mut world = World::new(replicas, surge, unavailable);
    world.settle("", max_total, 0);
    assert_eq!(world.sizes(), [replicas]);
    assert_eq!((world.revision(), world.condition("Available").as_deref()), (Some("1"), Some("True MinimumReplicasAvailable")));
    world.spec().template = template("2");
    world.settle("", max_total, min_available);
    assert_eq!(world.sizes(), [0, replicas], "{:?}", world.events);
    assert_eq!(world.condition("Progressing").as_deref(), Some("True NewReplicaSetAvailable"));
    assert_eq!(world.revision(), Some("2"));
}

#[test]
fn rolling_updates_stay_within_surge_and_unavailability() {
    check(4, "25%", "25%", 5, 3);
    check(10, "25%", "25%", 13, 8);
    check(3, "1", "0", 4, 3);
    check(3, "0", "1", 3, 2);
    check(1, "25%", "25%", 2, 1);
    check(5, "100%", "0", 10, 5);
    check(2, "0", "0", 2, 1);
    check(0, "25%", "25%", 1, 0);
}

#[test]
fn a_broken_version_stops_and_times_out() {
    let mut world = World::new(4, "25%", "25%");
    world.settle("", 5, 0);
    world.spec().template = template("2");
    world.settle("2", 5, 3);
    assert_eq!(world.sizes(), [3, 2]);
    assert_eq!(world.condition("Progressing").as_deref(), Some("True ReplicaSetUpdated"));
    world.now += 601;
    world.step();
    assert_eq!(world.condition("Progressing").as_deref(), Some("False ProgressDeadlineExceeded"));
    // Back to the first template: its set becomes the new one with a new revision.
    world.spec().template = template("1");
    world.settle("2", 5, 3);
    assert_eq!((world.sizes(), world.revision()), (vec![4, 0], Some("3")));
    let history = world.sets[0].metadata.annotations.as_ref().and_then(|all| all.get("deployment.kubernetes.io/revision-history"));
    assert_eq!(history.map(String::as_str), Some("1"));
}

#[test]
fn events_say_what_was_scaled() {
    let mut world = World::new(2, "1", "0");
    world.settle("", 3, 0);
    let first = world.sets[0].metadata.name.clone().unwrap();
    world.spec().template = template("2");
    world.settle("", 3, 2);
    let second = world.sets[1].metadata.name.clone().unwrap();
    let expected = [
        format!("Scaled up replica set {first} from 0 to 2"),
        format!("Scaled up replica set {second} from 0 to 1"),
        format!("Scaled down replica set {first} from 2 to 1"),
        format!("Scaled up replica set {second} from 1 to 2"),
        format!("Scaled down replica set {first} from 1 to 0"),
    ];
    assert_eq!(world.events, expected);
}

#[test]
fn recreate_waits_for_the_old_pods() {
    let mut world = World::new(3, "0", "0");
    world.spec().strategy = Some(DeploymentStrategy { type_: Some("Recreate".into()), rolling_update: None });
    world.settle("", 3, 0);
    world.spec().template = template("2");
    world.step();
    assert_eq!(world.sizes(), [0], "the pods still run");
    world.step();
    assert_eq!(world.sizes(), [0]);
    world.run_pods("");
    world.settle("", 3, 0);
    assert_eq!(world.sizes(), [0, 3]);
}

#[test]
fn a_new_size_during_a_rollout_is_spread_in_proportion() {
    let mut world = World::new(10, "3", "2");
    world.settle("", 13, 0);
    world.spec().template = template("2");
    world.settle("2", 13, 8);
    assert_eq!(world.sizes(), [8, 5]);
    world.spec().replicas = Some(15);
    world.step();
    assert_eq!(world.sizes(), [11, 7], "upstream's documented example");
}

#[test]
fn pausing_scales_but_does_not_roll() {
    let mut world = World::new(2, "1", "0");
    world.settle("", 3, 0);
    world.spec().paused = Some(true);
    world.spec().template = template("2");
    world.spec().replicas = Some(4);
    world.settle("", 4, 2);
    assert_eq!(world.sizes(), [4]);
    assert_eq!(world.condition("Progressing").as_deref(), Some("Unknown DeploymentPaused"));
    world.spec().paused = None;
    world.settle("", 5, 4);
    assert_eq!(world.sizes(), [0, 4]);
}

#[test]
fn old_sets_beyond_the_limit_are_deleted() {
    let mut world = World::new(1, "1", "0");
    world.spec().revision_history_limit = Some(1);
    for version in ["1", "2", "3", "4"] {
        world.spec().template = template(version);
        world.settle("", 2, 0);
    }
    assert_eq!(world.sizes(), [0, 1]);
    assert_eq!(world.revision(), Some("4"));
}
