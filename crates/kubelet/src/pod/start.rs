//! Starting one container in a ready sandbox: image, configuration, create, start, postStart hook (startContainer in
//! pkg/kubelet/kuberuntime/kuberuntime_container.go).

use std::path::Path;

use api::core::v1::{Container, Pod};
use client::EventType;
use k8s_cri::v1 as pb;

use super::container_config::{self, ContainerContext};
use super::downward::Addresses;
use super::env::{self, EnvContext};
use super::images::{Failure, Present};
use super::sandbox_config::{self, SandboxContext};
use super::{Slot, described, hooks, kill, name, namespace, security, spec, uid};
use crate::context::Context;
use crate::runtime::RuntimePod;
use crate::volumes::Mounted;

/// The sandbox a container is started in.
pub struct Place<'a> {
    pub sandbox_id: &'a str,
    pub sandbox_config: &'a pb::PodSandboxConfig,
    pub pod_ips: &'a [String],
    pub mounted: &'a Mounted,
    pub runtime: &'a RuntimePod,
}

pub fn profiles(context: &Context) -> (std::path::PathBuf, bool) {
    (context.settings.root_dir.join("seccomp"), context.settings.seccomp_default)
}

/// The CRI configuration of the pod's sandbox.
pub fn sandbox(context: &Context, pod: &Pod, attempt: u32) -> Result<pb::PodSandboxConfig, String> {
    let settings = &context.settings;
    let (seccomp_root, seccomp_default) = profiles(context);
    let sandbox_context = SandboxContext {
        cluster_dns: &settings.cluster_dns,
        cluster_domain: &settings.cluster_domain,
        resolv_conf: &settings.resolv_conf,
        logs_dir: &settings.pod_logs_dir,
        cgroup_parent: crate::cgroups::pod_parent(settings, pod),
        profiles: security::Profiles { seccomp_root: &seccomp_root, seccomp_default },
    };
    sandbox_config::make(pod, attempt, &sandbox_context)
}

/// Starts the container; a failure is its waiting reason and has been reported as an event.
pub async fn container(context: &Context, pod: &Pod, slot: Slot, place: &Place<'_>) -> Result<(), Failure> {
    let Some((container, field)) = super::container_at(pod, slot) else {
        return Err(Failure::new("CreateContainerConfigError", "the container is not in the pod's spec"));
    };
    let result = try_container(context, pod, &container, &field, slot, place).await;
    if let Err(failure) = &result {
        let note = match failure.reason {
            "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" | "ImageInspectError" => failure.reason,
            "PostStartHookError" => return result,
            _ => failure.message.as_str(),
        };
        context.event(pod, Some(&field), EventType::Warning, "Failed", format!("Error: {note}"));
    }
    result
}

async fn try_container(
    context: &Context,
    pod: &Pod,
    container: &Container,
    field: &str,
    slot: Slot,
    place: &Place<'_>,
) -> Result<(), Failure> {
    let image = context.images.ensure(context, pod, container, field, place.sandbox_config).await?;
    let config =
        configure(context, pod, container, slot, place, image).await.map_err(|cause| Failure::new("CreateContainerConfigError", cause))?;
    let log_path = Path::new(&place.sandbox_config.log_directory).join(&config.log_path);
    let id = context
        .cri
        .create_container(place.sandbox_id, config, place.sandbox_config.clone())
        .await
        .map_err(|error| Failure::new("CreateContainerError", error.to_string()))?;
    context.event(pod, Some(field), EventType::Normal, "Created", format!("Created container: {}", container.name));
    context.cri.start_container(&id).await.map_err(|error| Failure::new("RunContainerError", error.to_string()))?;
    context.event(pod, Some(field), EventType::Normal, "Started", format!("Started container {}", container.name));
    link_log(context, pod, container, &id, &log_path);
    post_start(context, pod, container, field, &id, place).await
}

/// `/var/log/containers/POD_NAMESPACE_CONTAINER-ID.log`, which log collectors follow.
fn link_log(context: &Context, pod: &Pod, container: &Container, id: &str, log_path: &Path) {
    let Some(folder) = context.settings.pod_logs_dir.parent().map(|parent| parent.join("containers")) else { return };
    let link = folder.join(format!("{}_{}_{}-{id}.log", name(pod), namespace(pod), container.name));
    let linked = std::fs::create_dir_all(&folder).and_then(|()| std::os::unix::fs::symlink(log_path, &link));
    if let Err(error) = linked.or_else(|error| if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }) {
        tracing::warn!(link = %link.display(), %error, "the container's log link cannot be made");
    }
}

