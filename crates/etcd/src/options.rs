//! etcd's command line, environment and configuration file, down to what this server needs. Reads no file but the configuration's.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::bootstrap::urls::check_url;

const HEARTBEAT_MS: u64 = 100;
const ELECTION_MS: u64 = 1000;
/// etcd's maxElectionMs.
const MAX_ELECTION_MS: u64 = 50_000;
const SNAPSHOT_COUNT: u64 = 10_000;
/// etcd's DefaultQuotaBytes.
const DEFAULT_QUOTA_BYTES: u64 = 2 << 30;

#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("--{flag}: {reason}")]
    Flag { flag: &'static str, reason: String },
    #[error("the configuration file {path}: {reason}", path = path.display())]
    File { path: PathBuf, reason: String },
    #[error("{0}")]
    Cluster(String),
}

fn wrong(flag: &'static str, reason: impl Into<String>) -> OptionsError {
    OptionsError::Flag { flag, reason: reason.into() }
}

/// Flags with etcd's names and defaults; each is also an `ETCD_...` variable and a key of the configuration file.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct Options {
    /// YAML file; when it is given, the other flags and variables do not count.
    #[arg(long, env = "ETCD_CONFIG_FILE")]
    #[serde(skip)]
    pub config_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_NAME", default_value = "default")]
    pub name: String,
    /// `NAME.etcd` where it is not given.
    #[arg(long, env = "ETCD_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    #[arg(long, env = "ETCD_LISTEN_CLIENT_URLS", default_value = "http://localhost:2379")]
    pub listen_client_urls: String,
    #[arg(long, env = "ETCD_ADVERTISE_CLIENT_URLS", default_value = "http://localhost:2379")]
    pub advertise_client_urls: String,
    #[arg(long, env = "ETCD_LISTEN_PEER_URLS", default_value = "http://localhost:2380")]
    pub listen_peer_urls: String,
    #[arg(long, env = "ETCD_INITIAL_ADVERTISE_PEER_URLS", default_value = "http://localhost:2380")]
    pub initial_advertise_peer_urls: String,
    /// `NAME=PEER_URL,NAME=PEER_URL`; made from name and advertised URLs where it is not given.
    #[arg(long, env = "ETCD_INITIAL_CLUSTER")]
    pub initial_cluster: Option<String>,
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_TOKEN", default_value = "etcd-cluster")]
    pub initial_cluster_token: String,
    #[arg(long, env = "ETCD_INITIAL_CLUSTER_STATE", default_value = "new")]
    pub initial_cluster_state: String,
    /// etcd's old public discovery, which is gone.
    #[arg(long, env = "ETCD_DISCOVERY")]
    pub discovery: Option<String>,
    /// The domain whose SRV records name the first members.
    #[arg(long, env = "ETCD_DISCOVERY_SRV")]
    pub discovery_srv: Option<String>,
    /// Ends the name of the service of those records.
    #[arg(long, env = "ETCD_DISCOVERY_SRV_NAME")]
    pub discovery_srv_name: Option<String>,
    /// Client URLs of another cluster, in which new members find each other by `--discovery-token`.
    #[arg(long, env = "ETCD_DISCOVERY_ENDPOINTS")]
    pub discovery_endpoints: Option<String>,
    #[arg(long, env = "ETCD_DISCOVERY_TOKEN")]
    pub discovery_token: Option<String>,
    #[arg(long, env = "ETCD_DISCOVERY_CACERT")]
    pub discovery_cacert: Option<PathBuf>,
    #[arg(long, env = "ETCD_DISCOVERY_CERT")]
    pub discovery_cert: Option<PathBuf>,
    #[arg(long, env = "ETCD_DISCOVERY_KEY")]
    pub discovery_key: Option<PathBuf>,
    #[arg(long, env = "ETCD_FORCE_NEW_CLUSTER", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub force_new_cluster: bool,
    /// Refuse changes of the membership that would leave too few started members.
    #[arg(long, env = "ETCD_STRICT_RECONFIG_CHECK", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub strict_reconfig_check: bool,
    /// Log entries that are kept for slow members.
    #[arg(long, env = "ETCD_SNAPSHOT_COUNT", default_value_t = SNAPSHOT_COUNT)]
    pub snapshot_count: u64,
    #[arg(long, alias = "experimental-max-learners", env = "ETCD_MAX_LEARNERS", default_value_t = 1)]
    #[serde(alias = "experimental-max-learners")]
    pub max_learners: usize,
    #[arg(long, env = "ETCD_LISTEN_METRICS_URLS")]
    pub listen_metrics_urls: Option<String>,
    #[command(flatten)]
    #[serde(rename = "client-transport-security")]
    pub client_tls: ClientTls,
    #[command(flatten)]
    #[serde(rename = "peer-transport-security")]
    pub peer_tls: PeerTls,
    /// 0: 2 GiB; below 0: no quota.
    #[arg(long, env = "ETCD_QUOTA_BACKEND_BYTES", default_value_t = 0, allow_negative_numbers = true)]
    pub quota_backend_bytes: i64,
    /// `periodic` or `revision`.
    #[arg(long, env = "ETCD_AUTO_COMPACTION_MODE", default_value = "periodic")]
    pub auto_compaction_mode: String,
    /// A duration or hours in periodic mode, a number of revisions in revision mode; 0: never.
    #[arg(long, env = "ETCD_AUTO_COMPACTION_RETENTION", default_value = "0")]
    pub auto_compaction_retention: String,
    #[arg(long, env = "ETCD_HEARTBEAT_INTERVAL", default_value_t = HEARTBEAT_MS)]
    pub heartbeat_interval: u64,
    #[arg(long, env = "ETCD_ELECTION_TIMEOUT", default_value_t = ELECTION_MS)]
    pub election_timeout: u64,
    #[arg(long, env = "ETCD_MAX_REQUEST_BYTES", default_value_t = 3 << 19)]
    pub max_request_bytes: usize,
    #[arg(long, env = "ETCD_MAX_TXN_OPS", default_value_t = 128)]
    pub max_txn_ops: usize,
    #[arg(long, env = "ETCD_MAX_CONCURRENT_STREAMS", default_value_t = u32::MAX)]
    pub max_concurrent_streams: u32,
    #[arg(long, alias = "experimental-watch-progress-notify-interval", env = "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL", default_value = "10m")]
    #[serde(alias = "experimental-watch-progress-notify-interval")]
    pub watch_progress_notify_interval: String,
    #[command(flatten)]
    #[serde(flatten)]
    pub web: Web,
    #[command(flatten)]
    #[serde(flatten)]
    pub auth: AuthOptions,
    #[command(flatten)]
    #[serde(flatten)]
    pub accepted: Accepted,
}

