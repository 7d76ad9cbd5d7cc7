//! A pod's sandbox in the runtime's terms: host name, resolver configuration, ports, log folder, cgroup parent. Pure but for reading the node's
//! resolver file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use api::core::v1::{Pod, PodDNSConfig};
use k8s_cri::v1 as pb;

use super::{name, namespace, resources, security, spec, uid};
use crate::runtime::labels;

/// Upstream's limits (pkg/apis/core/validation): at most so many name servers reach a pod.
const MAX_NAMESERVERS: usize = 3;
const MAX_HOSTNAME: usize = 63;

/// What of the node enters a sandbox.
pub struct SandboxContext<'a> {
    pub cluster_dns: &'a [String],
    pub cluster_domain: &'a str,
    pub resolv_conf: &'a Path,
    pub logs_dir: &'a Path,
    pub cgroup_parent: String,
    pub profiles: security::Profiles<'a>,
}

/// `NAMESPACE_NAME_UID`, the folder of the pod's logs.
pub fn log_directory(logs_dir: &Path, pod: &Pod) -> PathBuf {
    logs_dir.join(format!("{}_{}_{}", namespace(pod), name(pod), uid(pod)))
}

/// The host name inside the pod and its DNS domain, empty when it has none (GeneratePodHostNameAndDomain).
pub fn host_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = spec(pod);
    if let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        return (name.to_owned(), String::new());
    }
    let mut host = match spec.hostname.as_deref() {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ => name(pod).to_owned(),
    };
    if host.len() > MAX_HOSTNAME {
        host.truncate(MAX_HOSTNAME);
        host = host.trim_end_matches(['-', '.']).to_owned();
    }
    let domain = match spec.subdomain.as_deref() {
        Some(sub) if !sub.is_empty() => format!("{sub}.{}.svc.{cluster_domain}", namespace(pod)),
        _ => String::new(),
    };
    (host, domain)
}

/// The UTS host name; with setHostnameAsFQDN the whole name, which the kernel limits to 64 bytes.
pub fn uts_hostname(pod: &Pod, cluster_domain: &str) -> Result<String, String> {
    let (host, domain) = host_and_domain(pod, cluster_domain);
    if !spec(pod).set_hostname_as_fqdn.unwrap_or(false) || domain.is_empty() {
        return Ok(host);
    }
    let full = format!("{host}.{domain}");
    if full.len() > 64 {
        return Err(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too long (64 characters is the max, {} characters requested)",
            full.len()
        ));
    }
    Ok(full)
}

pub fn make(pod: &Pod, attempt: u32, context: &SandboxContext<'_>) -> Result<pb::PodSandboxConfig, String> {
    let host_network = spec(pod).host_network.unwrap_or(false);
    let metadata =
        pb::PodSandboxMetadata { name: name(pod).to_owned(), namespace: namespace(pod).to_owned(), uid: uid(pod).to_owned(), attempt };
    let sysctls: HashMap<String, String> = spec(pod)
        .security_context
        .iter()
        .flat_map(|context| context.sysctls.iter().flatten())
        .map(|sysctl| (sysctl.name.replace('/', "."), sysctl.value.clone()))
        .collect();
    Ok(pb::PodSandboxConfig {
        metadata: Some(metadata),
        hostname: if host_network { String::new() } else { uts_hostname(pod, context.cluster_domain)? },
        log_directory: log_directory(context.logs_dir, pod).to_string_lossy().into_owned(),
        dns_config: Some(dns_config(pod, context)?),
        port_mappings: port_mappings(pod),
        labels: labels::sandbox_labels(pod),
        annotations: labels::sandbox_annotations(pod),
        linux: Some(pb::LinuxPodSandboxConfig {
            cgroup_parent: context.cgroup_parent.clone(),
            security_context: Some(security::sandbox(pod, &context.profiles)),
            sysctls,
            overhead: Some(overhead(pod)),
            resources: Some(pod_resources(pod)),
        }),
        windows: None,
    })
}

fn overhead(pod: &Pod) -> pb::LinuxContainerResources {
    let list = spec(pod).overhead.as_ref();
    let cpu = resources::millis(list.and_then(|list| list.get("cpu")));
    pb::LinuxContainerResources {
        cpu_shares: if cpu > 0 { resources::cpu_shares(cpu) } else { 0 },
        memory_limit_in_bytes: resources::units(list.and_then(|list| list.get("memory"))),
        ..Default::default()
    }
}

fn pod_resources(pod: &Pod) -> pb::LinuxContainerResources {
    let quota = resources::pod_limit_milli(pod, "cpu").map_or(0, resources::cpu_quota);
    pb::LinuxContainerResources {
        cpu_period: resources::CPU_PERIOD_US,
        cpu_quota: quota,
        cpu_shares: resources::cpu_shares(resources::pod_request_milli(pod, "cpu")),
        memory_limit_in_bytes: resources::pod_limit_milli(pod, "memory").map_or(0, |milli| milli / 1000),
        ..Default::default()
    }
}

fn port_mappings(pod: &Pod) -> Vec<pb::PortMapping> {
    if spec(pod).host_network.unwrap_or(false) {
        return Vec::new();
    }
    let containers = super::init_containers(pod).iter().filter(|c| super::is_sidecar(c)).chain(super::regular_containers(pod));
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .map(|port| pb::PortMapping {
            protocol: match port.protocol.as_deref() {
                Some("UDP") => pb::Protocol::Udp,
                Some("SCTP") => pb::Protocol::Sctp,
                _ => pb::Protocol::Tcp,
            }
            .into(),
            container_port: port.container_port,
            host_port: port.host_port.unwrap_or(0),
            host_ip: port.host_ip.clone().unwrap_or_default(),
        })
        .collect()
}

