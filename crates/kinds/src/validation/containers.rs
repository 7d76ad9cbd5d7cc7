//! Rules on containers of pods: main, init and ephemeral ones (pkg/apis/core/validation: ValidateContainers and friends).

use api::core::v1::{Container, ContainerPort, EphemeralContainer, PodSpec, VolumeDevice, VolumeMount};
use api::{FieldErrors, Path, names};

use super::{each, each_int, env, one_of, one_of_present, probes, required, required_text, resources, security};

/// What the rules of a container need to know of its pod.
pub struct Pod<'a> {
    pub volumes: Vec<Volume<'a>>,
    pub claims: Vec<&'a str>,
    pub host_network: bool,
    pub grace_seconds: Option<i64>,
}

pub struct Volume<'a> {
    pub name: &'a str,
    /// A claim: it may be a block device.
    pub may_be_device: bool,
}

impl<'a> Pod<'a> {
    pub fn of(spec: &'a PodSpec) -> Self {
        let volumes = spec.volumes.iter().flatten();
        let volumes = volumes
            .map(|volume| Volume {
                name: &volume.name,
                may_be_device: volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some(),
            })
            .collect();
        Self {
            volumes,
            claims: spec.resource_claims.iter().flatten().map(|claim| claim.name.as_str()).collect(),
            host_network: spec.host_network == Some(true),
            grace_seconds: spec.termination_grace_period_seconds,
        }
    }
}

/// All containers of a pod.
pub fn containers(errors: &mut FieldErrors, path: &Path, spec: &PodSpec) {
    let pod = Pod::of(spec);
    let main_path = path.child("containers");
    if spec.containers.is_empty() {
        errors.required(&main_path, "");
    }
    let mut names: Vec<&str> = Vec::new();
    let mut host_ports = Vec::new();
    for (index, container) in spec.containers.iter().enumerate() {
        let path = main_path.index(index);
        container_rules(errors, &path, container, &pod);
        unique(errors, &path.child("name"), &container.name, &mut names);
        conflicting_host_ports(errors, &path.child("ports"), container, &mut host_ports);
        one_of_present(errors, &path.child("restartPolicy"), container.restart_policy.as_deref(), &["Always", "Never", "OnFailure"]);
    }
    for (index, container) in spec.init_containers.iter().flatten().enumerate() {
        let path = path.child("initContainers").index(index);
        container_rules(errors, &path, container, &pod);
        unique(errors, &path.child("name"), &container.name, &mut names);
        init_container(errors, &path, container, &mut host_ports);
    }
    ephemeral_containers(errors, &path.child("ephemeralContainers"), spec, &pod, &mut names);
}

fn unique<'a>(errors: &mut FieldErrors, path: &Path, name: &'a str, seen: &mut Vec<&'a str>) {
    if seen.contains(&name) {
        errors.duplicate(path, name);
    } else {
        seen.push(name);
    }
}

fn init_container<'a>(errors: &mut FieldErrors, path: &Path, container: &'a Container, host_ports: &mut Vec<(&'a str, &'a str, i32)>) {
    one_of_present(errors, &path.child("restartPolicy"), container.restart_policy.as_deref(), &["Always", "Never", "OnFailure"]);
    if container.restart_policy.as_deref() == Some("Always") {
        conflicting_host_ports(errors, &path.child("ports"), container, host_ports);
        return;
    }
    let detail = "may not be set for init containers without restartPolicy=Always";
    for (name, there) in [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ] {
        if there {
            errors.forbidden(&path.child(name), detail);
        }
    }
}

fn ephemeral_containers<'a>(errors: &mut FieldErrors, path: &Path, spec: &'a PodSpec, pod: &Pod<'_>, names: &mut Vec<&'a str>) {
    for (index, container) in spec.ephemeral_containers.iter().flatten().enumerate() {
        let path = path.index(index);
        container_rules(errors, &path, &as_container(container), pod);
        unique(errors, &path.child("name"), &container.name, names);
        let target = container.target_container_name.as_deref().unwrap_or_default();
        let known = |name: &str| spec.containers.iter().chain(spec.init_containers.iter().flatten()).any(|c| c.name == name);
        if !target.is_empty() && !known(target) {
            errors.not_found(&path.child("targetContainerName"), target);
        }
        for (name, there) in [
            ("ports", container.ports.as_ref().is_some_and(|list| !list.is_empty())),
            ("livenessProbe", container.liveness_probe.is_some()),
            ("readinessProbe", container.readiness_probe.is_some()),
            ("startupProbe", container.startup_probe.is_some()),
            ("lifecycle", container.lifecycle.is_some()),
            ("resources", container.resources.as_ref().is_some_and(|r| r.limits.is_some() || r.requests.is_some())),
        ] {
            if there {
                errors.forbidden(&path.child(name), "cannot be set for an Ephemeral Container");
            }
        }
    }
}