/// Plain HTTP on the sockets for clients.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Web {
    #[arg(long, env = "ETCD_ENABLE_GRPC_GATEWAY", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub enable_grpc_gateway: bool,
    /// Origins whose pages may read answers; `*`: all.
    #[arg(long, env = "ETCD_CORS", default_value = "*")]
    pub cors: String,
    /// Names by which this server may be called without TLS; `*`: any.
    #[arg(long, env = "ETCD_HOST_WHITELIST", default_value = "*")]
    pub host_whitelist: String,
}

impl Default for Web {
    fn default() -> Self {
        Self { enable_grpc_gateway: true, cors: "*".into(), host_whitelist: "*".into() }
    }
}

/// Users' passwords and tokens.
#[derive(Args, Clone, Debug, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct AuthOptions {
    /// `simple`, or `jwt,sign-method=METHOD,priv-key=FILE,pub-key=FILE,ttl=DURATION`.
    #[arg(long, env = "ETCD_AUTH_TOKEN", default_value = "simple")]
    pub auth_token: String,
    /// How hard hashes of passwords are to find: 4 to 31, each twice as hard as the one before.
    #[arg(long, env = "ETCD_BCRYPT_COST", default_value_t = 10)]
    pub bcrypt_cost: u32,
    /// Seconds that a simple token lives unused.
    #[arg(long, env = "ETCD_AUTH_TOKEN_TTL", default_value_t = 300)]
    pub auth_token_ttl: u64,
}

