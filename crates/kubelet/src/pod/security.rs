//! Security contexts in the runtime's terms. Pure (pkg/kubelet/kuberuntime/security_context.go, pkg/securitycontext).

use std::path::Path;

use api::core::v1::{AppArmorProfile, Container, Pod, SeccompProfile, SecurityContext};
use k8s_cri::v1 as pb;

use super::{Slot, spec};
use pb::security_profile::ProfileType;

/// /proc and /sys paths hidden from, or read-only in, a container without `procMount: Unmasked`.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// What of the node decides on profiles.
pub struct Profiles<'a> {
    /// Localhost seccomp profiles are below it.
    pub seccomp_root: &'a Path,
    /// A container without a profile gets RuntimeDefault.
    pub seccomp_default: bool,
}

fn context(container: &Container) -> SecurityContext {
    container.security_context.clone().unwrap_or_default()
}

fn id(value: Option<i64>) -> Option<pb::Int64Value> {
    value.map(|value| pb::Int64Value { value })
}

/// The namespaces of a pod's sandbox.
pub fn pod_namespaces(pod: &Pod) -> pb::NamespaceOption {
    let spec = spec(pod);
    let mode = |host: Option<bool>, otherwise| if host.unwrap_or(false) { pb::NamespaceMode::Node } else { otherwise };
    let pid = if spec.share_process_namespace.unwrap_or(false) { pb::NamespaceMode::Pod } else { pb::NamespaceMode::Container };
    pb::NamespaceOption {
        network: mode(spec.host_network, pb::NamespaceMode::Pod).into(),
        pid: mode(spec.host_pid, pid).into(),
        ipc: mode(spec.host_ipc, pb::NamespaceMode::Pod).into(),
        target_id: String::new(),
        userns_options: None,
    }
}

fn supplemental_groups(pod: &Pod) -> (Vec<i64>, pb::SupplementalGroupsPolicy) {
    let context = spec(pod).security_context.clone().unwrap_or_default();
    let mut groups = context.supplemental_groups.unwrap_or_default();
    groups.extend(context.fs_group);
    let strict = context.supplemental_groups_policy.as_deref() == Some("Strict");
    (groups, if strict { pb::SupplementalGroupsPolicy::Strict } else { pb::SupplementalGroupsPolicy::Merge })
}

fn seccomp(profile: Option<&SeccompProfile>, profiles: &Profiles<'_>) -> pb::SecurityProfile {
    let plain = |kind: ProfileType| pb::SecurityProfile { profile_type: kind.into(), localhost_ref: String::new() };
    match profile.map(|profile| profile.type_.as_str()) {
        None if profiles.seccomp_default => plain(ProfileType::RuntimeDefault),
        None | Some("Unconfined") => plain(ProfileType::Unconfined),
        Some("Localhost") => {
            let file = profile.and_then(|profile| profile.localhost_profile.clone()).unwrap_or_default();
            let localhost_ref = profiles.seccomp_root.join(file).to_string_lossy().into_owned();
            pb::SecurityProfile { profile_type: ProfileType::Localhost.into(), localhost_ref }
        }
        Some(_) => plain(ProfileType::RuntimeDefault),
    }
}

/// `None` leaves it to the runtime, which applies its default where the host has AppArmor.
fn apparmor(profile: Option<&AppArmorProfile>) -> Option<pb::SecurityProfile> {
    let profile = profile?;
    let (kind, localhost_ref) = match profile.type_.as_str() {
        "Localhost" => (ProfileType::Localhost, profile.localhost_profile.clone().unwrap_or_default()),
        "Unconfined" => (ProfileType::Unconfined, String::new()),
        _ => (ProfileType::RuntimeDefault, String::new()),
    };
    Some(pb::SecurityProfile { profile_type: kind.into(), localhost_ref })
}

/// A pod is privileged to the sandbox when one of its containers is.
fn any_privileged(pod: &Pod) -> bool {
    super::init_containers(pod).iter().chain(super::regular_containers(pod)).any(|container| context(container).privileged.unwrap_or(false))
}

pub fn sandbox(pod: &Pod, profiles: &Profiles<'_>) -> pb::LinuxSandboxSecurityContext {
    let context = spec(pod).security_context.clone().unwrap_or_default();
    let (supplemental_groups, policy) = supplemental_groups(pod);
    // The pause process itself always runs under the default profile (kuberuntime_sandbox.go).
    let privileged = any_privileged(pod);
    let seccomp = match privileged {
        true => seccomp(context.seccomp_profile.as_ref(), profiles),
        false => pb::SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), localhost_ref: String::new() },
    };
    pb::LinuxSandboxSecurityContext {
        namespace_options: Some(pod_namespaces(pod)),
        run_as_user: id(context.run_as_user),
        run_as_group: id(context.run_as_group).filter(|_| context.run_as_user.is_some()),
        supplemental_groups,
        supplemental_groups_policy: policy.into(),
        privileged,
        seccomp: Some(seccomp),
        selinux_options: context.se_linux_options.as_ref().map(selinux),
        ..Default::default()
    }
}

