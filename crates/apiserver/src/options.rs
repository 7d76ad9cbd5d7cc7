//! Flags of kube-apiserver, with upstream's names and defaults.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Args;

use crate::admission::AdmissionOptions;
use crate::auth::AuthOptions;
use crate::storage::MediaType;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// HTTPS port; 0 takes any free one.
    #[arg(long, default_value_t = 6443)]
    pub secure_port: u16,
    /// Address under which members of the cluster reach this server; found from the routes where it is not set.
    #[arg(long)]
    pub advertise_address: Option<IpAddr>,
    #[arg(long)]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub tls_private_key_file: Option<PathBuf>,
    /// Endpoints of etcd. Without them the embedded store of --data-dir is used.
    #[arg(long, value_delimiter = ',')]
    pub etcd_servers: Vec<String>,
    #[arg(long)]
    pub etcd_cafile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_certfile: Option<PathBuf>,
    #[arg(long)]
    pub etcd_keyfile: Option<PathBuf>,
    #[arg(long, default_value = "/registry")]
    pub etcd_prefix: String,
    /// The form in which objects are written to the store: JSON, which needs no translation for clients, or application/vnd.kubernetes.protobuf, which
    /// is upstream's default. Both are read.
    #[arg(long, default_value = "application/json")]
    pub storage_media_type: MediaType,
    /// How often what is older than the last such time is forgotten; 0: never.
    #[arg(long, default_value = "5m0s", value_parser = base::duration::parse)]
    pub etcd_compaction_interval: std::time::Duration,
    /// Folder of the embedded store.
    #[arg(long, default_value = "/var/lib/oxikube/store")]
    pub data_dir: PathBuf,
    /// Addresses of Services.
    #[arg(long, default_value = "10.96.0.0/12")]
    pub service_cluster_ip_range: String,
    #[arg(long, default_value = "30000-32767")]
    pub service_node_port_range: String,
    #[arg(long, default_value = "1h0m0s", value_parser = base::duration::parse)]
    pub event_ttl: std::time::Duration,
    #[arg(long, default_value_t = 400)]
    pub max_requests_inflight: usize,
    #[arg(long, default_value_t = 200)]
    pub max_mutating_requests_inflight: usize,
    #[arg(long)]
    pub kubelet_client_certificate: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_client_key: Option<PathBuf>,
    #[arg(long)]
    pub kubelet_certificate_authority: Option<PathBuf>,
    #[arg(long, value_delimiter = ',', default_value = "Hostname,InternalDNS,InternalIP,ExternalDNS,ExternalIP")]
    pub kubelet_preferred_address_types: Vec<String>,
    #[arg(long)]
    pub proxy_client_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub proxy_client_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub auth: AuthOptions,
    #[command(flatten)]
    pub admission: AdmissionOptions,
    /// Whether privileged containers may run.
    #[arg(long, num_args = 0..=1, default_value = "false", default_missing_value = "true", action = clap::ArgAction::Set)]
    pub allow_privileged: bool,
    /// Accepted for compatibility: the server logs that it has no effect.
    #[command(flatten)]
    pub ignored: Ignored,
}

/// Real flags of upstream that mean nothing here.
#[derive(Args, Clone, Debug, Default)]
pub struct Ignored {
    #[arg(long, hide = true)]
    pub cert_dir: Option<PathBuf>,
    #[arg(long, hide = true, value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    #[arg(long, hide = true, value_delimiter = ',')]
    pub runtime_config: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    pub profiling: Option<bool>,
    #[arg(long, hide = true)]
    pub storage_backend: Option<String>,
    #[arg(long, hide = true)]
    pub etcd_healthcheck_timeout: Option<String>,
    #[arg(long, hide = true)]
    pub etcd_readycheck_timeout: Option<String>,
    #[arg(long, hide = true)]
    pub etcd_count_metric_poll_period: Option<String>,
    #[arg(long, hide = true)]
    pub etcd_db_metric_poll_interval: Option<String>,
    #[arg(long, hide = true)]
    pub endpoint_reconciler_type: Option<String>,
    #[arg(long, hide = true)]
    pub apiserver_count: Option<u32>,
    #[arg(long, hide = true)]
    pub enable_aggregator_routing: Option<String>,
    #[arg(long, hide = true)]
    pub audit_log_path: Option<String>,
    #[arg(long, hide = true)]
    pub audit_policy_file: Option<String>,
    #[arg(long, hide = true)]
    pub encryption_provider_config: Option<String>,
    #[arg(long, hide = true)]
    pub external_hostname: Option<String>,
    #[arg(long, hide = true)]
    pub min_request_timeout: Option<u64>,
    #[arg(long, hide = true)]
    pub request_timeout: Option<String>,
    #[arg(long, hide = true)]
    pub default_watch_cache_size: Option<u64>,
    #[arg(long, hide = true)]
    pub goaway_chance: Option<f64>,
    #[arg(long, hide = true)]
    pub tls_cipher_suites: Option<String>,
    #[arg(long, hide = true)]
    pub tls_min_version: Option<String>,
}

