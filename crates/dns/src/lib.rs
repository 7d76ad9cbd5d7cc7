//! Cluster DNS: answers names of Services and pods from the API's objects, forwards all others.
//! Source: kubernetes/dns docs/specification.md (1.1.0); where it is silent, CoreDNS's kubernetes plugin.
//!
//! `records` is the index of what can be asked, `answer` looks a question up in it, `wire` reads and writes messages, `forward` asks
//! other servers, `cache` keeps their answers, `server` is sockets and loops. Must never write to the API.

pub mod answer;
pub mod cache;
pub mod forward;
pub mod metrics;
pub mod records;
pub mod server;
pub mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use server::{Dns, Error};

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Addresses to answer on, UDP and TCP. Not a wildcard: answers must leave from the address that was asked.
    #[arg(long = "dns-listen", value_delimiter = ',', default_value = "127.0.0.1:53")]
    pub listen: Vec<SocketAddr>,
    /// The cluster's domain.
    #[arg(long = "dns-domain", default_value = "cluster.local")]
    pub domain: String,
    /// Seconds for which clients may keep answers about the cluster.
    #[arg(long = "dns-ttl", default_value_t = 5)]
    pub ttl: u32,
    /// Servers for names outside the cluster (IP or IP:port); if unset, those of the resolv.conf file.
    #[arg(long = "dns-upstream", value_delimiter = ',')]
    pub upstreams: Vec<String>,
    /// Where the servers for names outside the cluster are listed; read again when it changes.
    #[arg(long = "dns-resolv-conf", default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Serves /health; unset: not served. CoreDNS's is 0.0.0.0:8080.
    #[arg(long = "dns-health-address")]
    pub health: Option<SocketAddr>,
    /// Serves /ready; unset: not served. CoreDNS's is 0.0.0.0:8181.
    #[arg(long = "dns-ready-address")]
    pub ready: Option<SocketAddr>,
    /// Serves /metrics; unset: not served. CoreDNS's is 0.0.0.0:9153.
    #[arg(long = "dns-metrics-address")]
    pub metrics: Option<SocketAddr>,
}