async fn post_start(context: &Context, pod: &Pod, container: &Container, field: &str, id: &str, place: &Place<'_>) -> Result<(), Failure> {
    let Some(handler) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref()) else { return Ok(()) };
    let ip = place.pod_ips.first().map(String::as_str).unwrap_or_default();
    let ports = container.ports.as_deref().unwrap_or_default();
    let Err(cause) = hooks::run(&context.cri, handler, id, ip, ports).await else { return Ok(()) };
    tracing::warn!(pod = described(pod), container = container.name, cause, "the postStart hook failed");
    context.event(pod, Some(field), EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
    context.event(pod, Some(field), EventType::Normal, "Killing", "FailedPostStartHook");
    if let Err(error) = context.cri.stop_container(id, kill::pod_grace(pod)).await {
        tracing::warn!(pod = described(pod), container = container.name, %error, "the container whose hook failed cannot be stopped");
    }
    Err(Failure::new("PostStartHookError", format!("PostStartHook failed: {cause}")))
}

async fn configure(
    context: &Context,
    pod: &Pod,
    container: &Container,
    slot: Slot,
    place: &Place<'_>,
    image: Present,
) -> Result<pb::ContainerConfig, String> {
    security::verify_non_root(pod, container, image.uid, &image.user)?;
    let machine = context.machine.read().clone();
    let host_network = spec(pod).host_network.unwrap_or(false);
    let pod_ips = if host_network { machine.addresses.clone() } else { place.pod_ips.to_vec() };
    let addresses = Addresses { host_ips: machine.addresses.clone(), pod_ips: pod_ips.clone() };
    let services = if context.services.is_synced() {
        context.services.list()
    } else {
        return Err("services have not yet been read at least once, cannot construct envvars".into());
    };
    let env_context =
        EnvContext { objects: &context.objects, services: &services, addresses: &addresses, allocatable: &machine.allocatable };
    let env = env::make(pod, container, &env_context).await?;
    let (seccomp_root, seccomp_default) = profiles(context);
    let config_context = ContainerContext {
        root_dir: &context.settings.root_dir,
        cluster_domain: &context.settings.cluster_domain,
        profiles: security::Profiles { seccomp_root: &seccomp_root, seccomp_default },
        memory_capacity: machine.memory_bytes,
        cpu_cfs_quota: context.settings.cpu_cfs_quota,
        mounted: place.mounted,
        pod_ips: &pod_ips,
        image_ref: image.id,
        image_user: (image.uid, image.user),
        restart_count: restart_count(context, pod, container, place),
        target_id: target_id(pod, slot, place.runtime)?,
    };
    container_config::make(pod, container, slot, env, &config_context)
}

/// One more than the last start; where the runtime forgot it, the log folder remembers.
fn restart_count(context: &Context, pod: &Pod, container: &Container, place: &Place<'_>) -> i32 {
    if let Some(record) = place.runtime.container(&container.name) {
        return record.restart_count + 1;
    }
    let folder = sandbox_config::log_directory(&context.settings.pod_logs_dir, pod).join(&container.name);
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let number = |entry: std::fs::DirEntry| entry.file_name().to_str()?.split('.').next()?.parse::<i32>().ok();
    entries.filter_map(Result::ok).filter_map(number).max().map_or(0, |last| last + 1)
}

/// The running container that an ephemeral one wants to look into.
fn target_id(pod: &Pod, slot: Slot, runtime: &RuntimePod) -> Result<Option<String>, String> {
    let Slot::Ephemeral(index) = slot else { return Ok(None) };
    let target = spec(pod).ephemeral_containers.iter().flatten().nth(index).and_then(|e| e.target_container_name.clone());
    let Some(target) = target.filter(|name| !name.is_empty()) else { return Ok(None) };
    match runtime.container(&target) {
        Some(record) if record.is_running() => Ok(Some(record.id.clone())),
        _ => Err(format!("unable to find target container {target}")),
    }
}

/// The pod's own folders.
pub fn make_pod_dirs(context: &Context, pod: &Pod) -> Result<(), String> {
    let root = crate::paths::pod(&context.settings.root_dir, uid(pod));
    for folder in ["volumes", "plugins", "containers"] {
        let path = root.join(folder);
        std::fs::create_dir_all(&path).map_err(|error| format!("mkdir {}: {error}", path.display()))?;
    }
    let logs = sandbox_config::log_directory(&context.settings.pod_logs_dir, pod);
    std::fs::create_dir_all(&logs).map_err(|error| format!("mkdir {}: {error}", logs.display()))
}
