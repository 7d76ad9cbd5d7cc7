//! KubeletConfiguration (kubelet.config.k8s.io/v1beta1): its fields, defaults, and how flags lie over them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::core::v1::Taint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Options, Settings, hostname};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("failed to load kubelet config file, path: {path}, error: {cause}")]
    File { path: String, cause: String },
    #[error("invalid configuration: {0}")]
    Invalid(String),
}

/// The fields that this kubelet acts on.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub static_pod_path: Option<PathBuf>,
    pub sync_frequency: Option<String>,
    pub file_check_frequency: Option<String>,
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_private_key_file: Option<PathBuf>,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub enable_debugging_handlers: Option<bool>,
    pub healthz_port: Option<u16>,
    pub healthz_bind_address: Option<IpAddr>,
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Vec<String>,
    pub cluster_domain: Option<String>,
    pub node_status_update_frequency: Option<String>,
    pub node_status_report_frequency: Option<String>,
    pub node_lease_duration_seconds: Option<i32>,
    pub image_minimum_gc_age: Option<String>,
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: Option<i32>,
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: Option<i32>,
    pub cgroup_root: Option<String>,
    #[serde(rename = "cgroupsPerQOS")]
    pub cgroups_per_qos: Option<bool>,
    pub cgroup_driver: Option<String>,
    pub runtime_request_timeout: Option<String>,
    pub max_pods: Option<i64>,
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    pub pod_pids_limit: Option<i64>,
    pub resolv_conf: Option<PathBuf>,
    #[serde(rename = "cpuCFSQuota")]
    pub cpu_cfs_quota: Option<bool>,
    pub serialize_image_pulls: Option<bool>,
    pub max_parallel_image_pulls: Option<usize>,
    pub eviction_hard: Option<BTreeMap<String, String>>,
    pub fail_swap_on: Option<bool>,
    pub container_log_max_size: Option<String>,
    pub container_log_max_files: Option<u32>,
    pub system_reserved: BTreeMap<String, String>,
    pub kube_reserved: BTreeMap<String, String>,
    pub pod_logs_dir: Option<PathBuf>,
    #[serde(rename = "providerID")]
    pub provider_id: Option<String>,
    pub register_with_taints: Vec<Taint>,
    pub register_node: Option<bool>,
    pub seccomp_default: Option<bool>,
    pub container_runtime_endpoint: Option<String>,
    pub image_service_endpoint: Option<String>,
    pub crash_loop_back_off: CrashLoopBackOff,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authentication {
    pub x509: X509,
    pub webhook: Switch,
    pub anonymous: Switch,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct X509 {
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Switch {
    pub enabled: Option<bool>,
    pub cache_ttl: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorization {
    pub mode: Option<String>,
    pub webhook: Value,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CrashLoopBackOff {
    pub max_container_restart_period: Option<String>,
}

/// Fields of upstream's kind that change nothing here; named so that a typing error is still found.
const WITHOUT_EFFECT: &[&str] = &[
    "apiVersion",
    "kind",
    "httpCheckFrequency",
    "staticPodURL",
    "staticPodURLHeader",
    "readOnlyPort",
    "tlsCipherSuites",
    "tlsMinVersion",
    "tlsCurvePreferences",
    "rotateCertificates",
    "serverTLSBootstrap",
    "registryPullQPS",
    "registryBurst",
    "imagePullCredentialsVerificationPolicy",
    "preloadedImagesVerificationAllowlist",
    "eventRecordQPS",
    "eventBurst",
    "enableProfilingHandler",
    "enableDebugFlagsHandler",
    "oomScoreAdj",
    "streamingConnectionIdleTimeout",
    "imageMaximumGCAge",
    "volumeStatsAggPeriod",
    "kubeletCgroups",
    "systemCgroups",
    "cpuManagerPolicy",
    "singleProcessOOMKill",
    "cpuManagerPolicyOptions",
    "cpuManagerReconcilePeriod",
    "memoryManagerPolicy",
    "topologyManagerPolicy",
    "topologyManagerScope",
    "topologyManagerPolicyOptions",
    "qosReserved",
    "hairpinMode",
    "runOnce",
    "cpuCFSQuotaPeriod",
    "nodeStatusMaxImages",
    "maxOpenFiles",
    "contentType",
    "kubeAPIQPS",
    "kubeAPIBurst",
    "evictionSoft",
    "evictionSoftGracePeriod",
    "evictionPressureTransitionPeriod",
    "evictionMaxPodGracePeriod",
    "evictionMinimumReclaim",
    "mergeDefaultEvictionSettings",
    "podsPerCore",
    "enableControllerAttachDetach",
    "protectKernelDefaults",
    "makeIPTablesUtilChains",
    "iptablesMasqueradeBit",
    "iptablesDropBit",
    "featureGates",
    "memorySwap",
    "containerLogMaxWorkers",
    "containerLogMonitorInterval",
    "configMapAndSecretChangeDetectionStrategy",
    "reservedSystemCPUs",
    "showHiddenMetricsForVersion",
    "systemReservedCgroup",
    "kubeReservedCgroup",
    "enforceNodeAllocatable",
    "allowedUnsafeSysctls",
    "volumePluginDir",
    "kernelMemcgNotification",
    "logging",
    "enableSystemLogHandler",
    "enableSystemLogQuery",
    "shutdownGracePeriod",
    "shutdownGracePeriodCriticalPods",
    "shutdownGracePeriodByPodPriority",
    "reservedMemory",
    "enableProfilingHandler",
    "memoryThrottlingFactor",
    "tracing",
    "localStorageCapacityIsolation",
    "failCgroupV1",
    "userNamespaces",
    "nodeLeaseRenewInterval",
];

/// Reads the file; a field that the kind does not have is an error, as with upstream's strict decoding.
pub fn read(path: &Path) -> Result<KubeletConfiguration, ConfigError> {
    let failed = |cause: String| ConfigError::File { path: path.display().to_string(), cause };
    let text = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
    parse(&text).map_err(failed)
}

fn parse(text: &str) -> Result<KubeletConfiguration, String> {
    let value: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let kind = (value["apiVersion"].as_str(), value["kind"].as_str());
    if kind != (Some("kubelet.config.k8s.io/v1beta1"), Some("KubeletConfiguration")) {
        return Err(format!("no kind {:?} is registered for version {:?}", kind.1.unwrap_or_default(), kind.0.unwrap_or_default()));
    }
    // The known names are those that a default configuration writes.
    let known = serde_json::to_value(KubeletConfiguration::default()).map_err(|error| error.to_string())?;
    for key in value.as_object().into_iter().flat_map(|object| object.keys()) {
        if known.get(key).is_none() && key != "staticPodPath" && !WITHOUT_EFFECT.contains(&key.as_str()) {
            return Err(format!("strict decoding error: unknown field {key:?}"));
        }
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn duration(flag: Option<&String>, file: Option<&String>, default_seconds: u64) -> Result<Duration, ConfigError> {
    let given = flag.or(file).map(|text| base::duration::parse(text).map_err(ConfigError::Invalid)).transpose()?;
    // An explicit zero means the default, as in upstream's defaulting of this kind.
    Ok(given.filter(|duration| !duration.is_zero()).unwrap_or(Duration::from_secs(default_seconds)))
}

fn pairs(list: &[String], separator: char, flag: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let split = |entry: &String| match entry.split_once(separator) {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(ConfigError::Invalid(format!("--{flag}: {entry:?} must have the form key{separator}value"))),
    };
    list.iter().filter(|entry| !entry.is_empty()).map(split).collect()
}

fn taint(text: &str) -> Result<Taint, ConfigError> {
    let bad = || ConfigError::Invalid(format!("--register-with-taints: invalid taint spec: {text:?}"));
    let (pair, effect) = text.rsplit_once(':').ok_or_else(bad)?;
    if !matches!(effect, "NoSchedule" | "PreferNoSchedule" | "NoExecute") {
        return Err(bad());
    }
    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
    Ok(Taint { key: key.into(), value: Some(value.to_owned()).filter(|v| !v.is_empty()), effect: effect.into(), time_added: None })
}

fn log_bytes(text: &str) -> Result<u64, ConfigError> {
    let bad = |cause: String| ConfigError::Invalid(format!("containerLogMaxSize {text:?}: {cause}"));
    let amount = api::quantity::parse(text).map_err(|error| bad(error.to_string()))?;
    u64::try_from(amount.value()).map_err(|_| bad("must not be negative".into()))
}

fn default_eviction() -> BTreeMap<String, String> {
    let list = [
        ("memory.available", "100Mi"),
        ("nodefs.available", "10%"),
        ("nodefs.inodesFree", "5%"),
        ("imagefs.available", "15%"),
        ("imagefs.inodesFree", "5%"),
    ];
    list.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

pub(super) fn resolve(flags: &Options, file: KubeletConfiguration) -> Result<Settings, ConfigError> {
    let effective = serde_json::to_value(&file).map_err(|error| ConfigError::Invalid(error.to_string()))?;
    let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let hostname = hostname();
    let node_name = flags.hostname_override.as_ref().map_or_else(|| hostname.clone(), |name| name.trim().to_lowercase());
    let list = |flag: &[String], file: Vec<String>| if flag.is_empty() { file } else { flag.to_vec() };
    let map = |flag: &[String], file: BTreeMap<String, String>, separator, name| {
        if flag.is_empty() { Ok(file) } else { pairs(flag, separator, name) }
    };
    let root_dir = flags.root_dir.clone().unwrap_or_else(|| "/var/lib/kubelet".into());
    let mode = flags.authorization_mode.clone().or(file.authorization.mode).unwrap_or_else(|| "Webhook".into());
    if !matches!(mode.as_str(), "Webhook" | "AlwaysAllow") {
        return Err(ConfigError::Invalid(format!("authorization mode {mode:?} is not one of AlwaysAllow, Webhook")));
    }
    let driver = flags.cgroup_driver.clone().or(file.cgroup_driver).unwrap_or_else(|| "cgroupfs".into());
    if driver != "cgroupfs" {
        return Err(ConfigError::Invalid(format!(
            "cgroupDriver {driver:?} is not supported; configure the runtime and the kubelet for cgroupfs"
        )));
    }
    let mut taints = file.register_with_taints;
    if !flags.register_with_taints.is_empty() {
        taints = flags.register_with_taints.iter().map(|text| taint(text)).collect::<Result<_, _>>()?;
    }
    let log_size = flags.container_log_max_size.clone().or(file.container_log_max_size).unwrap_or_else(|| "10Mi".into());
    Ok(Settings {
        node_name,
        hostname,
        node_ips: flags.node_ip.clone(),
        cert_dir: flags.cert_dir.clone().unwrap_or_else(|| root_dir.join("pki")),
        root_dir,
        pod_logs_dir: file.pod_logs_dir.unwrap_or_else(|| "/var/log/pods".into()),
        node_labels: pairs(&flags.node_labels, '=', "node-labels")?,
        register_node: flags.register_node.or(file.register_node).unwrap_or(true),
        register_taints: taints,
        runtime_endpoint: flags
            .container_runtime_endpoint
            .clone()
            .or(file.container_runtime_endpoint)
            .filter(|endpoint| !endpoint.is_empty())
            .unwrap_or_else(|| "unix:///run/containerd/containerd.sock".into()),
        image_endpoint: flags.image_service_endpoint.clone().or(file.image_service_endpoint).unwrap_or_default(),
        runtime_timeout: duration(flags.runtime_request_timeout.as_ref(), file.runtime_request_timeout.as_ref(), 120)?,
        cluster_dns: list(&flags.cluster_dns, file.cluster_dns),
        cluster_domain: flags.cluster_domain.clone().or(file.cluster_domain).unwrap_or_default(),
        resolv_conf: flags.resolv_conf.clone().or(file.resolv_conf).unwrap_or_else(|| "/etc/resolv.conf".into()),
        static_pod_path: flags.pod_manifest_path.clone().or(file.static_pod_path).filter(|path| !path.as_os_str().is_empty()),
        file_check_frequency: duration(None, file.file_check_frequency.as_ref(), 20)?,
        sync_frequency: duration(flags.sync_frequency.as_ref(), file.sync_frequency.as_ref(), 60)?,
        status_update_frequency: duration(flags.node_status_update_frequency.as_ref(), file.node_status_update_frequency.as_ref(), 10)?,
        status_report_frequency: duration(None, file.node_status_report_frequency.as_ref(), 300)?,
        lease_seconds: file.node_lease_duration_seconds.filter(|seconds| *seconds > 0).unwrap_or(40),
        max_pods: flags.max_pods.or(file.max_pods).filter(|count| *count > 0).unwrap_or(110),
        address: flags.address.or(file.address).unwrap_or(any),
        port: flags.port.or(file.port).unwrap_or(10250),
        healthz_address: flags.healthz_bind_address.or(file.healthz_bind_address).unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        healthz_port: flags.healthz_port.or(file.healthz_port).unwrap_or(10248),
        tls_cert_file: flags.tls_cert_file.clone().or(file.tls_cert_file),
        tls_key_file: flags.tls_private_key_file.clone().or(file.tls_private_key_file),
        client_ca_file: flags.client_ca_file.clone().or(file.authentication.x509.client_ca_file),
        anonymous: flags.anonymous_auth.or(file.authentication.anonymous.enabled).unwrap_or(false),
        webhook_authentication: flags.authentication_token_webhook.or(file.authentication.webhook.enabled).unwrap_or(true),
        webhook_authorization: mode == "Webhook",
        debugging_handlers: file.enable_debugging_handlers.unwrap_or(true),
        cgroup_driver: driver,
        cgroup_root: flags.cgroup_root.clone().or(file.cgroup_root).unwrap_or_default(),
        cgroups_per_qos: flags.cgroups_per_qos.or(file.cgroups_per_qos).unwrap_or(true),
        kube_reserved: map(&flags.kube_reserved, file.kube_reserved, '=', "kube-reserved")?,
        system_reserved: map(&flags.system_reserved, file.system_reserved, '=', "system-reserved")?,
        eviction_hard: map(&flags.eviction_hard, file.eviction_hard.unwrap_or_else(default_eviction), '<', "eviction-hard")?,
        fail_swap_on: flags.fail_swap_on.or(file.fail_swap_on).unwrap_or(true),
        serialize_image_pulls: flags.serialize_image_pulls.or(file.serialize_image_pulls).unwrap_or(true),
        max_parallel_image_pulls: file.max_parallel_image_pulls,
        image_gc_high_percent: flags.image_gc_high_threshold.or(file.image_gc_high_threshold_percent).unwrap_or(85),
        image_gc_low_percent: flags.image_gc_low_threshold.or(file.image_gc_low_threshold_percent).unwrap_or(80),
        image_min_gc_age: duration(None, file.image_minimum_gc_age.as_ref(), 120)?,
        pod_cidr: flags.pod_cidr.clone().or(file.pod_cidr).unwrap_or_default(),
        provider_id: flags.provider_id.clone().or(file.provider_id),
        log_max_bytes: log_bytes(&log_size)?,
        log_max_files: flags.container_log_max_files.or(file.container_log_max_files).unwrap_or(5),
        cpu_cfs_quota: file.cpu_cfs_quota.unwrap_or(true),
        seccomp_default: flags.seccomp_default.or(file.seccomp_default).unwrap_or(false),
        pod_pids_limit: flags.pod_max_pids.or(file.pod_pids_limit).unwrap_or(-1),
        max_restart_backoff: duration(None, file.crash_loop_back_off.max_container_restart_period.as_ref(), 300)?,
        effective,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_file_and_defaults_are_upstreams() {
        let head = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
        let file = parse(&format!("{head}maxPods: 30\nclusterDNS: [10.0.0.1]\nclusterDomain: x.y\nrotateCertificates: true\n")).unwrap();
        let flags = Options { max_pods: Some(20), ..Options::default() };
        let settings = resolve(&flags, file).unwrap();
        assert_eq!((settings.max_pods, settings.port, settings.healthz_port), (20, 10250, 10248));
        assert_eq!(settings.cluster_dns, ["10.0.0.1"]);
        assert_eq!(settings.log_max_bytes, 10 << 20);
        assert!(!settings.anonymous && settings.webhook_authorization);
        assert!(parse(&format!("{head}maxPodz: 1\n")).unwrap_err().contains("unknown field \"maxPodz\""));
        assert!(parse("kind: Pod\napiVersion: v1\n").is_err());
    }

    #[test]
    fn taints() {
        assert_eq!(taint("a=b:NoSchedule").unwrap().value.as_deref(), Some("b"));
        assert_eq!(taint("a:NoExecute").unwrap().key, "a");
        assert!(taint("a=b").is_err() && taint("a=b:Never").is_err());
    }
}
