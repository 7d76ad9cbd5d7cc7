//! The checks of the Pod Security Standards, as of their latest version. Pure.
//! Upstream: staging/src/k8s.io/pod-security-admission/policy, one file per check; findings come in the order of the checks' ids.

use api::core::v1::{LifecycleHandler, PodSpec, Probe, SELinuxOptions, SecurityContext, Volume};

use super::Level;

/// What any kind of container has that the checks look at.
struct Part<'a> {
    name: &'a str,
    context: Option<&'a SecurityContext>,
    host_ports: Vec<i32>,
    probes: [Option<&'a Probe>; 3],
    handlers: [Option<&'a LifecycleHandler>; 2],
}

fn parts(spec: &PodSpec) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    macro_rules! add {
        ($containers:expr) => {
            for c in $containers {
                let lifecycle = c.lifecycle.as_ref();
                parts.push(Part {
                    name: &c.name,
                    context: c.security_context.as_ref(),
                    host_ports: c.ports.iter().flatten().filter_map(|p| p.host_port).filter(|p| *p != 0).collect(),
                    probes: [c.liveness_probe.as_ref(), c.readiness_probe.as_ref(), c.startup_probe.as_ref()],
                    handlers: [lifecycle.and_then(|l| l.post_start.as_ref()), lifecycle.and_then(|l| l.pre_stop.as_ref())],
                });
            }
        };
    }
    add!(spec.init_containers.iter().flatten());
    add!(&spec.containers);
    add!(spec.ephemeral_containers.iter().flatten());
    parts
}

/// `container "a"` or `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("container{} {}", if names.len() == 1 { "" } else { "s" }, quoted(names))
}

fn quoted<T: AsRef<str>>(list: &[T]) -> String {
    list.iter().map(|text| format!("{:?}", text.as_ref())).collect::<Vec<_>>().join(", ")
}

fn unique<T: Ord>(mut list: Vec<T>) -> Vec<T> {
    list.sort();
    list.dedup();
    list
}

struct Pod<'a> {
    spec: &'a PodSpec,
    parts: Vec<Part<'a>>,
    is_windows: bool,
}