impl Default for AuthOptions {
    fn default() -> Self {
        Self { auth_token: "simple".into(), bcrypt_cost: 10, auth_token_ttl: 300 }
    }
}

/// TLS towards clients.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClientTls {
    #[arg(long, env = "ETCD_CERT_FILE")]
    pub cert_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_KEY_FILE")]
    pub key_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_TRUSTED_CA_FILE")]
    pub trusted_ca_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_CLIENT_CERT_AUTH", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    pub client_cert_auth: bool,
}

/// TLS towards other members.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub struct PeerTls {
    #[arg(long, env = "ETCD_PEER_CERT_FILE")]
    #[serde(rename = "cert-file")]
    pub peer_cert_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_KEY_FILE")]
    #[serde(rename = "key-file")]
    pub peer_key_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_TRUSTED_CA_FILE")]
    #[serde(rename = "trusted-ca-file")]
    pub peer_trusted_ca_file: Option<PathBuf>,
    #[arg(long, env = "ETCD_PEER_CLIENT_CERT_AUTH", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true")]
    #[serde(rename = "client-cert-auth")]
    pub peer_client_cert_auth: bool,
}

/// The files of one side's TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// How the flags begin: `--` or `--peer-`.
    pub flags: &'static str,
    pub cert: Option<PathBuf>,
    pub key: Option<PathBuf>,
    pub trusted_ca: Option<PathBuf>,
    pub client_cert_auth: bool,
}

impl ClientTls {
    pub fn files(&self) -> TlsFiles {
        let Self { cert_file, key_file, trusted_ca_file, client_cert_auth } = self.clone();
        TlsFiles { flags: "--", cert: cert_file, key: key_file, trusted_ca: trusted_ca_file, client_cert_auth }
    }
}

impl PeerTls {
    pub fn files(&self) -> TlsFiles {
        let Self { peer_cert_file, peer_key_file, peer_trusted_ca_file, peer_client_cert_auth } = self.clone();
        TlsFiles {
            flags: "--peer-",
            cert: peer_cert_file,
            key: peer_key_file,
            trusted_ca: peer_trusted_ca_file,
            client_cert_auth: peer_client_cert_auth,
        }
    }
}

/// Flags of etcd's own machinery, taken so that existing command lines work; the server says at its start which of them have no effect here.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub struct Accepted {
    #[arg(long, env = "ETCD_MAX_SNAPSHOTS")]
    pub max_snapshots: Option<u64>,
    #[arg(long, env = "ETCD_MAX_WALS")]
    pub max_wals: Option<u64>,
    #[arg(long, env = "ETCD_LOGGER")]
    pub logger: Option<String>,
    #[arg(long, env = "ETCD_LOG_OUTPUTS")]
    pub log_outputs: Option<String>,
    #[arg(long, env = "ETCD_LOG_LEVEL")]
    pub log_level: Option<String>,
    #[arg(long, env = "ETCD_FEATURE_GATES")]
    pub feature_gates: Option<String>,
    #[arg(long, env = "ETCD_EXPERIMENTAL_INITIAL_CORRUPT_CHECK", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub experimental_initial_corrupt_check: Option<bool>,
    #[arg(long, env = "ETCD_PRE_VOTE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub pre_vote: Option<bool>,
    #[arg(long, env = "ETCD_INITIAL_ELECTION_TICK_ADVANCE", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub initial_election_tick_advance: Option<bool>,
    #[arg(long, env = "ETCD_DISCOVERY_FALLBACK")]
    pub discovery_fallback: Option<String>,
    #[arg(long, env = "ETCD_ENABLE_V2", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub enable_v2: Option<bool>,
}

