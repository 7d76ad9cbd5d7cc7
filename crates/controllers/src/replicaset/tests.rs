//! Plans and statuses of a ReplicaSet.

use std::collections::BTreeMap;

use api::apps::v1::{ReplicaSetCondition, ReplicaSetSpec};
use api::core::v1::{PodCondition, PodSpec, PodStatus, PodTemplateSpec};
use api::meta::v1::{LabelSelector, ObjectMeta, OwnerReference, Time};
use jiff::Timestamp;

use super::*;

fn now() -> Timestamp {
    Timestamp::from_second(1_000_000).expect("in range")
}

fn labels() -> BTreeMap<String, String> {
    BTreeMap::from([("app".to_owned(), "web".to_owned())])
}

fn set(replicas: i32) -> ReplicaSet {
    let metadata = ObjectMeta { name: Some("web".into()), uid: Some("set".into()), generation: Some(3), ..ObjectMeta::default() };
    let template = PodTemplateSpec { metadata: Some(ObjectMeta { labels: Some(labels()), ..ObjectMeta::default() }), spec: None };
    let selector = LabelSelector { match_labels: Some(labels()), ..LabelSelector::default() };
    ReplicaSet {
        metadata,
        spec: Some(ReplicaSetSpec { replicas: Some(replicas), selector, template: Some(template), ..ReplicaSetSpec::default() }),
        status: None,
    }
}

/// `name[:trait]...` where a trait is `orphan`, `foreign`, `unlabelled`, `deleting`, `failed`, `ready`, or a node as `@node`.
fn pod(text: &str) -> Arc<Pod> {
    let mut parts = text.split(':');
    let name = parts.next().unwrap_or_default();
    let reference = |uid: &str| OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() };
    let metadata = ObjectMeta {
        name: Some(name.into()),
        uid: Some(name.into()),
        labels: Some(labels()),
        owner_references: Some(vec![reference("set")]),
        creation_timestamp: Some(Time(now())),
        ..ObjectMeta::default()
    };
    let mut pod =
        Pod { metadata, spec: Some(PodSpec::default()), status: Some(PodStatus { phase: Some("Running".into()), ..PodStatus::default() }) };
    for part in parts {
        let (spec, status) = (pod.spec.as_mut().unwrap(), pod.status.as_mut().unwrap());
        match part {
            "orphan" => pod.metadata.owner_references = None,
            "foreign" => pod.metadata.owner_references = Some(vec![reference("other")]),
            "unlabelled" => pod.metadata.labels = None,
            "deleting" => pod.metadata.deletion_timestamp = Some(Time(now())),
            "failed" => status.phase = Some("Failed".into()),
            "ready" => {
                let since = Some(Time(Timestamp::from_second(999_990).expect("in range")));
                let ready =
                    PodCondition { type_: "Ready".into(), status: "True".into(), last_transition_time: since, ..PodCondition::default() };
                status.conditions = Some(vec![ready]);
            }
            node => spec.node_name = Some(node.trim_start_matches('@').into()),
        }
    }
    Arc::new(pod)
}

fn snapshot(replicas: i32, pods: &[&str]) -> Snapshot {
    let pods: Vec<Arc<Pod>> = pods.iter().map(|text| pod(text)).collect();
    Snapshot { set: Arc::new(set(replicas)), selector: Selector::from_map(&labels()), related: pods.clone(), pods }
}

/// What a plan does, as `create N`, `delete NAME`, `adopt NAME`, `release NAME`.
fn check(replicas: i32, pods: &[&str], expected: &[&str]) {
    let plan = plan::plan(&snapshot(replicas, pods), now());
    let name = |pod: &Arc<Pod>| pod.metadata.name.clone().unwrap_or_default();
    let mut done: Vec<String> = plan.adopt.iter().map(|pod| format!("adopt {}", name(pod))).collect();
    done.extend(plan.release.iter().map(|pod| format!("release {}", name(pod))));
    done.extend((plan.create > 0).then(|| format!("create {}", plan.create)));
    done.extend(plan.delete.iter().map(|pod| format!("delete {}", name(pod))));
    assert_eq!(done, expected, "{replicas} of {pods:?}");
}

#[test]
fn plans() {
    check(3, &[], &["create 3"]);
    check(3, &["a", "b", "c"], &[]);
    check(2, &["a", "b:deleting", "c:failed"], &["create 1"]);
    check(1, &["a:foreign"], &["create 1"]);
    check(2, &["a", "b:orphan"], &["adopt b"]);
    check(1, &["a", "b:unlabelled"], &["release b"]);
    check(1, &["a:ready:@n", "b:@n"], &["delete b"]);
    check(1, &["a:ready:@x", "b:ready:@y", "c:ready:@y"], &["delete b", "delete c"]);
    check(0, &["a:ready:@x"], &["delete a"]);
    check(1000, &[], &["create 500"]);
}

#[test]
fn a_deleted_set_manages_nothing() {
    let mut snapshot = snapshot(3, &["a", "b:orphan"]);
    Arc::make_mut(&mut snapshot.set).metadata.deletion_timestamp = Some(Time(now()));
    let plan = plan::plan(&snapshot, now());
    assert_eq!((plan.create, plan.adopt.len(), plan.delete.len()), (0, 0, 0));
}

#[test]
fn status_counts_and_failures() {
    let mut set = set(4);
    let plan = plan::plan(&snapshot(4, &["a:ready", "b", "c:deleting", "d:orphan"]), now());
    let status = plan::status(&set, &plan, Some("no quota"), now());
    assert_eq!(
        (status.replicas, status.ready_replicas, status.available_replicas, status.terminating_replicas),
        (3, Some(1), Some(1), Some(1))
    );
    assert_eq!((status.fully_labeled_replicas, status.observed_generation), (Some(3), Some(3)));
    let expected = ReplicaSetCondition {
        type_: "ReplicaFailure".into(),
        status: "True".into(),
        reason: Some("FailedCreate".into()),
        message: Some("no quota".into()),
        last_transition_time: Some(Time(now())),
    };
    assert_eq!(status.conditions, Some(vec![expected]));
    set.status = Some(status.clone());
    assert!(plan::is_current(&set, &status));
    assert_eq!(plan::status(&set, &plan, None, now()).conditions, None);
    assert!(!plan::is_current(&set, &plan::status(&set, &plan, None, now())));
}

#[test]
fn looks_again_when_a_pod_becomes_available() {
    let mut snapshot = snapshot(1, &["a:ready"]);
    Arc::make_mut(&mut snapshot.set).spec.as_mut().unwrap().min_ready_seconds = Some(30);
    let plan = plan::plan(&snapshot, now());
    assert_eq!(plan::status(&snapshot.set, &plan, None, now()).available_replicas, Some(0));
    assert_eq!(plan::next_availability(&snapshot.set, &plan, now()).map(|delay| delay.as_secs()), Some(20));
}
