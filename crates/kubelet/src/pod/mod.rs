//! One pod: what is wanted, what is there, what to do next, and the worker that does it.

pub mod container_config;
pub mod container_status;
pub mod downward;
pub mod env;
pub mod expand;
pub mod hooks;
pub mod images;
pub mod kill;
pub mod phase;
pub mod plan;
pub mod resources;
pub mod restart;
pub mod sandbox_config;
pub mod security;
pub mod start;
pub mod status;
pub mod worker;

use std::sync::LazyLock;

use api::core::v1::{Container, Pod, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

static NO_SPEC: LazyLock<PodSpec> = LazyLock::new(PodSpec::default);
static NO_STATUS: LazyLock<PodStatus> = LazyLock::new(PodStatus::default);

/// The pod's spec; an absent one is an empty one.
pub fn spec(pod: &Pod) -> &PodSpec {
    pod.spec.as_ref().unwrap_or(&NO_SPEC)
}

pub fn api_status(pod: &Pod) -> &PodStatus {
    pod.status.as_ref().unwrap_or(&NO_STATUS)
}

pub fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

pub fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

pub fn namespace(pod: &Pod) -> &str {
    pod.metadata.namespace.as_deref().unwrap_or_default()
}

/// `name_namespace(uid)`, as upstream's messages name a pod.
pub fn described(pod: &Pod) -> String {
    format!("{}_{}({})", name(pod), namespace(pod), uid(pod))
}

pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, crate::runtime::labels::CONFIG_SOURCE).is_some_and(|source| source != "api")
}

pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, crate::runtime::labels::CONFIG_MIRROR).is_some()
}

pub fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

pub fn init_containers(pod: &Pod) -> &[Container] {
    spec(pod).init_containers.as_deref().unwrap_or_default()
}

pub fn regular_containers(pod: &Pod) -> &[Container] {
    &spec(pod).containers
}

/// Ephemeral containers in the shape of the others: they share all fields but `targetContainerName`.
pub fn ephemeral_containers(pod: &Pod) -> Vec<Container> {
    let list = spec(pod).ephemeral_containers.as_deref().unwrap_or_default();
    list.iter()
        .map(|e| Container {
            args: e.args.clone(),
            command: e.command.clone(),
            env: e.env.clone(),
            env_from: e.env_from.clone(),
            image: e.image.clone(),
            image_pull_policy: e.image_pull_policy.clone(),
            name: e.name.clone(),
            resources: e.resources.clone(),
            security_context: e.security_context.clone(),
            stdin: e.stdin,
            stdin_once: e.stdin_once,
            termination_message_path: e.termination_message_path.clone(),
            termination_message_policy: e.termination_message_policy.clone(),
            tty: e.tty,
            volume_mounts: e.volume_mounts.clone(),
            working_dir: e.working_dir.clone(),
            ..Container::default()
        })
        .collect()
}

/// An init container that keeps running beside the main ones (KEP-753).
pub fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Where a container stands in the spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    Init(usize),
    Regular(usize),
    Ephemeral(usize),
}

/// The container of a slot and the spec field that events name.
pub fn container_at(pod: &Pod, slot: Slot) -> Option<(Container, String)> {
    let (container, field) = match slot {
        Slot::Init(i) => (init_containers(pod).get(i)?.clone(), "initContainers"),
        Slot::Regular(i) => (regular_containers(pod).get(i)?.clone(), "containers"),
        Slot::Ephemeral(i) => (ephemeral_containers(pod).get(i)?.clone(), "ephemeralContainers"),
    };
    let path = format!("spec.{field}{{{}}}", container.name);
    Some((container, path))
}

/// Every slot in the order upstream visits them.
pub fn slots(pod: &Pod) -> impl Iterator<Item = Slot> + use<> {
    let ephemeral = spec(pod).ephemeral_containers.as_ref().map_or(0, Vec::len);
    let init = (0..init_containers(pod).len()).map(Slot::Init);
    let regular = (0..regular_containers(pod).len()).map(Slot::Regular);
    init.chain(regular).chain((0..ephemeral).map(Slot::Ephemeral))
}

pub fn find_container(pod: &Pod, name: &str) -> Option<(Container, Slot, String)> {
    slots(pod).find_map(|slot| {
        let (container, path) = container_at(pod, slot)?;
        (container.name == name).then_some((container, slot, path))
    })
}

/// Now, in the whole seconds that the API keeps.
pub fn api_now() -> Time {
    api_time(base::clock::now())
}

pub fn api_time(at: jiff::Timestamp) -> Time {
    Time(jiff::Timestamp::from_second(at.as_second()).expect("a second of a timestamp is a timestamp"))
}

/// A CRI time (Unix nanoseconds) as the API shows it; `None` when it has not happened.
pub fn from_nanos(nanos: i64) -> Option<Time> {
    if nanos <= 0 {
        return None;
    }
    jiff::Timestamp::from_nanosecond(i128::from(nanos)).ok().map(api_time)
}

/// Reached a phase that never ends.
pub fn is_terminal_phase(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}
