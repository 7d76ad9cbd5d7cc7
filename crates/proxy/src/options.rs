//! Flags and the configuration file of kube-proxy, with upstream's names and defaults.
//! Source: cmd/kube-proxy/app/options.go, staging/src/k8s.io/kube-proxy/config/v1alpha1, pkg/proxy/apis/config/v1alpha1/defaults.go.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::compile::{LocalTraffic, NodePorts, Settings};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}: {message}")]
    Parse { path: PathBuf, message: String },
    #[error("{field}: Invalid value: {value:?}: {message}")]
    Invalid { field: &'static str, value: String, message: String },
}

/// kube-proxy's flags. Those that configure other modes are accepted and do nothing, as upstream's do in this mode.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The path to the configuration file. Other flags are ignored then.
    #[arg(long, default_value = "")]
    pub config: String,
    /// Remove the rules of kube-proxy and exit.
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub cleanup: bool,
    #[arg(long, default_value = "")]
    pub kubeconfig: String,
    #[arg(long, default_value = "")]
    pub master: String,
    /// The name of this node's Node object; the host's name if unset.
    #[arg(long, default_value = "")]
    pub hostname_override: String,
    /// Overrides the node's primary IP.
    #[arg(long, default_value = "0.0.0.0")]
    pub bind_address: String,
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub bind_address_hard_fail: bool,
    #[arg(long, default_value = "0.0.0.0:10256")]
    pub healthz_bind_address: String,
    #[arg(long, default_value = "127.0.0.1:10249")]
    pub metrics_bind_address: String,
    /// nftables; iptables and ipvs are refused.
    #[arg(long, default_value = "")]
    pub proxy_mode: String,
    /// The CIDRs of the cluster's pods.
    #[arg(long, default_value = "")]
    pub cluster_cidr: String,
    /// How traffic of pods is told from other traffic: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix.
    #[arg(long, default_value = "")]
    pub detect_local_mode: String,
    #[arg(long, default_value = "")]
    pub pod_bridge_interface: String,
    #[arg(long, default_value = "")]
    pub pod_interface_name_prefix: String,
    /// Networks on whose addresses node ports are open, or `primary`.
    #[arg(long, value_delimiter = ',')]
    pub nodeport_addresses: Vec<String>,
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub masquerade_all: bool,
    #[arg(long, default_value = "15m")]
    pub config_sync_period: String,
    #[arg(long, default_value_t = 5.0)]
    pub kube_api_qps: f32,
    #[arg(long, default_value_t = 10)]
    pub kube_api_burst: i32,
    #[arg(long, default_value_t = 32768)]
    pub conntrack_max_per_core: u32,
    #[arg(long, default_value_t = 131072)]
    pub conntrack_min: u32,
    #[arg(long, default_value = "24h")]
    pub conntrack_tcp_timeout_established: String,
    #[arg(long, default_value = "1h")]
    pub conntrack_tcp_timeout_close_wait: String,
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub conntrack_tcp_be_liberal: bool,
    #[arg(long, default_value = "0s")]
    pub conntrack_udp_timeout: String,
    #[arg(long, default_value = "0s")]
    pub conntrack_udp_timeout_stream: String,
    #[arg(long, default_value_t = -999, allow_hyphen_values = true)]
    pub oom_score_adj: i32,
    #[arg(long, value_delimiter = ',')]
    pub feature_gates: Vec<String>,
    #[arg(long, default_value_t = 14)]
    pub iptables_masquerade_bit: u8,
    #[arg(long, default_value = "30s")]
    pub iptables_sync_period: String,
    #[arg(long, default_value = "1s")]
    pub iptables_min_sync_period: String,
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub profiling: bool,
}