/// Servers, searches and options by dnsPolicy and dnsConfig (pkg/kubelet/network/dns/dns.go).
fn dns_config(pod: &Pod, context: &SandboxContext<'_>) -> Result<pb::DnsConfig, String> {
    let spec = spec(pod);
    let host_network = spec.host_network.unwrap_or(false);
    let policy = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "ClusterFirst" if host_network => "Default",
        "ClusterFirst" | "ClusterFirstWithHostNet" if context.cluster_dns.is_empty() => "Default",
        policy => policy,
    };
    let mut out = match policy {
        "None" => pb::DnsConfig::default(),
        "Default" => host_dns(context.resolv_conf)?,
        _ => cluster_dns(namespace(pod), host_dns(context.resolv_conf)?, context),
    };
    if let Some(own) = &spec.dns_config {
        append(&mut out, own);
    }
    Ok(out)
}

fn cluster_dns(namespace: &str, host: pb::DnsConfig, context: &SandboxContext<'_>) -> pb::DnsConfig {
    let domain = context.cluster_domain;
    let mut searches = Vec::new();
    if !domain.is_empty() {
        searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    }
    add_new(&mut searches, host.searches);
    pb::DnsConfig { servers: context.cluster_dns.to_vec(), searches, options: vec!["ndots:5".into()] }
}

fn add_new(list: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for entry in more {
        if !list.contains(&entry) {
            list.push(entry);
        }
    }
}

fn append(out: &mut pb::DnsConfig, own: &PodDNSConfig) {
    add_new(&mut out.servers, own.nameservers.iter().flatten().cloned());
    out.servers.truncate(MAX_NAMESERVERS);
    add_new(&mut out.searches, own.searches.iter().flatten().cloned());
    for option in own.options.iter().flatten() {
        let Some(name) = &option.name else { continue };
        // The pod's own value of an option replaces the policy's.
        out.options.retain(|existing| existing.split(':').next() != Some(name.as_str()));
        out.options.push(match option.value.as_deref().filter(|value| !value.is_empty()) {
            Some(value) => format!("{name}:{value}"),
            None => name.clone(),
        });
    }
}

fn host_dns(path: &Path) -> Result<pb::DnsConfig, String> {
    if path.as_os_str().is_empty() {
        return Ok(pb::DnsConfig { servers: vec!["127.0.0.1".into()], searches: vec![".".into()], options: Vec::new() });
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("open {}: {error}", path.display()))?;
    Ok(parse_resolv_conf(&text))
}

fn parse_resolv_conf(text: &str) -> pb::DnsConfig {
    let mut out = pb::DnsConfig::default();
    for line in text.lines() {
        if line.starts_with(['#', ';']) {
            continue;
        }
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
            // A later line replaces an earlier one.
            Some("search") => {
                out.searches = words.map(|word| word.trim_end_matches('.').to_owned()).filter(|word| !word.is_empty()).collect()
            }
            Some("options") => add_new(&mut out.options, words.map(str::to_owned)),
            _ => {}
        }
    }
    out.servers.truncate(MAX_NAMESERVERS);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap()
    }

    #[test]
    fn hostnames() {
        let check = |spec: Value, expected: Result<&str, ()>| {
            assert_eq!(uts_hostname(&pod(spec.clone()), "cluster.local").as_deref().map_err(|_| ()), expected, "{spec}");
        };
        check(json!({"containers": []}), Ok("web-0"));
        check(json!({"containers": [], "hostname": "h", "subdomain": "s"}), Ok("h"));
        check(json!({"containers": [], "hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}), Ok("h.s.n.svc.cluster.local"));
        check(json!({"containers": [], "subdomain": "s".repeat(63), "setHostnameAsFQDN": true}), Err(()));
    }

    #[test]
    fn resolver_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resolv.conf");
        std::fs::write(&file, "# x\nnameserver 1.1.1.1\nnameserver 2.2.2.2\nsearch corp.example\noptions timeout:1\n").unwrap();
        let context = SandboxContext {
            cluster_dns: &["10.96.0.10".to_owned()],
            cluster_domain: "cluster.local",
            resolv_conf: &file,
            logs_dir: Path::new("/l"),
            cgroup_parent: String::new(),
            profiles: security::Profiles { seccomp_root: Path::new("/s"), seccomp_default: false },
        };
        let check = |spec: Value, servers: &[&str], searches: &[&str], options: &[&str]| {
            let got = dns_config(&pod(spec.clone()), &context).unwrap();
            assert_eq!((got.servers, got.searches, got.options), (texts(servers), texts(searches), texts(options)), "{spec}");
        };
        let cluster = ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"];
        check(json!({"containers": []}), &["10.96.0.10"], &cluster, &["ndots:5"]);
        check(json!({"containers": [], "dnsPolicy": "Default"}), &["1.1.1.1", "2.2.2.2"], &["corp.example"], &["timeout:1"]);
        check(json!({"containers": [], "hostNetwork": true}), &["1.1.1.1", "2.2.2.2"], &["corp.example"], &["timeout:1"]);
        let own = json!({"nameservers": ["9.9.9.9"], "searches": ["x"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
        check(json!({"containers": [], "dnsPolicy": "None", "dnsConfig": own}), &["9.9.9.9"], &["x"], &["ndots:2", "edns0"]);
        check(
            json!({"containers": [], "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]}}),
            &["10.96.0.10"],
            &cluster,
            &["ndots:2"],
        );
    }

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }
}