/// The parts that an ephemeral container has in common with others.
pub fn as_container(container: &EphemeralContainer) -> Container {
    let c = container.clone();
    Container {
        args: c.args,
        command: c.command,
        env: c.env,
        env_from: c.env_from,
        image: c.image,
        image_pull_policy: c.image_pull_policy,
        lifecycle: None,
        liveness_probe: None,
        name: c.name,
        ports: None,
        readiness_probe: None,
        resize_policy: c.resize_policy,
        resources: None,
        restart_policy: c.restart_policy,
        restart_policy_rules: c.restart_policy_rules,
        security_context: c.security_context,
        startup_probe: None,
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path,
        termination_message_policy: c.termination_message_policy,
        tty: c.tty,
        volume_devices: c.volume_devices,
        volume_mounts: c.volume_mounts,
        working_dir: c.working_dir,
    }
}

fn container_rules(errors: &mut FieldErrors, path: &Path, container: &Container, pod: &Pod<'_>) {
    required_text(errors, &path.child("name"), &container.name, names::dns_label);
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        errors.required(&path.child("image"), "");
    } else if image.trim() != image {
        errors.invalid(&path.child("image"), image, "must not have leading or trailing whitespace");
    }
    one_of(
        errors,
        &path.child("terminationMessagePolicy"),
        container.termination_message_policy.as_deref(),
        &["File", "FallbackToLogsOnError"],
    );
    ports(errors, &path.child("ports"), container.ports.as_deref().unwrap_or_default(), pod.host_network);
    env::env(errors, &path.child("env"), container.env.as_deref().unwrap_or_default());
    env::env_from(errors, &path.child("envFrom"), container.env_from.as_deref().unwrap_or_default());
    mounts(errors, &path.child("volumeMounts"), container, pod);
    devices(errors, &path.child("volumeDevices"), container, pod);
    one_of(errors, &path.child("imagePullPolicy"), container.image_pull_policy.as_deref(), &["Always", "IfNotPresent", "Never"]);
    resources::requirements(errors, &path.child("resources"), container.resources.as_ref(), &pod.claims);
    resize_policy(errors, &path.child("resizePolicy"), container);
    security::container(errors, &path.child("securityContext"), container.security_context.as_ref());
    probes::container(errors, path, container, pod.grace_seconds);
}

fn resize_policy(errors: &mut FieldErrors, path: &Path, container: &Container) {
    for (index, policy) in container.resize_policy.iter().flatten().enumerate() {
        let path = path.index(index);
        one_of(errors, &path.child("resourceName"), Some(&policy.resource_name), &["cpu", "memory"]);
        one_of(errors, &path.child("restartPolicy"), Some(&policy.restart_policy), &["NotRequired", "RestartContainer"]);
    }
}

fn ports(errors: &mut FieldErrors, path: &Path, ports: &[ContainerPort], host_network: bool) {
    let mut names = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        let path = path.index(index);
        if let Some(name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            let problems = names::port_name(name);
            if problems.is_empty() {
                unique(errors, &path.child("name"), name, &mut names);
            }
            each(errors, &path.child("name"), name, problems);
        }
        if port.container_port == 0 {
            errors.required(&path.child("containerPort"), "");
        } else {
            let problems = names::port_number(port.container_port);
            each_int(errors, &path.child("containerPort"), i64::from(port.container_port), problems);
        }
        let host_port = port.host_port.unwrap_or(0);
        if host_port != 0 {
            each_int(errors, &path.child("hostPort"), i64::from(host_port), names::port_number(host_port));
        }
        if host_network && host_port != 0 && host_port != port.container_port {
            let detail = "must match `hostPort` when `hostNetwork` is true";
            errors.invalid(&path.child("containerPort"), port.container_port, detail);
        }
        one_of(errors, &path.child("protocol"), port.protocol.as_deref(), &["SCTP", "TCP", "UDP"]);
    }
}