/// The configuration file: `kubeproxy.config.k8s.io/v1alpha1`, KubeProxyConfiguration. Empty fields take the defaults.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct File {
    api_version: String,
    kind: String,
    bind_address: String,
    bind_address_hard_fail: bool,
    client_connection: ClientConnection,
    #[serde(rename = "clusterCIDR")]
    cluster_cidr: String,
    config_sync_period: String,
    conntrack: Conntrack,
    detect_local: DetectLocal,
    detect_local_mode: String,
    healthz_bind_address: String,
    hostname_override: String,
    metrics_bind_address: String,
    mode: String,
    nftables: NfTables,
    node_port_addresses: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ClientConnection {
    kubeconfig: String,
    qps: f32,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conntrack {
    max_per_core: Option<u32>,
    min: Option<u32>,
    tcp_established_timeout: Option<String>,
    tcp_close_wait_timeout: Option<String>,
    tcp_be_liberal: bool,
    udp_timeout: Option<String>,
    udp_stream_timeout: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DetectLocal {
    bridge_interface: String,
    interface_name_prefix: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NfTables {
    masquerade_all: bool,
    masquerade_bit: Option<u8>,
    sync_period: String,
    min_sync_period: String,
}

/// The configuration that the proxy runs with.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub node_name: String,
    /// `None`: from inside a cluster or handed over by the composing process.
    pub kubeconfig: Option<PathBuf>,
    /// Requests a second; negative: no limit.
    pub qps: f32,
    pub settings: Settings,
    /// Overrides the Node's addresses.
    pub node_ip: Option<IpAddr>,
    /// `None`: not served.
    pub healthz: Option<SocketAddr>,
    pub metrics: Option<SocketAddr>,
    /// A port that is taken stops the proxy instead of being logged.
    pub bind_hard_fail: bool,
    /// How often the rules are looked at though nothing changed.
    pub sync_period: Duration,
    /// The least time between two writes of rules.
    pub min_sync_period: Duration,
    pub conntrack: ConntrackLimits,
}

/// Sysctls of connection tracking; 0 leaves what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConntrackLimits {
    pub max_per_core: u32,
    pub min: u32,
    pub tcp_established: Duration,
    pub tcp_close_wait: Duration,
    pub tcp_be_liberal: bool,
    pub udp: Duration,
    pub udp_stream: Duration,
}

impl Options {
    /// The configuration that flags or the file ask for. `hostname` names the node if nothing else does.
    pub fn config(&self, hostname: &str) -> Result<Config, ConfigError> {
        let file = if self.config.is_empty() { self.as_file() } else { read_file(Path::new(&self.config))? };
        // Upstream lets this one flag win over the file.
        let hostname = if self.hostname_override.is_empty() { hostname } else { &self.hostname_override };
        file.config(hostname)
    }

    fn as_file(&self) -> File {
        File {
            bind_address: self.bind_address.clone(),
            bind_address_hard_fail: self.bind_address_hard_fail,
            client_connection: ClientConnection { kubeconfig: self.kubeconfig.clone(), qps: self.kube_api_qps },
            cluster_cidr: self.cluster_cidr.clone(),
            config_sync_period: self.config_sync_period.clone(),
            conntrack: Conntrack {
                max_per_core: Some(self.conntrack_max_per_core),
                min: Some(self.conntrack_min),
                tcp_established_timeout: Some(self.conntrack_tcp_timeout_established.clone()),
                tcp_close_wait_timeout: Some(self.conntrack_tcp_timeout_close_wait.clone()),
                tcp_be_liberal: self.conntrack_tcp_be_liberal,
                udp_timeout: Some(self.conntrack_udp_timeout.clone()),
                udp_stream_timeout: Some(self.conntrack_udp_timeout_stream.clone()),
            },
            detect_local: DetectLocal {
                bridge_interface: self.pod_bridge_interface.clone(),
                interface_name_prefix: self.pod_interface_name_prefix.clone(),
            },
            detect_local_mode: self.detect_local_mode.clone(),
            healthz_bind_address: self.healthz_bind_address.clone(),
            hostname_override: self.hostname_override.clone(),
            metrics_bind_address: self.metrics_bind_address.clone(),
            mode: self.proxy_mode.clone(),
            nftables: NfTables {
                masquerade_all: self.masquerade_all,
                masquerade_bit: Some(self.iptables_masquerade_bit),
                sync_period: self.iptables_sync_period.clone(),
                min_sync_period: self.iptables_min_sync_period.clone(),
            },
            node_port_addresses: Some(self.nodeport_addresses.clone()),
            ..File::default()
        }
    }
}

fn read_file(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let parse = |message: String| ConfigError::Parse { path: path.to_owned(), message };
    let file: File = serde_saphyr::from_str(&text).map_err(|e| parse(e.to_string()))?;
    if (file.api_version.as_str(), file.kind.as_str()) != ("kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration") {
        let message = format!(
            "is a {:?} of {:?}; kube-proxy reads KubeProxyConfiguration of kubeproxy.config.k8s.io/v1alpha1",
            file.kind, file.api_version
        );
        return Err(parse(message));
    }
    Ok(file)
}

fn invalid<T>(field: &'static str, value: impl Into<String>, message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Invalid { field, value: value.into(), message: message.into() })
}

impl File {
    fn config(&self, hostname: &str) -> Result<Config, ConfigError> {
        match self.mode.as_str() {
            "" | "nftables" => {}
            "iptables" | "ipvs" => {
                return invalid("Mode", &self.mode, "only nftables is there yet; set mode (or --proxy-mode) to nftables");
            }
            other => return invalid("Mode", other, "must be nftables"),
        }
        let bind: Option<IpAddr> = match self.bind_address.as_str() {
            "" => None,
            text => Some(parse("BindAddress", text, "not a valid textual representation of an IP address")?),
        };
        let name = if self.hostname_override.is_empty() { hostname } else { &self.hostname_override };
        let masquerade_bit = self.nftables.masquerade_bit.unwrap_or(14);
        if masquerade_bit > 31 {
            return invalid("NFTables.MasqueradeBit", masquerade_bit.to_string(), "must be within the range [0, 31]");
        }
        let seconds =
            |field, text: &str, default: u64| if text.is_empty() { Ok(Duration::from_secs(default)) } else { duration(field, text) };
        Ok(Config {
            // Node names are lower case. Source: pkg/util/node/node.go.
            node_name: name.trim().to_ascii_lowercase(),
            kubeconfig: (!self.client_connection.kubeconfig.is_empty()).then(|| self.client_connection.kubeconfig.clone().into()),
            qps: if self.client_connection.qps == 0.0 { 5.0 } else { self.client_connection.qps },
            settings: Settings {
                local_traffic: self.local_traffic()?,
                node_ports: self.node_ports()?,
                masquerade_all: self.nftables.masquerade_all,
                masquerade_bit,
            },
            node_ip: bind.filter(|ip| !ip.is_unspecified()),
            healthz: address("HealthzBindAddress", &self.healthz_bind_address, 10256, "0.0.0.0:10256")?,
            metrics: address("MetricsBindAddress", &self.metrics_bind_address, 10249, "127.0.0.1:10249")?,
            bind_hard_fail: self.bind_address_hard_fail,
            sync_period: seconds("NFTables.SyncPeriod", &self.nftables.sync_period, 30)?,
            min_sync_period: seconds("NFTables.MinSyncPeriod", &self.nftables.min_sync_period, 1)?,
            conntrack: self.conntrack()?,
        })
    }

    fn local_traffic(&self) -> Result<LocalTraffic, ConfigError> {
        let cidrs = |text: &str| {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts
                .map(|part| parse::<IpNet>("ClusterCIDR", part, "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"))
                .collect::<Result<Vec<_>, _>>()
        };
        match self.detect_local_mode.as_str() {
            "" | "ClusterCIDR" => {
                let cidrs: Vec<IpNet> = cidrs(&self.cluster_cidr)?;
                Ok(if cidrs.is_empty() { LocalTraffic::Unknown } else { LocalTraffic::Cidrs(cidrs) })
            }
            "NodeCIDR" => Ok(LocalTraffic::NodeCidrs),
            "BridgeInterface" => Ok(LocalTraffic::Bridge(interface("BridgeInterface", &self.detect_local.bridge_interface)?)),
            "InterfaceNamePrefix" => {
                Ok(LocalTraffic::InterfacePrefix(interface("InterfaceNamePrefix", &self.detect_local.interface_name_prefix)?))
            }
            other => invalid("DetectLocalMode", other, "must be ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix or blank"),
        }
    }

    fn node_ports(&self) -> Result<NodePorts, ConfigError> {
        let list = self.node_port_addresses.as_deref().unwrap_or_default();
        match list {
            [] => Ok(NodePorts::Primary),
            [one] if one == "primary" => Ok(NodePorts::Primary),
            many => {
                let cidrs = many.iter().map(|c| parse("NodePortAddresses", c, "must be a valid CIDR block or 'primary'"));
                Ok(NodePorts::Cidrs(cidrs.collect::<Result<_, _>>()?))
            }
        }
    }

    fn conntrack(&self) -> Result<ConntrackLimits, ConfigError> {
        let of = |field, text: &Option<String>, default: u64| match text.as_deref() {
            None | Some("") => Ok(Duration::from_secs(default)),
            Some(text) => duration(field, text),
        };
        let conntrack = &self.conntrack;
        Ok(ConntrackLimits {
            max_per_core: conntrack.max_per_core.unwrap_or(32768),
            min: conntrack.min.unwrap_or(131072),
            tcp_established: of("Conntrack.TCPEstablishedTimeout", &conntrack.tcp_established_timeout, 86400)?,
            tcp_close_wait: of("Conntrack.TCPCloseWaitTimeout", &conntrack.tcp_close_wait_timeout, 3600)?,
            tcp_be_liberal: conntrack.tcp_be_liberal,
            udp: of("Conntrack.UDPTimeout", &conntrack.udp_timeout, 0)?,
            udp_stream: of("Conntrack.UDPStreamTimeout", &conntrack.udp_stream_timeout, 0)?,
        })
    }
}

fn parse<T: std::str::FromStr>(field: &'static str, text: &str, message: &str) -> Result<T, ConfigError> {
    text.parse().or_else(|_| invalid(field, text, message))
}

/// The name becomes part of a rule.
fn interface(field: &'static str, name: &str) -> Result<String, ConfigError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > 15 || !name.bytes().all(plain) {
        return invalid(field, name, "must be the name of a network interface");
    }
    Ok(name.to_owned())
}

