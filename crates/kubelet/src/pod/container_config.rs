//! A container in the runtime's terms: command, environment, mounts, files that the kubelet provides (/etc/hosts, the termination message).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use api::core::v1::{Container, Pod, VolumeMount};
use k8s_cri::v1 as pb;

use super::env::Environment;
use super::{Slot, expand, resources, sandbox_config, security, spec, uid};
use crate::paths;
use crate::runtime::labels;
use crate::volumes::{Mounted, subpath};

/// What a container is made from besides its spec.
pub struct ContainerContext<'a> {
    pub root_dir: &'a Path,
    pub cluster_domain: &'a str,
    pub profiles: security::Profiles<'a>,
    pub memory_capacity: i64,
    pub cpu_cfs_quota: bool,
    pub mounted: &'a Mounted,
    pub pod_ips: &'a [String],
    pub image_ref: String,
    pub image_user: (Option<i64>, String),
    pub restart_count: i32,
    pub target_id: Option<String>,
}

/// Makes the configuration, creating the files that it mounts. Errors are what CreateContainerConfigError says.
pub fn make(
    pod: &Pod,
    container: &Container,
    slot: Slot,
    env: Environment,
    context: &ContainerContext<'_>,
) -> Result<pb::ContainerConfig, String> {
    let expand = |list: &Option<Vec<String>>| -> Vec<String> {
        list.iter().flatten().map(|text| expand::expand(text, |name| env.get(name))).collect()
    };
    let (command, args) = (expand(&container.command), expand(&container.args));
    let mut mounts = volume_mounts(pod, container, &env, context)?;
    mounts.extend(hosts_mount(pod, container, &mounts, context)?);
    mounts.extend(termination_mount(pod, container, context)?);
    let attempt = u32::try_from(context.restart_count).unwrap_or(0);
    Ok(pb::ContainerConfig {
        metadata: Some(pb::ContainerMetadata { name: container.name.clone(), attempt }),
        image: Some(pb::ImageSpec {
            image: context.image_ref.clone(),
            user_specified_image: container.image.clone().unwrap_or_default(),
            ..Default::default()
        }),
        command,
        args,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        envs: env.into_list().into_iter().map(|(key, value)| pb::KeyValue { key, value }).collect(),
        mounts,
        labels: labels::container_labels(pod, container),
        annotations: labels::container_annotations(pod, container, context.restart_count),
        log_path: format!("{}/{}.log", container.name, context.restart_count),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        tty: container.tty.unwrap_or(false),
        linux: Some(pb::LinuxContainerConfig {
            resources: Some(resources::to_cri(pod, container, context.memory_capacity, context.cpu_cfs_quota)),
            security_context: Some(security::container(
                pod,
                container,
                slot,
                context.target_id.as_deref(),
                (context.image_user.0, &context.image_user.1),
                &context.profiles,
            )),
        }),
        ..Default::default()
    })
}

fn propagation(mount: &VolumeMount) -> pb::MountPropagation {
    match mount.mount_propagation.as_deref() {
        Some("HostToContainer") => pb::MountPropagation::PropagationHostToContainer,
        Some("Bidirectional") => pb::MountPropagation::PropagationBidirectional,
        _ => pb::MountPropagation::PropagationPrivate,
    }
}

fn volume_mounts(pod: &Pod, container: &Container, env: &Environment, context: &ContainerContext<'_>) -> Result<Vec<pb::Mount>, String> {
    let mut out = Vec::new();
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        let volume = context
            .mounted
            .get(&mount.name)
            .ok_or_else(|| format!("cannot find volume {:?} to mount into container {:?}", mount.name, container.name))?;
        let sub_path = match (mount.sub_path_expr.as_deref(), mount.sub_path.as_deref()) {
            (Some(text), _) if !text.is_empty() => strict_expand(text, env)?,
            (_, Some(path)) => path.to_owned(),
            _ => String::new(),
        };
        let host_path = if sub_path.is_empty() {
            volume.path.clone()
        } else {
            let target = paths::subpaths(context.root_dir, uid(pod)).join(&mount.name).join(&container.name).join(index.to_string());
            subpath::prepare(&volume.path, &sub_path, &target, volume.read_only).map_err(|cause| {
                format!("failed to prepare subPath for volumeMount {:?} of container {:?}: {cause}", mount.name, container.name)
            })?
        };
        let container_path = if mount.mount_path.starts_with('/') { mount.mount_path.clone() } else { format!("/{}", mount.mount_path) };
        out.push(pb::Mount {
            container_path,
            host_path: host_path.to_string_lossy().into_owned(),
            readonly: volume.read_only || mount.read_only.unwrap_or(false),
            propagation: propagation(mount).into(),
            ..Default::default()
        });
    }
    Ok(out)
}