fn conflicting_host_ports<'a>(errors: &mut FieldErrors, path: &Path, container: &'a Container, seen: &mut Vec<(&'a str, &'a str, i32)>) {
    for (index, port) in container.ports.iter().flatten().enumerate() {
        let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
        let key = (port.protocol.as_deref().unwrap_or_default(), port.host_ip.as_deref().unwrap_or_default(), host_port);
        if seen.contains(&key) {
            let text = format!("{}/{}/{}", key.0, key.1, key.2);
            errors.duplicate(&path.index(index).child("hostPort"), text);
        } else {
            seen.push(key);
        }
    }
}

fn mounts(errors: &mut FieldErrors, path: &Path, container: &Container, pod: &Pod<'_>) {
    let list: &[VolumeMount] = container.volume_mounts.as_deref().unwrap_or_default();
    let mut points: Vec<&str> = Vec::new();
    for (index, mount) in list.iter().enumerate() {
        let path = path.index(index);
        if mount.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if !pod.volumes.iter().any(|volume| volume.name == mount.name) {
            errors.not_found(&path.child("name"), &mount.name);
        }
        required(errors, &path.child("mountPath"), &mount.mount_path, "");
        if points.contains(&mount.mount_path.as_str()) {
            errors.invalid(&path.child("mountPath"), &mount.mount_path, "must be unique");
        }
        points.push(&mount.mount_path);
        if container.volume_devices.iter().flatten().any(|device| device.name == mount.name) {
            errors.invalid(&path.child("name"), &mount.name, "must not already exist in volumeDevices");
        }
        sub_paths(errors, &path, mount);
        propagation(errors, &path, mount, container);
    }
}

fn sub_paths(errors: &mut FieldErrors, path: &Path, mount: &VolumeMount) {
    if let Some(sub_path) = mount.sub_path.as_deref().filter(|text| !text.is_empty()) {
        super::volumes::descending_path(errors, &path.child("subPath"), sub_path);
    }
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
        if mount.sub_path.as_deref().is_some_and(|text| !text.is_empty()) {
            errors.invalid(&path.child("subPathExpr"), expression, "subPathExpr and subPath are mutually exclusive");
        }
        super::volumes::descending_path(errors, &path.child("subPathExpr"), expression);
    }
}

fn propagation(errors: &mut FieldErrors, path: &Path, mount: &VolumeMount, container: &Container) {
    let privileged = container.security_context.as_ref().and_then(|context| context.privileged) == Some(true);
    let propagation = mount.mount_propagation.as_deref();
    let path = path.child("mountPropagation");
    one_of_present(errors, &path, propagation, &["Bidirectional", "HostToContainer", "None"]);
    if propagation == Some("Bidirectional") && !privileged {
        errors.forbidden(&path, "Bidirectional mount propagation is available only to privileged containers");
    }
}

fn devices(errors: &mut FieldErrors, path: &Path, container: &Container, pod: &Pod<'_>) {
    let list: &[VolumeDevice] = container.volume_devices.as_deref().unwrap_or_default();
    let (mut points, mut names): (Vec<&str>, Vec<&str>) = (Vec::new(), Vec::new());
    for (index, device) in list.iter().enumerate() {
        let path = path.index(index);
        let volume = pod.volumes.iter().find(|volume| volume.name == device.name);
        if device.name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if names.contains(&device.name.as_str()) {
            errors.invalid(&path.child("name"), &device.name, "must be unique");
        } else if volume.is_none() {
            errors.not_found(&path.child("name"), &device.name);
        } else if volume.is_some_and(|volume| !volume.may_be_device) {
            let detail = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.invalid(&path.child("name"), &device.name, detail);
        }
        required(errors, &path.child("devicePath"), &device.device_path, "");
        if points.contains(&device.device_path.as_str()) {
            errors.invalid(&path.child("devicePath"), &device.device_path, "must be unique");
        }
        points.push(&device.device_path);
        names.push(&device.name);
    }
}
