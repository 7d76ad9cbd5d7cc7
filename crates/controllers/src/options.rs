//! The flags of kube-controller-manager, with upstream's names and defaults (cmd/kube-controller-manager/app/options).

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args};
use ipnet::IpNet;

#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Path to the kubeconfig file with authorization and API server location information.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// Sent with every request; only the kubeconfig's server is used when empty.
    #[arg(long, default_value = "")]
    pub master: String,
    /// Requests per second to the API server; 0 for no limit.
    #[arg(long, default_value_t = 0.0)]
    pub kube_api_qps: f32,
    /// Which controllers run: `*` for all that are on by default, `NAME` for one, `-NAME` without one.
    #[arg(long, value_delimiter = ',', default_value = "*")]
    pub controllers: Vec<String>,
    /// The address on which to serve health checks and metrics.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: std::net::IpAddr,
    /// The port on which to serve health checks and metrics; 0 for none.
    #[arg(long, default_value_t = 10257)]
    pub secure_port: u16,
    /// Run only as the elected leader.
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub leader_elect: bool,
    #[arg(long, default_value = "15s", value_parser = base::duration::parse)]
    pub leader_elect_lease_duration: Duration,
    #[arg(long, default_value = "10s", value_parser = base::duration::parse)]
    pub leader_elect_renew_deadline: Duration,
    #[arg(long, default_value = "2s", value_parser = base::duration::parse)]
    pub leader_elect_retry_period: Duration,
    #[arg(long, default_value = "leases", value_parser = ["leases"])]
    pub leader_elect_resource_lock: String,
    #[arg(long, default_value = "kube-controller-manager")]
    pub leader_elect_resource_name: String,
    #[arg(long, default_value = "kube-system")]
    pub leader_elect_resource_namespace: String,
    /// Give every controller the identity of its own service account.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub use_service_account_credentials: bool,
    /// The CA bundle that is published to every namespace.
    #[arg(long)]
    pub root_ca_file: Option<PathBuf>,
    /// The key that signs service account tokens.
    #[arg(long)]
    pub service_account_private_key_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_cert_file: Option<PathBuf>,
    #[arg(long)]
    pub cluster_signing_key_file: Option<PathBuf>,
    #[arg(long)]
    pub client_ca_file: Option<PathBuf>,
    #[arg(long)]
    pub requestheader_client_ca_file: Option<PathBuf>,
    #[arg(long)]
    pub authentication_kubeconfig: Option<PathBuf>,
    #[arg(long)]
    pub authorization_kubeconfig: Option<PathBuf>,
    #[arg(long, default_value = "kubernetes")]
    pub cluster_name: String,
    /// The ranges of pod addresses, one per family.
    #[arg(long, value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// The ranges of service addresses.
    #[arg(long, value_delimiter = ',')]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// Give nodes their parts of the cluster CIDR.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub allocate_node_cidrs: bool,
    /// Mask of a node's part; 24 for IPv4 and 64 for IPv6 unless told.
    #[arg(long)]
    pub node_cidr_mask_size: Option<u8>,
    #[arg(long)]
    pub node_cidr_mask_size_ipv4: Option<u8>,
    #[arg(long)]
    pub node_cidr_mask_size_ipv6: Option<u8>,
    /// How often the heartbeats of nodes are looked at.
    #[arg(long, default_value = "5s", value_parser = base::duration::parse)]
    pub node_monitor_period: Duration,
    /// How long a silent node counts as healthy.
    #[arg(long, default_value = "50s", value_parser = base::duration::parse)]
    pub node_monitor_grace_period: Duration,
    /// How long a new node may be silent.
    #[arg(long, default_value = "1m", value_parser = base::duration::parse)]
    pub node_startup_grace_period: Duration,
    /// Nodes per second from which pods are evicted in a healthy zone.
    #[arg(long, default_value_t = 0.1)]
    pub node_eviction_rate: f64,
    /// The same in an unhealthy zone.
    #[arg(long, default_value_t = 0.01)]
    pub secondary_node_eviction_rate: f64,
    /// Zones up to this size count as small: no evictions while they are unhealthy.
    #[arg(long, default_value_t = 50)]
    pub large_cluster_size_threshold: usize,
    /// The share of not ready nodes that makes a zone unhealthy.
    #[arg(long, default_value_t = 0.55)]
    pub unhealthy_zone_threshold: f32,
    /// Finished pods that may exist before the oldest are deleted; 0 for no limit.
    #[arg(long, default_value_t = 12500)]
    pub terminated_pod_gc_threshold: usize,
    #[arg(long, default_value_t = 100)]
    pub max_endpoints_per_slice: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_deployment_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_replicaset_syncs: usize,
    #[arg(long, default_value_t = 2)]
    pub concurrent_daemonset_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_endpoint_syncs: usize,
    #[arg(long, default_value_t = 5)]
    pub concurrent_service_endpoint_syncs: usize,
    #[arg(long, default_value_t = 10)]
    pub concurrent_namespace_syncs: usize,
    #[arg(long, default_value_t = 20)]
    pub concurrent_gc_syncs: usize,
    #[arg(long, default_value_t = 1)]
    pub concurrent_serviceaccount_token_syncs: usize,
    /// The log's verbosity.
    #[arg(short = 'v', long = "v", default_value_t = 0)]
    pub verbosity: u8,
}

impl Options {
    /// Whether a controller is wanted (`IsControllerEnabled` in staging/src/k8s.io/controller-manager).
    pub fn runs(&self, name: &str, by_default: bool) -> bool {
        let mut star = false;
        for wanted in &self.controllers {
            match wanted.as_str() {
                "*" => star = true,
                other if other == name => return true,
                other if other.strip_prefix('-') == Some(name) => return false,
                _ => {}
            }
        }
        star && by_default
    }

    /// The mask of a node's range of this family.
    pub fn node_mask(&self, cluster: &IpNet) -> u8 {
        match cluster {
            IpNet::V4(_) => self.node_cidr_mask_size_ipv4.or(self.node_cidr_mask_size).unwrap_or(24),
            IpNet::V6(_) => self.node_cidr_mask_size_ipv6.or(self.node_cidr_mask_size).unwrap_or(64),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn parse(flags: &str) -> Options {
        let flags = std::iter::once("test").chain(flags.split_whitespace());
        Command::try_parse_from(flags).unwrap_or_else(|error| panic!("{error}")).options
    }

    #[test]
    fn flags_as_kubeadm_writes_them() {
        let options = parse(
            "--allocate-node-cidrs=true --bind-address=127.0.0.1 --cluster-cidr=10.244.0.0/16 --cluster-name=kubernetes --controllers=*,bootstrapsigner,tokencleaner \
             --kubeconfig=/etc/kubernetes/controller-manager.conf --leader-elect=true --use-service-account-credentials=true --service-cluster-ip-range=10.96.0.0/12",
        );
        assert!(options.allocate_node_cidrs && options.leader_elect && options.use_service_account_credentials);
        assert_eq!(options.node_mask(&options.cluster_cidr[0]), 24);
        assert!(!parse("--leader-elect=false").leader_elect && parse("--leader-elect").leader_elect);
    }

    #[test]
    fn which_controllers_run() {
        let check = |flag: &str, name: &str, by_default: bool, expected: bool| {
            assert_eq!(parse(&format!("--controllers={flag}")).runs(name, by_default), expected)
        };
        check("*", "a", true, true);
        check("*", "a", false, false);
        check("*,a", "a", false, true);
        check("*,-a", "a", true, false);
        check("b", "a", true, false);
    }
}
