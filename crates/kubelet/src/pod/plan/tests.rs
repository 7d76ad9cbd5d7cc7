//! What a pod's worker does next, from what its spec wants and what the runtime has.

use super::*;
use crate::runtime::SandboxRecord;
use serde_json::json;

fn pod(policy: &str, init: &[(&str, bool)], regular: &[&str]) -> Pod {
    let init: Vec<_> = init
        .iter()
        .map(|(name, sidecar)| if *sidecar { json!({"name": name, "restartPolicy": "Always"}) } else { json!({"name": name}) })
        .collect();
    let regular: Vec<_> = regular.iter().map(|name| json!({"name": name})).collect();
    serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"},
        "spec": {"restartPolicy": policy, "initContainers": init, "containers": regular}}))
    .unwrap()
}

fn record(name: &str, state: State, exit_code: i32) -> ContainerRecord {
    ContainerRecord {
        id: format!("id-{name}"),
        name: name.into(),
        state,
        image: String::new(),
        image_ref: String::new(),
        hash: container_hash(&Container { name: name.into(), ..Container::default() }),
        restart_count: 0,
        created_ns: 1,
        started_ns: 1,
        finished_ns: 0,
        exit_code,
        reason: String::new(),
        message: String::new(),
        log_path: String::new(),
        annotations: Default::default(),
        mounts: vec![],
        user: None,
    }
}

fn running(names: &[ContainerRecord]) -> RuntimePod {
    let sandbox =
        SandboxRecord { id: "s".into(), ready: true, created_ns: 1, attempt: 0, ips: vec!["10.0.0.1".into()], host_network: false };
    RuntimePod { sandboxes: vec![sandbox], containers: names.to_vec() }
}

#[test]
fn a_new_pod_gets_a_sandbox_and_its_first_containers() {
    let plan_of = |pod: &Pod| plan(pod, &RuntimePod::default(), &Results::default());
    let plain = plan_of(&pod("Always", &[], &["a", "b"]));
    assert_eq!(plain.create_sandbox, Some(0));
    assert_eq!(plain.start, [Slot::Regular(0), Slot::Regular(1)]);
    assert_eq!(plan_of(&pod("Always", &[("i", false)], &["a"])).start, [Slot::Init(0)]);
}

#[test]
fn what_is_started_in_a_ready_sandbox() {
    use State::{Exited, Running};
    let check = |policy: &str, init: &[(&str, bool)], regular: &[&str], there: &[ContainerRecord], start: &[Slot], kill_pod: bool| {
        let got = plan(&pod(policy, init, regular), &running(there), &Results::default());
        assert_eq!((got.start.as_slice(), got.kill_pod), (start, kill_pod), "{policy} {init:?} {there:?}");
    };
    let one = [("i", false)];
    check("Always", &[], &["a", "b"], &[record("a", Running, 0)], &[Slot::Regular(1)], false);
    check("Always", &[], &["a"], &[record("a", Exited, 0)], &[Slot::Regular(0)], false);
    check("OnFailure", &[], &["a"], &[record("a", Exited, 0)], &[], true);
    check("OnFailure", &[], &["a"], &[record("a", Exited, 3)], &[Slot::Regular(0)], false);
    check("Never", &[], &["a", "b"], &[record("a", Exited, 1), record("b", Running, 0)], &[], false);
    check("Always", &one, &["a"], &[record("i", Running, 0)], &[], false);
    check("Always", &one, &["a"], &[record("i", Exited, 0)], &[Slot::Regular(0)], false);
    check("Always", &one, &["a"], &[record("i", Exited, 1)], &[Slot::Init(0)], false);
    check("Never", &one, &["a"], &[record("i", Exited, 1)], &[], true);
    // A sidecar that runs lets the next ones start; one that ended is started again beside the main containers.
    let sidecar = [("s", true), ("i", false)];
    check("Always", &sidecar, &["a"], &[record("s", Running, 0)], &[Slot::Init(1)], false);
    check("Always", &sidecar, &["a"], &[record("s", Running, 0), record("i", Exited, 0)], &[Slot::Regular(0)], false);
    let there = [record("s", Exited, 0), record("i", Exited, 0), record("a", Running, 0)];
    check("Always", &sidecar, &["a"], &there, &[Slot::Init(0)], false);
    let done = [record("s", Running, 0), record("i", Exited, 0), record("a", Exited, 0)];
    check("Never", &sidecar, &["a"], &done, &[], true);
}

#[test]
fn failed_probes_kill_and_restart_where_the_policy_allows() {
    let mut probes = Results::default();
    probes.liveness.insert("id-a".into(), false);
    let always = plan(&pod("Always", &[], &["a"]), &running(&[record("a", State::Running, 0)]), &probes);
    assert_eq!(always.kill[0].message, "Container a failed liveness probe, will be restarted");
    assert_eq!(always.start, [Slot::Regular(0)]);
    let never = plan(&pod("Never", &[], &["a"]), &running(&[record("a", State::Running, 0)]), &probes);
    assert_eq!(never.kill[0].message, "Container a failed liveness probe");
    assert!(never.start.is_empty());
}

#[test]
fn a_dead_sandbox_is_replaced_unless_nothing_may_run_again() {
    let mut there = running(&[record("a", State::Exited, 1)]);
    there.sandboxes[0].ready = false;
    let replaced = plan(&pod("Always", &[], &["a"]), &there, &Results::default());
    assert_eq!((replaced.create_sandbox, replaced.kill_pod), (Some(1), true));
    let over = plan(&pod("Never", &[], &["a"]), &there, &Results::default());
    assert_eq!((over.create_sandbox, over.kill_pod), (None, true));
}

#[test]
fn a_changed_image_restarts() {
    let mut changed = record("a", State::Running, 0);
    changed.hash = 7;
    let got = plan(&pod("Never", &[], &["a"]), &running(&[changed]), &Results::default());
    assert_eq!(got.kill[0].message, "Container a definition changed, will be restarted");
    assert_eq!(got.start, [Slot::Regular(0)]);
}