/// subPathExpr: an unknown variable is an error, unlike in commands.
fn strict_expand(text: &str, env: &Environment) -> Result<String, String> {
    let missing = std::cell::RefCell::new(None);
    let out = expand::expand(text, |name| {
        let value = env.get(name);
        if value.is_none() {
            *missing.borrow_mut() = Some(name.to_owned());
        }
        value
    });
    match missing.into_inner() {
        Some(name) => Err(format!("missing value for {name:?}")),
        None => Ok(out),
    }
}

/// /etc/hosts is the kubelet's unless a volume is mounted there.
fn hosts_mount(
    pod: &Pod,
    _container: &Container,
    mounts: &[pb::Mount],
    context: &ContainerContext<'_>,
) -> Result<Option<pb::Mount>, String> {
    let host_network = spec(pod).host_network.unwrap_or(false);
    if mounts.iter().any(|mount| mount.container_path == "/etc/hosts") || (context.pod_ips.is_empty() && !host_network) {
        return Ok(None);
    }
    let path = paths::etc_hosts(context.root_dir, uid(pod));
    let text = if host_network {
        let node = std::fs::read_to_string("/etc/hosts").map_err(|error| format!("open /etc/hosts: {error}"))?;
        hosts_of_node(&node, pod)
    } else {
        let (host, domain) = sandbox_config::host_and_domain(pod, context.cluster_domain);
        hosts_of_pod(context.pod_ips, &host, &domain, pod)
    };
    write_file(&path, text.as_bytes(), 0o644)?;
    Ok(Some(pb::Mount { container_path: "/etc/hosts".into(), host_path: path.to_string_lossy().into_owned(), ..Default::default() }))
}

/// Shared with nothing outside the pod, so a plain write in place (containers have this inode mounted) is enough.
fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    std::fs::write(path, bytes).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed)
}

fn host_aliases(pod: &Pod) -> String {
    let aliases = spec(pod).host_aliases.as_deref().unwrap_or_default();
    if aliases.is_empty() {
        return String::new();
    }
    let mut out = String::from("\n# Entries added by HostAliases.\n");
    for alias in aliases {
        out.push_str(&format!("{}\t{}\n", alias.ip, alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t")));
    }
    out
}

fn hosts_of_node(node: &str, pod: &Pod) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{node}{}", host_aliases(pod))
}

fn hosts_of_pod(ips: &[String], host: &str, domain: &str, pod: &Pod) -> String {
    let mut out = String::from("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    out.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
    for ip in ips {
        match domain.is_empty() {
            true => out.push_str(&format!("{ip}\t{host}\n")),
            false => out.push_str(&format!("{ip}\t{host}.{domain}\t{host}\n")),
        }
    }
    out + &host_aliases(pod)
}

/// The file that the container leaves its last words in, one per start.
fn termination_mount(pod: &Pod, container: &Container, context: &ContainerContext<'_>) -> Result<Option<pb::Mount>, String> {
    let Some(inside) = container.termination_message_path.as_deref().filter(|path| !path.is_empty()) else { return Ok(None) };
    let host: PathBuf = paths::container(context.root_dir, uid(pod), &container.name).join(format!("{:08x}", rand::random::<u32>()));
    write_file(&host, b"", 0o666)?;
    Ok(Some(pb::Mount { container_path: inside.to_owned(), host_path: host.to_string_lossy().into_owned(), ..Default::default() }))
}

/// The longest message that is kept of one container, in bytes, and what is kept of its log.
const MAX_MESSAGE: usize = 4096;
const MAX_LOG_BYTES: usize = 2048;
const MAX_LOG_LINES: usize = 80;

/// A dead container's last words: its message file, or, where its policy says so and it failed, the end of its log.
pub fn termination_message(annotations: &HashMap<String, String>, mounts: &[(String, String)], exit_code: i32, log_path: &str) -> String {
    let path = annotations.get(labels::MESSAGE_PATH).map(String::as_str).unwrap_or_default();
    let host = mounts.iter().find(|(inside, _)| inside == path && !path.is_empty()).map(|(_, host)| host);
    let mut message = host.and_then(|host| read_limited(host, MAX_MESSAGE).ok()).unwrap_or_default();
    let fall_back = annotations.get(labels::MESSAGE_POLICY).map(String::as_str) == Some("FallbackToLogsOnError");
    if message.is_empty() && fall_back && exit_code != 0 {
        message = crate::server::logs::tail_text(Path::new(log_path), MAX_LOG_LINES, MAX_LOG_BYTES);
    }
    message
}

fn read_limited(path: &str, limit: usize) -> std::io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hosts_files() {
        let pod: Pod =
            serde_json::from_value(json!({"spec": {"containers": [], "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}}))
                .unwrap();
        let text = hosts_of_pod(&["10.0.0.2".into()], "h", "s.n.svc.cluster.local", &pod);
        assert!(text.contains("10.0.0.2\th.s.n.svc.cluster.local\th\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
        assert!(hosts_of_node("127.0.0.1 x\n", &pod).starts_with("# Kubernetes-managed hosts file (host network).\n127.0.0.1 x\n"));
    }
}