impl Ignored {
    /// The names of those that were set.
    pub fn named(&self) -> Vec<&'static str> {
        let set = [
            ("cert-dir", self.cert_dir.is_some()),
            ("feature-gates", !self.feature_gates.is_empty()),
            ("runtime-config", !self.runtime_config.is_empty()),
            // Nothing is profiled: switching it off is obeyed.
            ("profiling", self.profiling == Some(true)),
            ("storage-backend", self.storage_backend.is_some()),
            ("etcd-healthcheck-timeout", self.etcd_healthcheck_timeout.is_some()),
            ("etcd-readycheck-timeout", self.etcd_readycheck_timeout.is_some()),
            ("etcd-count-metric-poll-period", self.etcd_count_metric_poll_period.is_some()),
            ("etcd-db-metric-poll-interval", self.etcd_db_metric_poll_interval.is_some()),
            ("endpoint-reconciler-type", self.endpoint_reconciler_type.is_some()),
            ("apiserver-count", self.apiserver_count.is_some()),
            ("enable-aggregator-routing", self.enable_aggregator_routing.is_some()),
            ("audit-log-path", self.audit_log_path.is_some()),
            ("audit-policy-file", self.audit_policy_file.is_some()),
            ("encryption-provider-config", self.encryption_provider_config.is_some()),
            ("external-hostname", self.external_hostname.is_some()),
            ("min-request-timeout", self.min_request_timeout.is_some()),
            ("request-timeout", self.request_timeout.is_some()),
            ("default-watch-cache-size", self.default_watch_cache_size.is_some()),
            ("goaway-chance", self.goaway_chance.is_some()),
            ("tls-cipher-suites", self.tls_cipher_suites.is_some()),
            ("tls-min-version", self.tls_min_version.is_some()),
        ];
        set.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name).collect()
    }
}

impl Default for Options {
    /// What the command line gives without flags.
    fn default() -> Self {
        use clap::{Command, FromArgMatches};
        let command = Self::augment_args(Command::new("kube-apiserver"));
        let matches = command.get_matches_from(["kube-apiserver"]);
        Self::from_arg_matches(&matches).expect("every flag has a default or is optional")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_without_effect_are_named() {
        use clap::{Command, FromArgMatches};
        let check = |flags: &[&str], expected: &[&str]| {
            let command = Options::augment_args(Command::new("kube-apiserver"));
            let matches = command.try_get_matches_from([&["kube-apiserver"], flags].concat()).unwrap();
            assert_eq!(Options::from_arg_matches(&matches).unwrap().ignored.named(), expected, "{flags:?}");
        };
        check(&["--feature-gates=A=true,B=false", "--runtime-config=api/all=true"], &["feature-gates", "runtime-config"]);
        check(&["--profiling=false"], &[]);
        check(&["--profiling", "--cert-dir=/x"], &["cert-dir", "profiling"]);
    }

    #[test]
    fn defaults_are_upstreams() {
        let options = Options::default();
        assert_eq!(options.etcd_compaction_interval.as_secs(), 300);
        assert_eq!(options.ignored.named(), [""; 0]);
        assert_eq!((options.secure_port, options.event_ttl.as_secs(), options.max_requests_inflight), (6443, 3600, 400));
    }
}