/// An address with or without a port. `0` and a port of 0 turn the server off.
fn address(field: &'static str, text: &str, port: u16, default: &str) -> Result<Option<SocketAddr>, ConfigError> {
    let text = if text.is_empty() { default } else { text };
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Some(SocketAddr::new(ip, port)));
    }
    let address: SocketAddr = match text.strip_prefix(':') {
        Some(port) => parse(field, &format!("0.0.0.0:{port}"), "must be IP:port")?,
        None => parse(field, text, "must be IP:port")?,
    };
    Ok((address.port() != 0).then_some(address))
}

/// A duration as Go writes it: `1h30m`, `1.5s`, `500ms`. Negative ones make no sense here.
fn duration(field: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let message = "must be a duration such as 30s or 1h30m";
    base::duration::parse(text).map_err(|_| ConfigError::Invalid { field, value: text.to_owned(), message: message.into() })
}

#[cfg(test)]
mod tests {
    use clap::{Args, FromArgMatches};

    use super::*;

    fn flags(args: &[&str]) -> Options {
        let command = Options::augment_args(clap::Command::new("kube-proxy").no_binary_name(true));
        Options::from_arg_matches(&command.try_get_matches_from(args).unwrap()).unwrap()
    }

    #[test]
    fn defaults_are_upstreams() {
        let config = flags(&[]).config("Node-A").unwrap();
        assert_eq!(config.node_name, "node-a");
        assert_eq!(config.settings, Settings::default());
        assert_eq!((config.healthz, config.metrics), ("0.0.0.0:10256".parse().ok(), "127.0.0.1:10249".parse().ok()));
        assert_eq!((config.sync_period, config.min_sync_period), (Duration::from_secs(30), Duration::from_secs(1)));
        assert_eq!(config.conntrack.tcp_established, Duration::from_secs(86400));
    }