/// Everything in which a pod goes beyond a level; empty: it is allowed.
pub fn violations(level: Level, spec: &PodSpec) -> Vec<String> {
    if level == Level::Privileged {
        return Vec::new();
    }
    let pod = Pod { spec, parts: parts(spec), is_windows: spec.os.as_ref().is_some_and(|os| os.name == "windows") };
    let strict = level == Level::Restricted;
    let only = |check: fn(&Pod<'_>) -> Option<String>| if strict { check(&pod) } else { None };
    let otherwise = |check: fn(&Pod<'_>) -> Option<String>| if strict { None } else { check(&pod) };
    [
        only(allow_privilege_escalation),
        app_armor_profile(&pod),
        otherwise(capabilities_baseline),
        only(capabilities_restricted),
        host_namespaces(&pod),
        otherwise(host_path_volumes),
        host_ports(&pod),
        host_probes(&pod),
        privileged(&pod),
        proc_mount(&pod),
        only(restricted_volumes),
        only(run_as_non_root),
        only(run_as_user),
        selinux_options(&pod),
        otherwise(seccomp_baseline),
        only(seccomp_restricted),
        sysctls(&pod),
        windows_host_process(&pod),
    ]
    .into_iter()
    .flatten()
    .collect()
}

impl Pod<'_> {
    fn named(&self, test: impl Fn(Option<&SecurityContext>) -> bool) -> Vec<&str> {
        self.parts.iter().filter(|part| test(part.context)).map(|part| part.name).collect()
    }
}

fn allow_privilege_escalation(pod: &Pod<'_>) -> Option<String> {
    let bad = pod.named(|context| context.and_then(|c| c.allow_privilege_escalation) != Some(false));
    (!pod.is_windows && !bad.is_empty()).then(|| {
        format!("allowPrivilegeEscalation != false ({} must set securityContext.allowPrivilegeEscalation=false)", containers(&bad))
    })
}

fn app_armor_profile(pod: &Pod<'_>) -> Option<String> {
    let is_bad = |kind: &str| !matches!(kind, "RuntimeDefault" | "Localhost");
    let of_pod = pod.spec.security_context.as_ref().and_then(|c| c.app_armor_profile.as_ref()).map(|p| p.type_.as_str());
    let bad = pod.named(|context| context.and_then(|c| c.app_armor_profile.as_ref()).is_some_and(|p| is_bad(&p.type_)));
    let mut setters = Vec::new();
    let mut values = Vec::new();
    if let Some(kind) = of_pod.filter(|kind| is_bad(kind)) {
        setters.push("pod".to_owned());
        values.push(kind);
    }
    if !bad.is_empty() {
        setters.push(containers(&bad));
        values
            .extend(pod.parts.iter().filter_map(|p| p.context?.app_armor_profile.as_ref()).map(|p| p.type_.as_str()).filter(|k| is_bad(k)));
    }
    let values = unique(values);
    (!setters.is_empty()).then(|| {
        let plural = if values.len() == 1 { "" } else { "s" };
        format!("forbidden AppArmor profile{plural} ({} must not set AppArmor profile type to {})", setters.join(" and "), quoted(&values))
    })
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<String> {
    const ALLOWED: &[&str] = &[
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let added = |context: Option<&SecurityContext>| -> Vec<String> {
        let list = context.and_then(|c| c.capabilities.as_ref()).and_then(|c| c.add.clone()).unwrap_or_default();
        list.into_iter().filter(|cap| !ALLOWED.contains(&cap.as_str())).collect()
    };
    let bad = pod.named(|context| !added(context).is_empty());
    let values = unique(pod.parts.iter().flat_map(|part| added(part.context)).collect());
    (!bad.is_empty()).then(|| {
        format!("non-default capabilities ({} must not include {} in securityContext.capabilities.add)", containers(&bad), quoted(&values))
    })
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<String> {
    if pod.is_windows {
        return None;
    }
    let capabilities = |context: Option<&SecurityContext>| context.and_then(|c| c.capabilities.clone()).unwrap_or_default();
    let keeps = pod.named(|context| !capabilities(context).drop.unwrap_or_default().iter().any(|cap| cap == "ALL"));
    let extra = |context: Option<&SecurityContext>| -> Vec<String> {
        capabilities(context).add.unwrap_or_default().into_iter().filter(|cap| cap != "NET_BIND_SERVICE").collect()
    };
    let adds = pod.named(|context| !extra(context).is_empty());
    let mut details = Vec::new();
    if !keeps.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeps)));
    }
    if !adds.is_empty() {
        let values = unique(pod.parts.iter().flat_map(|part| extra(part.context)).collect());
        details.push(format!("{} must not include {} in securityContext.capabilities.add", containers(&adds), quoted(&values)));
    }
    (!details.is_empty()).then(|| format!("unrestricted capabilities ({})", details.join("; ")))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<String> {
    let flags = [("hostNetwork", pod.spec.host_network), ("hostPID", pod.spec.host_pid), ("hostIPC", pod.spec.host_ipc)];
    let set: Vec<String> = flags.iter().filter(|(_, on)| *on == Some(true)).map(|(name, _)| format!("{name}=true")).collect();
    (!set.is_empty()).then(|| format!("host namespaces ({})", set.join(", ")))
}

fn volumes_text(bad: &[&str]) -> String {
    format!("volume{} {}", if bad.len() == 1 { "" } else { "s" }, quoted(bad))
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<String> {
    let bad: Vec<&str> = pod.spec.volumes.iter().flatten().filter(|v| v.host_path.is_some()).map(|v| v.name.as_str()).collect();
    (!bad.is_empty()).then(|| format!("hostPath volumes ({})", volumes_text(&bad)))
}

fn host_ports(pod: &Pod<'_>) -> Option<String> {
    let bad: Vec<&str> = pod.parts.iter().filter(|part| !part.host_ports.is_empty()).map(|part| part.name).collect();
    let ports = unique(pod.parts.iter().flat_map(|part| part.host_ports.iter().copied()).collect());
    (!bad.is_empty()).then(|| {
        let uses = if bad.len() == 1 { "uses" } else { "use" };
        let plural = if ports.len() == 1 { "" } else { "s" };
        let list = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        format!("hostPort ({} {uses} hostPort{plural} {list})", containers(&bad))
    })
}

fn host_probes(pod: &Pod<'_>) -> Option<String> {
    let mut hosts: Vec<String> = Vec::new();
    let mut bad = Vec::new();
    for part in &pod.parts {
        let probes = part.probes.iter().flatten().map(|p| (p.http_get.as_ref(), p.tcp_socket.as_ref()));
        let handlers = part.handlers.iter().flatten().map(|h| (h.http_get.as_ref(), h.tcp_socket.as_ref()));
        let named = probes.chain(handlers).flat_map(|(http, tcp)| [http.and_then(|h| h.host.clone()), tcp.and_then(|t| t.host.clone())]);
        let found: Vec<String> = named.flatten().filter(|h| !matches!(h.as_str(), "" | "127.0.0.1" | "::1")).collect();
        if !found.is_empty() {
            bad.push(part.name);
            hosts.extend(found);
        }
    }
    let hosts = unique(hosts);
    (!bad.is_empty()).then(|| {
        let uses = if bad.len() == 1 { "uses" } else { "use" };
        let plural = if hosts.len() == 1 { "" } else { "s" };
        format!("probe or lifecycle host ({} {uses} probe or lifecycle host{plural} {})", containers(&bad), quoted(&hosts))
    })
}

fn privileged(pod: &Pod<'_>) -> Option<String> {
    let bad = pod.named(|context| context.and_then(|c| c.privileged) == Some(true));
    (!bad.is_empty()).then(|| format!("privileged ({} must not set securityContext.privileged=true)", containers(&bad)))
}

fn proc_mount(pod: &Pod<'_>) -> Option<String> {
    let of = |context: Option<&SecurityContext>| context.and_then(|c| c.proc_mount.clone()).filter(|kind| kind != "Default");
    let bad = pod.named(|context| of(context).is_some());
    let values = unique(pod.parts.iter().filter_map(|part| of(part.context)).collect());
    // A user namespace makes an unmasked /proc harmless.
    (!bad.is_empty() && pod.spec.host_users != Some(false))
        .then(|| format!("procMount ({} must not set securityContext.procMount to {})", containers(&bad), quoted(&values)))
}

fn restricted_volumes(pod: &Pod<'_>) -> Option<String> {
    let mut kinds: Vec<String> = Vec::new();
    let mut bad = Vec::new();
    for volume in pod.spec.volumes.iter().flatten() {
        if let Some(kind) = restricted_kind(volume) {
            bad.push(volume.name.as_str());
            kinds.push(kind);
        }
    }
    let kinds = unique(kinds);
    (!bad.is_empty()).then(|| {
        let (uses, plural) = (if bad.len() == 1 { "uses" } else { "use" }, if kinds.len() == 1 { "" } else { "s" });
        format!("restricted volume types ({} {uses} restricted volume type{plural} {})", volumes_text(&bad), quoted(&kinds))
    })
}

/// The source of a volume, if the restricted level does not know it.
fn restricted_kind(volume: &Volume) -> Option<String> {
    const ALLOWED: &[&str] =
        &["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected", "secret"];
    let value = serde_json::to_value(volume).ok()?;
    value.as_object()?.keys().find(|key| *key != "name" && !ALLOWED.contains(&key.as_str())).cloned()
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<String> {
    let of_pod = pod.spec.security_context.as_ref().and_then(|c| c.run_as_non_root);
    let explicit = pod.named(|context| context.and_then(|c| c.run_as_non_root) == Some(false));
    let silent = pod.named(|context| context.and_then(|c| c.run_as_non_root).is_none());
    let mut details = Vec::new();
    if of_pod == Some(false) {
        details.push("pod must not set securityContext.runAsNonRoot=false".to_owned());
    }
    if !explicit.is_empty() {
        details.push(format!("{} must not set securityContext.runAsNonRoot=false", containers(&explicit)));
    }
    if !details.is_empty() {
        return Some(format!("runAsNonRoot != true ({})", details.join(" and ")));
    }
    (of_pod.is_none() && !silent.is_empty())
        .then(|| format!("runAsNonRoot != true (pod or {} must set securityContext.runAsNonRoot=true)", containers(&silent)))
}

fn run_as_user(pod: &Pod<'_>) -> Option<String> {
    let mut setters = Vec::new();
    if pod.spec.security_context.as_ref().and_then(|c| c.run_as_user) == Some(0) {
        setters.push("pod".to_owned());
    }
    let bad = pod.named(|context| context.and_then(|c| c.run_as_user) == Some(0));
    if !bad.is_empty() {
        setters.push(containers(&bad));
    }
    (!setters.is_empty()).then(|| format!("runAsUser=0 ({} must not set runAsUser=0)", setters.join(" and ")))
}

fn selinux_options(pod: &Pod<'_>) -> Option<String> {
    const TYPES: &[&str] = &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let is_bad = |options: &SELinuxOptions| {
        !TYPES.contains(&text(&options.type_).as_str()) || !text(&options.user).is_empty() || !text(&options.role).is_empty()
    };
    let of_pod = pod.spec.security_context.as_ref().and_then(|c| c.se_linux_options.as_ref()).filter(|o| is_bad(o));
    let bad = pod.named(|context| context.and_then(|c| c.se_linux_options.as_ref()).is_some_and(is_bad));
    let all: Vec<&SELinuxOptions> =
        of_pod.into_iter().chain(pod.parts.iter().filter_map(|p| p.context?.se_linux_options.as_ref()).filter(|o| is_bad(o))).collect();
    let mut setters = Vec::new();
    if of_pod.is_some() {
        setters.push("pod".to_owned());
    }
    if !bad.is_empty() {
        setters.push(containers(&bad));
    }
    let mut details = Vec::new();
    let types = unique(all.iter().map(|o| text(&o.type_)).filter(|t| !TYPES.contains(&t.as_str())).collect());
    if !types.is_empty() {
        let plural = if types.len() == 1 { "" } else { "s" };
        details.push(format!("type{plural} {}", quoted(&types)));
    }
    if all.iter().any(|o| !text(&o.user).is_empty()) {
        details.push("user may not be set".into());
    }
    if all.iter().any(|o| !text(&o.role).is_empty()) {
        details.push("role may not be set".into());
    }
    (!setters.is_empty())
        .then(|| format!("seLinuxOptions ({} set forbidden securityContext.seLinuxOptions: {})", setters.join(" and "), details.join("; ")))
}

fn seccomp_of(context: Option<&SecurityContext>) -> Option<&str> {
    context?.seccomp_profile.as_ref().map(|p| p.type_.as_str())
}

fn seccomp_bad(pod: &Pod<'_>) -> Vec<String> {
    let is_bad = |kind: Option<&str>| kind.is_some_and(|kind| !matches!(kind, "RuntimeDefault" | "Localhost"));
    let of_pod = pod.spec.security_context.as_ref().and_then(|c| c.seccomp_profile.as_ref()).map(|p| p.type_.as_str());
    let mut setters = Vec::new();
    if is_bad(of_pod) {
        setters.push("pod".to_owned());
    }
    let bad = pod.named(|context| is_bad(seccomp_of(context)));
    if !bad.is_empty() {
        setters.push(containers(&bad));
    }
    setters
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<String> {
    let setters = seccomp_bad(pod);
    (!setters.is_empty())
        .then(|| format!("seccompProfile ({} must not set securityContext.seccompProfile.type to \"Unconfined\")", setters.join(" and ")))
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<String> {
    if pod.is_windows {
        return None;
    }
    let setters = seccomp_bad(pod);
    if !setters.is_empty() {
        let who = setters.join(" and ");
        return Some(format!("seccompProfile ({who} must not set securityContext.seccompProfile.type to \"Unconfined\")"));
    }
    let of_pod = pod.spec.security_context.as_ref().and_then(|c| c.seccomp_profile.as_ref());
    let silent = pod.named(|context| seccomp_of(context).is_none());
    (of_pod.is_none() && !silent.is_empty()).then(|| {
        format!(
            "seccompProfile (pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            containers(&silent)
        )
    })
}

fn sysctls(pod: &Pod<'_>) -> Option<String> {
    const ALLOWED: &[&str] = &[
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
        "net.ipv4.ip_local_reserved_ports",
        "net.ipv4.tcp_keepalive_time",
        "net.ipv4.tcp_fin_timeout",
        "net.ipv4.tcp_keepalive_intvl",
        "net.ipv4.tcp_keepalive_probes",
        "net.ipv4.tcp_rmem",
        "net.ipv4.tcp_wmem",
    ];
    let list = pod.spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    let bad: Vec<&str> = list.map(|s| s.name.as_str()).filter(|name| !ALLOWED.contains(name)).collect();
    (!bad.is_empty()).then(|| format!("forbidden sysctls ({})", bad.join(", ")))
}

fn windows_host_process(pod: &Pod<'_>) -> Option<String> {
    let of_pod = pod.spec.security_context.as_ref().and_then(|c| c.windows_options.as_ref()).and_then(|o| o.host_process);
    let bad = pod.named(|context| context.and_then(|c| c.windows_options.as_ref()).and_then(|o| o.host_process) == Some(true));
    let mut setters = Vec::new();
    if of_pod == Some(true) {
        setters.push("pod".to_owned());
    }
    if !bad.is_empty() {
        setters.push(containers(&bad));
    }
    (!setters.is_empty())
        .then(|| format!("hostProcess ({} must not set securityContext.windowsOptions.hostProcess=true)", setters.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(level: Level, spec: serde_json::Value, expected: &[&str]) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        assert_eq!(violations(level, &spec), expected);
    }

    #[test]
    fn restricted_wants_much() {
        check(
            Level::Restricted,
            serde_json::json!({"containers": [{"name": "c"}]}),
            &[
                "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"])",
                "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            ],
        );
        let good = serde_json::json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}],
        });
        check(Level::Restricted, good, &[]);
    }

    #[test]
    fn baseline_refuses_the_hosts_things() {
        check(Level::Baseline, serde_json::json!({"containers": [{"name": "c"}]}), &[]);
        check(
            Level::Baseline,
            serde_json::json!({
                "hostNetwork": true, "hostPID": true,
                "volumes": [{"name": "h", "hostPath": {"path": "/"}}],
                "containers": [
                    {"name": "a", "ports": [{"containerPort": 80, "hostPort": 80}]},
                    {"name": "b", "securityContext": {"privileged": true, "capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}}},
                ],
            }),
            &[
                "non-default capabilities (container \"b\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
                "host namespaces (hostNetwork=true, hostPID=true)",
                "hostPath volumes (volume \"h\")",
                "hostPort (container \"a\" uses hostPort 80)",
                "privileged (container \"b\" must not set securityContext.privileged=true)",
            ],
        );
        check(Level::Privileged, serde_json::json!({"hostNetwork": true, "containers": []}), &[]);
    }
}