impl Accepted {
    /// The names of those that were given.
    pub fn given(&self) -> Vec<&'static str> {
        let all = [
            ("max-snapshots", self.max_snapshots.is_some()),
            ("max-wals", self.max_wals.is_some()),
            ("logger", self.logger.is_some()),
            ("log-outputs", self.log_outputs.is_some()),
            ("log-level", self.log_level.is_some()),
            ("feature-gates", self.feature_gates.is_some()),
            ("experimental-initial-corrupt-check", self.experimental_initial_corrupt_check.is_some()),
            ("pre-vote", self.pre_vote.is_some()),
            ("initial-election-tick-advance", self.initial_election_tick_advance.is_some()),
            ("discovery-fallback", self.discovery_fallback.is_some()),
            ("enable-v2", self.enable_v2.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            config_file: None,
            name: "default".into(),
            data_dir: None,
            listen_client_urls: "http://localhost:2379".into(),
            advertise_client_urls: "http://localhost:2379".into(),
            listen_peer_urls: "http://localhost:2380".into(),
            initial_advertise_peer_urls: "http://localhost:2380".into(),
            initial_cluster: None,
            initial_cluster_token: "etcd-cluster".into(),
            initial_cluster_state: "new".into(),
            discovery: None,
            discovery_srv: None,
            discovery_srv_name: None,
            discovery_endpoints: None,
            discovery_token: None,
            discovery_cacert: None,
            discovery_cert: None,
            discovery_key: None,
            force_new_cluster: false,
            strict_reconfig_check: true,
            snapshot_count: SNAPSHOT_COUNT,
            max_learners: 1,
            listen_metrics_urls: None,
            client_tls: ClientTls::default(),
            peer_tls: PeerTls::default(),
            quota_backend_bytes: 0,
            auto_compaction_mode: "periodic".into(),
            auto_compaction_retention: "0".into(),
            heartbeat_interval: HEARTBEAT_MS,
            election_timeout: ELECTION_MS,
            max_request_bytes: 3 << 19,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            watch_progress_notify_interval: "10m".into(),
            web: Web::default(),
            auth: AuthOptions::default(),
            accepted: Accepted::default(),
        }
    }
}

/// When the server compacts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    Never,
    /// Keeps what is younger.
    Periodic(Duration),
    /// Keeps so many revisions.
    Revisions(i64),
}