    #[test]
    fn a_file_and_the_same_flags_are_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nclusterCIDR: 10.244.0.0/16\n\
                    healthzBindAddress: 127.0.0.1:1\nclientConnection: {kubeconfig: /k}\nnodePortAddresses: [10.0.0.0/8]\n\
                    nftables: {minSyncPeriod: 500ms, masqueradeAll: true}\nconntrack: {maxPerCore: null, min: null}\n";
        std::fs::write(&path, text).unwrap();
        let from_file = flags(&["--config", path.to_str().unwrap()]).config("n").unwrap();
        let args = "--proxy-mode=nftables --cluster-cidr=10.244.0.0/16 --healthz-bind-address=127.0.0.1:1 --kubeconfig=/k \
                    --nodeport-addresses=10.0.0.0/8 --iptables-min-sync-period=500ms --masquerade-all";
        assert_eq!(from_file, flags(&args.split_whitespace().collect::<Vec<_>>()).config("n").unwrap());
    }

    #[test]
    fn bad_values_are_named() {
        let check = |args: &[&str], expected: &str| {
            let error = flags(args).config("n").unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        };
        check(&["--proxy-mode=ipvs"], "Mode: Invalid value: \"ipvs\": only nftables is there yet");
        check(&["--cluster-cidr=x"], "ClusterCIDR: Invalid value: \"x\"");
        check(&["--detect-local-mode=BridgeInterface"], "BridgeInterface: Invalid value: \"\"");
        check(&["--nodeport-addresses=primary,10.0.0.0/8"], "NodePortAddresses: Invalid value: \"primary\"");
        check(&["--iptables-sync-period=1x"], "NFTables.SyncPeriod: Invalid value: \"1x\"");
        check(&["--config=/nowhere/at/all"], "read /nowhere/at/all: ");
    }
}