fn selinux(options: &api::core::v1::SELinuxOptions) -> pb::SeLinuxOption {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    pb::SeLinuxOption { user: text(&options.user), role: text(&options.role), r#type: text(&options.type_), level: text(&options.level) }
}

/// The user that the container runs as, if the spec says it.
pub fn run_as_user(pod: &Pod, container: &Container) -> Option<i64> {
    context(container).run_as_user.or(spec(pod).security_context.as_ref().and_then(|context| context.run_as_user))
}

/// Checks `runAsNonRoot` against the spec and the image's user (kuberuntime/security_context_others.go).
pub fn verify_non_root(pod: &Pod, container: &Container, image_uid: Option<i64>, image_user: &str) -> Result<(), String> {
    let pod_context = spec(pod).security_context.as_ref();
    let wanted = context(container).run_as_non_root.or(pod_context.and_then(|context| context.run_as_non_root));
    if !wanted.unwrap_or(false) {
        return Ok(());
    }
    let place = format!("(pod: {:?}, container: {})", super::described(pod), container.name);
    match (run_as_user(pod, container), image_uid) {
        (Some(0), _) => Err(format!("container's runAsUser breaks non-root policy {place}")),
        (Some(_), _) => Ok(()),
        (None, Some(0)) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        (None, None) if !image_user.is_empty() => {
            Err(format!("container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root {place}"))
        }
        (None, None) => Err(format!("container has runAsNonRoot and image will run as root {place}")),
        (None, Some(_)) => Ok(()),
    }
}

/// `target_id`: the container whose process namespace an ephemeral one joins. `image_user`: what the image says, used where the spec does not.
pub fn container(
    pod: &Pod,
    container: &Container,
    slot: Slot,
    target_id: Option<&str>,
    image_user: (Option<i64>, &str),
    profiles: &Profiles<'_>,
) -> pb::LinuxContainerSecurityContext {
    let own = context(container);
    let pod_context = spec(pod).security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let (supplemental_groups, policy) = supplemental_groups(pod);
    let mut namespaces = pod_namespaces(pod);
    if let (Slot::Ephemeral(_), Some(target)) = (slot, target_id) {
        namespaces.pid = pb::NamespaceMode::Target.into();
        namespaces.target_id = target.to_owned();
    }
    let user = run_as_user(pod, container);
    let unmasked = own.proc_mount.as_deref() == Some("Unmasked");
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() };
    let capabilities = own.capabilities.map(|capabilities| pb::Capability {
        add_capabilities: capabilities.add.unwrap_or_default(),
        drop_capabilities: capabilities.drop.unwrap_or_default(),
        add_ambient_capabilities: Vec::new(),
    });
    pb::LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options: Some(namespaces),
        selinux_options: own.se_linux_options.as_ref().or(pod_context.se_linux_options.as_ref()).map(selinux),
        run_as_user: id(user.or(image_user.0)),
        run_as_group: id(own.run_as_group.or(pod_context.run_as_group)),
        run_as_username: if user.is_none() && image_user.0.is_none() { image_user.1.to_owned() } else { String::new() },
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups,
        supplemental_groups_policy: policy.into(),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(own.seccomp_profile.as_ref().or(pod_context.seccomp_profile.as_ref()), profiles)),
        apparmor: apparmor(own.app_armor_profile.as_ref().or(pod_context.app_armor_profile.as_ref())),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(pod_context: Value, own: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod_context, "containers": [{"name": "c", "securityContext": own}]}}))
        .unwrap()
    }

    #[test]
    fn the_container_wins_over_the_pod() {
        let pod = pod(json!({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3}), json!({"runAsUser": 9, "allowPrivilegeEscalation": false}));
        let profiles = Profiles { seccomp_root: Path::new("/s"), seccomp_default: false };
        let got = container(&pod, &super::super::regular_containers(&pod)[0], Slot::Regular(0), None, (None, ""), &profiles);
        assert_eq!(got.run_as_user.unwrap().value, 9);
        assert_eq!(got.run_as_group.unwrap().value, 2);
        assert_eq!(got.supplemental_groups, [3]);
        assert!(got.no_new_privs && !got.privileged);
        assert_eq!(got.seccomp.unwrap().profile_type(), ProfileType::Unconfined);
    }

    #[test]
    fn non_root_is_verified() {
        let check = |pod_context: Value, own: Value, uid: Option<i64>, user: &str, expected: Option<&str>| {
            let pod = pod(pod_context, own);
            let got = verify_non_root(&pod, &super::super::regular_containers(&pod)[0], uid, user).err();
            assert_eq!(got.is_some(), expected.is_some(), "{got:?}");
            assert!(got.unwrap_or_default().starts_with(expected.unwrap_or_default()));
        };
        check(json!({}), json!({}), Some(0), "", None);
        check(json!({"runAsNonRoot": true}), json!({}), Some(0), "", Some("container has runAsNonRoot and image will run as root"));
        check(
            json!({"runAsNonRoot": true}),
            json!({}),
            None,
            "www",
            Some("container has runAsNonRoot and image has non-numeric user (www)"),
        );
        check(json!({"runAsNonRoot": true}), json!({"runAsUser": 0}), Some(5), "", Some("container's runAsUser breaks non-root policy"));
        check(json!({"runAsNonRoot": true}), json!({"runAsUser": 5}), Some(0), "", None);
    }
}
