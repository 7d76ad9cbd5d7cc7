//! The kubelet's flags and its configuration file, resolved into one `Settings`. Flags win over the file, as upstream.

mod file;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::core::v1::Taint;

pub use file::ConfigError;

/// Upstream's flags (cmd/kubelet/app/options). An absent flag leaves the decision to `--config`, then to the default.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Options {
    /// The file with the KubeletConfiguration (kubelet.config.k8s.io/v1beta1)
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The kubeconfig file that says how to reach the API server
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The name of this node, instead of the host's name
    #[arg(long)]
    pub hostname_override: Option<String>,
    /// The node's own address, or one of each family, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Where volumes and pod files are kept
    #[arg(long)]
    pub root_dir: Option<PathBuf>,
    /// Where certificates are kept that the kubelet makes for itself
    #[arg(long)]
    pub cert_dir: Option<PathBuf>,
    /// Labels of the node when it registers: k=v, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub node_labels: Vec<String>,
    /// Makes its own Node object
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub register_node: Option<bool>,
    /// Taints of the node when it registers: key=value:effect, comma-separated
    #[arg(long, value_delimiter = ',')]
    pub register_with_taints: Vec<String>,
    /// The runtime's CRI socket, such as unix:///run/containerd/containerd.sock
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    /// The image service's CRI socket, if it is another one
    #[arg(long)]
    pub image_service_endpoint: Option<String>,
    /// Addresses of the cluster's DNS servers
    #[arg(long, value_delimiter = ',')]
    pub cluster_dns: Vec<String>,
    /// The cluster's DNS domain
    #[arg(long)]
    pub cluster_domain: Option<String>,
    /// The resolver configuration that pods' is based on
    #[arg(long)]
    pub resolv_conf: Option<PathBuf>,
    /// The folder of static pod manifests
    #[arg(long)]
    pub pod_manifest_path: Option<PathBuf>,
    #[arg(long)]
    pub max_pods: Option<i64>,
    /// The address the server listens on
    #[arg(long)]
    pub address: Option<IpAddr>,
    /// The port of the server
    #[arg(long)]
    pub port: Option<u16>,
    /// The port of the health endpoint; 0 turns it off
    #[arg(long)]
    pub healthz_port: Option<u16>,
    #[arg(long)]
    pub healthz_bind_address: Option<IpAddr>,
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Client certificates signed by one of these authorities are accepted
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub anonymous_auth: Option<bool>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub authentication_token_webhook: Option<bool>,
    /// AlwaysAllow or Webhook
    #[arg(long)]
    pub authorization_mode: Option<String>,
    /// cgroupfs or systemd
    #[arg(long)]
    pub cgroup_driver: Option<String>,
    /// The cgroup below which pods are put
    #[arg(long)]
    pub cgroup_root: Option<String>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cgroups_per_qos: Option<bool>,
    /// Kept for Kubernetes' own processes: cpu=200m,memory=500Mi
    #[arg(long, value_delimiter = ',')]
    pub kube_reserved: Vec<String>,
    /// Kept for the operating system: cpu=200m,memory=500Mi
    #[arg(long, value_delimiter = ',')]
    pub system_reserved: Vec<String>,
    /// memory.available<100Mi,nodefs.available<10%
    #[arg(long, value_delimiter = ',')]
    pub eviction_hard: Vec<String>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub fail_swap_on: Option<bool>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub serialize_image_pulls: Option<bool>,
    #[arg(long)]
    pub image_gc_high_threshold: Option<i32>,
    #[arg(long)]
    pub image_gc_low_threshold: Option<i32>,
    #[arg(long)]
    pub pod_cidr: Option<String>,
    #[arg(long)]
    pub provider_id: Option<String>,
    #[arg(long)]
    pub node_status_update_frequency: Option<String>,
    #[arg(long)]
    pub sync_frequency: Option<String>,
    #[arg(long)]
    pub container_log_max_size: Option<String>,
    #[arg(long)]
    pub container_log_max_files: Option<u32>,
    #[arg(long, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub seccomp_default: Option<bool>,
    #[arg(long)]
    pub pod_max_pids: Option<i64>,
    #[arg(long)]
    pub runtime_request_timeout: Option<String>,
}

/// Everything decided.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node_name: String,
    pub hostname: String,
    pub node_ips: Vec<IpAddr>,
    pub root_dir: PathBuf,
    pub cert_dir: PathBuf,
    pub pod_logs_dir: PathBuf,
    pub node_labels: BTreeMap<String, String>,
    pub register_node: bool,
    pub register_taints: Vec<Taint>,
    pub runtime_endpoint: String,
    pub image_endpoint: String,
    pub runtime_timeout: Duration,
    pub cluster_dns: Vec<String>,
    pub cluster_domain: String,
    pub resolv_conf: PathBuf,
    pub static_pod_path: Option<PathBuf>,
    pub file_check_frequency: Duration,
    pub sync_frequency: Duration,
    pub status_update_frequency: Duration,
    pub status_report_frequency: Duration,
    pub lease_seconds: i32,
    pub max_pods: i64,
    pub address: IpAddr,
    pub port: u16,
    pub healthz_address: IpAddr,
    pub healthz_port: u16,
    pub tls_cert_file: Option<PathBuf>,
    pub tls_key_file: Option<PathBuf>,
    pub client_ca_file: Option<PathBuf>,
    pub anonymous: bool,
    pub webhook_authentication: bool,
    pub webhook_authorization: bool,
    pub debugging_handlers: bool,
    pub cgroup_driver: String,
    pub cgroup_root: String,
    pub cgroups_per_qos: bool,
    pub kube_reserved: BTreeMap<String, String>,
    pub system_reserved: BTreeMap<String, String>,
    pub eviction_hard: BTreeMap<String, String>,
    pub fail_swap_on: bool,
    pub serialize_image_pulls: bool,
    pub max_parallel_image_pulls: Option<usize>,
    pub image_gc_high_percent: i32,
    pub image_gc_low_percent: i32,
    pub image_min_gc_age: Duration,
    pub pod_cidr: String,
    pub provider_id: Option<String>,
    pub log_max_bytes: u64,
    pub log_max_files: u32,
    pub cpu_cfs_quota: bool,
    pub seccomp_default: bool,
    pub pod_pids_limit: i64,
    pub max_restart_backoff: Duration,
    /// The effective configuration, for /configz.
    pub effective: serde_json::Value,
}

impl Options {
    /// Reads `--config`, applies the flags on it and upstream's defaults below it.
    pub fn resolve(&self) -> Result<Settings, ConfigError> {
        let file = match &self.config {
            Some(path) => file::read(path)?,
            None => file::KubeletConfiguration::default(),
        };
        file::resolve(self, file)
    }
}

/// The host's name, in lower case as upstream makes it.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().trim().to_lowercase()
}

impl Settings {
    /// The value of kubernetes.io/hostname: the node's name, which upstream's hostname override is.
    pub fn hostname_label(&self) -> String {
        self.node_name.clone()
    }
}