impl Options {
    /// The options of the configuration file, where one is named.
    pub fn resolve(self) -> Result<Self, OptionsError> {
        let Some(path) = self.config_file else { return Ok(self) };
        let wrong = |reason: String| OptionsError::File { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        Self::from_yaml(&text).map_err(wrong)
    }

    fn from_yaml(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    pub fn data_dir(&self) -> PathBuf {
        self.data_dir.clone().unwrap_or_else(|| Path::new(&format!("{}.etcd", self.name)).to_owned())
    }

    /// Refuses what cannot be (server/embed/config.go, Validate).
    pub fn check_cluster(&self) -> Result<(), OptionsError> {
        let is_set = |value: &Option<String>| value.as_ref().is_some_and(|value| !value.is_empty());
        let v3_discovery = is_set(&self.discovery_endpoints) || is_set(&self.discovery_token);
        let ways = [is_set(&self.initial_cluster), is_set(&self.discovery), is_set(&self.discovery_srv), v3_discovery];
        if ways.into_iter().filter(|is_set| *is_set).count() > 1 {
            let text = "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery\", \"discovery-endpoints\" or \"discovery-srv\"";
            return Err(OptionsError::Cluster(text.into()));
        }
        if is_set(&self.discovery) {
            let reason = "the v2 discovery protocol is not served any more: use --discovery-endpoints with --discovery-token, --discovery-srv or --initial-cluster";
            return Err(wrong("discovery", reason));
        }
        if is_set(&self.discovery_endpoints) != is_set(&self.discovery_token) {
            return Err(wrong("discovery-token", "it and --discovery-endpoints need each other"));
        }
        if v3_discovery && self.joins()? {
            return Err(OptionsError::Cluster("discovery URL should not be set when joining existing initial cluster".into()));
        }
        if self.force_new_cluster {
            let reason = "it is not supported: save a snapshot of a member that is left ('etcdctl snapshot save', or its folder's copy) and begin a new \
                          cluster from it ('etcdctl snapshot restore')";
            return Err(wrong("force-new-cluster", reason));
        }
        self.joins()?;
        self.peer_urls().map(|_| ())
    }

    /// Whether an empty data folder becomes a member of a cluster that runs.
    pub fn joins(&self) -> Result<bool, OptionsError> {
        match self.initial_cluster_state.as_str() {
            "new" => Ok(false),
            "existing" => Ok(true),
            other => Err(wrong("initial-cluster-state", format!("unexpected value {other:?}: it is \"new\" or \"existing\""))),
        }
    }

    /// Where other members find this one, sorted.
    pub fn peer_urls(&self) -> Result<Vec<String>, OptionsError> {
        let flag = "initial-advertise-peer-urls";
        let mut advertised = urls(flag, &self.initial_advertise_peer_urls)?;
        for url in &advertised {
            check_url(url).map_err(|reason| wrong(flag, reason))?;
        }
        advertised.sort();
        Ok(advertised)
    }

    /// `--initial-cluster`, or what it would be for this member alone.
    pub fn initial_cluster_or_self(&self) -> Result<String, OptionsError> {
        match self.initial_cluster.as_ref().filter(|cluster| !cluster.is_empty()) {
            Some(cluster) => Ok(cluster.clone()),
            None => Ok(self.peer_urls()?.iter().map(|url| format!("{}={url}", self.name)).collect::<Vec<_>>().join(",")),
        }
    }

    /// Settings of the member, which is who `member_id` says.
    pub fn member(&self, cluster_id: u64, member_id: u64, bootstrap: store::Bootstrap) -> store::MemberOptions {
        store::MemberOptions {
            heartbeat: Duration::from_millis(self.heartbeat_interval),
            election_timeout: Duration::from_millis(self.election_timeout),
            snapshot_count: self.snapshot_count,
            strict_reconfig: self.strict_reconfig_check,
            max_learners: self.max_learners,
            ..store::MemberOptions::new(cluster_id, member_id, bootstrap)
        }
    }

    /// Whether heartbeats and elections fit (server/embed/config.go, Validate).
    fn check_times(&self) -> Result<(), OptionsError> {
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        let reason = if heartbeat == 0 {
            "--heartbeat-interval must be >0 (set to 0ms)".to_owned()
        } else if election == 0 {
            "--election-timeout must be >0 (set to 0ms)".to_owned()
        } else if 5 * heartbeat > election {
            format!("--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]")
        } else if election > MAX_ELECTION_MS {
            format!("--election-timeout[{election}ms] is too long, and should be set less than {MAX_ELECTION_MS}ms")
        } else {
            return Ok(());
        };
        Err(OptionsError::Cluster(reason))
    }

    pub fn auto_compaction(&self) -> Result<AutoCompaction, OptionsError> {
        let retention = self.auto_compaction_retention.as_str();
        let flag = "auto-compaction-retention";
        match (self.auto_compaction_mode.as_str(), retention.parse::<i64>()) {
            (_, Ok(..0)) => Err(wrong(flag, "it cannot be negative")),
            ("periodic" | "revision", Ok(0)) => Ok(AutoCompaction::Never),
            ("periodic", Ok(hours)) => Ok(AutoCompaction::Periodic(Duration::from_secs(hours.unsigned_abs().saturating_mul(3600)))),
            ("periodic", Err(_)) => {
                let period = base::duration::parse(retention)
                    .ok()
                    .ok_or_else(|| wrong(flag, format!("{retention:?} is neither hours nor a duration like 30m")))?;
                Ok(if period.is_zero() { AutoCompaction::Never } else { AutoCompaction::Periodic(period) })
            }
            ("revision", Ok(revisions)) => Ok(AutoCompaction::Revisions(revisions)),
            ("revision", Err(_)) => Err(wrong(flag, format!("{retention:?} is not a number of revisions"))),
            (mode, _) => Err(wrong("auto-compaction-mode", format!("{mode:?} is neither \"periodic\" nor \"revision\""))),
        }
    }

    pub fn engine(&self) -> Result<store::EngineOptions, OptionsError> {
        self.check_times()?;
        let quota_bytes = match self.quota_backend_bytes {
            0 => DEFAULT_QUOTA_BYTES,
            bytes => u64::try_from(bytes).unwrap_or(u64::MAX),
        };
        let interval = &self.watch_progress_notify_interval;
        let watch_progress_interval = base::duration::parse(interval)
            .ok()
            .filter(|interval| !interval.is_zero())
            .ok_or_else(|| wrong("watch-progress-notify-interval", format!("{interval:?} is not a duration like 10m")))?;
        Ok(store::EngineOptions {
            max_txn_ops: self.max_txn_ops,
            max_request_bytes: self.max_request_bytes,
            quota_bytes,
            min_lease_ttl: self.min_lease_ttl(),
            watch_progress_interval,
            ..store::EngineOptions::default()
        })
    }

    /// One and a half election timeouts, in whole seconds (server/etcdserver/server.go).
    fn min_lease_ttl(&self) -> Duration {
        let ticks = self.election_timeout / self.heartbeat_interval;
        Duration::from_secs((3 * ticks / 2 * self.heartbeat_interval).div_ceil(1000))
    }
}

/// Splits and checks a list of URLs with a scheme and an address.
pub fn urls(flag: &'static str, list: &str) -> Result<Vec<String>, OptionsError> {
    let urls: Vec<String> = list.split(',').map(str::trim).filter(|url| !url.is_empty()).map(str::to_owned).collect();
    for url in &urls {
        let rest = ["http://", "https://", "unix://", "unixs://"].iter().find_map(|scheme| url.strip_prefix(scheme));
        match rest {
            None => return Err(wrong(flag, format!("{url:?}: URL scheme must be http, https, unix, or unixs"))),
            Some(rest) if url.starts_with("http") && rest.contains('/') => {
                return Err(wrong(flag, format!("{url:?}: URL must not contain a path")));
            }
            Some(_) => {}
        }
    }
    if urls.is_empty() {
        return Err(wrong(flag, "it names no URL"));
    }
    Ok(urls)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Options {
        Line::try_parse_from(std::iter::once("etcd").chain(line.split_whitespace())).unwrap().options
    }

    #[test]
    fn a_kubeadm_command_line() {
        let options = parse(
            "--advertise-client-urls=https://10.0.0.1:2379 --cert-file=/pki/server.crt --client-cert-auth=true --data-dir=/var/lib/etcd \
             --experimental-initial-corrupt-check=true --experimental-watch-progress-notify-interval=5s \
             --initial-advertise-peer-urls=https://10.0.0.1:2380 --initial-cluster=n1=https://10.0.0.1:2380 --key-file=/pki/server.key \
             --listen-client-urls=https://127.0.0.1:2379,https://10.0.0.1:2379 --listen-metrics-urls=http://127.0.0.1:2381 \
             --listen-peer-urls=https://10.0.0.1:2380 --name=n1 --peer-cert-file=/pki/peer.crt --peer-client-cert-auth=true \
             --peer-key-file=/pki/peer.key --peer-trusted-ca-file=/pki/ca.crt --snapshot-count=10000 --trusted-ca-file=/pki/ca.crt",
        );
        options.check_cluster().unwrap();
        assert_eq!(options.peer_urls().unwrap(), ["https://10.0.0.1:2380"]);
        assert!(options.client_tls.client_cert_auth);
        assert_eq!(options.engine().unwrap().watch_progress_interval, Duration::from_secs(5));
        assert_eq!(options.accepted.given(), ["experimental-initial-corrupt-check"]);
        assert_eq!(options.min_lease_ttl(), Duration::from_secs(2));
    }

    #[test]
    fn what_cannot_be() {
        let check = |line: &str, expected: &str| {
            let options = parse(line);
            let error = options.check_cluster().and_then(|()| options.engine().map(|_| ())).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("--initial-cluster-state odd", "unexpected value");
        check("--discovery http://example.org/x", "v2 discovery protocol");
        check("--discovery-srv example.org --initial-cluster a=http://a:1", "multiple discovery or bootstrap flags are set");
        check("--discovery-token x", "need each other");
        check("--force-new-cluster", "snapshot restore");
        check("--initial-advertise-peer-urls localhost:2380", "URL scheme must be");
        check("--initial-advertise-peer-urls http://localhost", "does not have the form \"host:port\"");
        check("--heartbeat-interval 0", "--heartbeat-interval must be >0 (set to 0ms)");
        check("--election-timeout 400", "--election-timeout[400ms] should be at least as 5 times as --heartbeat-interval[100ms]");
        check("--election-timeout 60000", "--election-timeout[60000ms] is too long, and should be set less than 50000ms");
        let options = parse("--name b --initial-advertise-peer-urls http://b:2,http://b:1");
        options.check_cluster().unwrap();
        assert_eq!(options.initial_cluster_or_self().unwrap(), "b=http://b:1,b=http://b:2");
        assert!(parse("--initial-cluster-state existing").joins().unwrap());
        assert!(!parse("--strict-reconfig-check=false").strict_reconfig_check);
    }

    #[test]
    fn compaction_modes() {
        let check = |line: &str, expected: Result<AutoCompaction, &str>| {
            let found = parse(line).auto_compaction().map_err(|error| error.to_string());
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{line}"),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{line}: {found:?} instead of {expected:?}"),
            }
        };
        check("", Ok(AutoCompaction::Never));
        check("--auto-compaction-retention 2", Ok(AutoCompaction::Periodic(Duration::from_secs(7200))));
        check("--auto-compaction-retention 5m", Ok(AutoCompaction::Periodic(Duration::from_secs(300))));
        check("--auto-compaction-mode revision --auto-compaction-retention 1000", Ok(AutoCompaction::Revisions(1000)));
        check("--auto-compaction-mode revision --auto-compaction-retention 5m", Err("number of revisions"));
        check("--auto-compaction-mode other --auto-compaction-retention 5", Err("neither"));
        check("--auto-compaction-retention soon", Err("neither hours"));
    }

    #[test]
    fn configuration_files() {
        let options = Options::from_yaml(
            "name: n1\ndata-dir: /data\nlisten-client-urls: https://127.0.0.1:2379\nquota-backend-bytes: 1000\nsnapshot-count: 10\n\
             client-transport-security:\n  cert-file: a\n  key-file: b\n  client-cert-auth: true\n",
        )
        .unwrap();
        assert_eq!((options.name.as_str(), options.data_dir()), ("n1", "/data".into()));
        assert!(options.client_tls.client_cert_auth);
        assert_eq!(options.engine().unwrap().quota_bytes, 1000);
        assert_eq!(Options::from_yaml("").unwrap().data_dir(), Path::new("default.etcd"));
        assert!(Options::from_yaml("nam: n1").is_err(), "an unknown key is an error");
    }
}
