//! The flags of `oxikube up`, with kubeadm's names where kubeadm has one.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::layout::{self, Layout};

/// Where a cluster lives; `up`, `down` and `status` share these.
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
pub struct Place {
    /// Folder of the cluster's state
    #[arg(long, default_value = layout::DATA)]
    pub data_dir: PathBuf,
    /// Folder of sockets and pid files
    #[arg(long, default_value = "/run/oxikube")]
    pub run_dir: PathBuf,
    /// Folder of certificates, kubeconfig files and static pod manifests
    #[arg(long, default_value = "/etc/kubernetes")]
    pub config_dir: PathBuf,
}

impl Place {
    pub fn layout(&self) -> Layout {
        Layout { data: self.data_dir.clone(), run: self.run_dir.clone(), config: self.config_dir.clone() }
    }
}

/// `oxikube up`.
#[derive(clap::Args, Clone, Debug, Serialize, Deserialize)]
pub struct UpOptions {
    #[command(flatten)]
    pub place: Place,
    /// Stay in the foreground, for a service manager
    #[arg(long)]
    pub foreground: bool,
    /// Port of the API server
    #[arg(long, alias = "secure-port", default_value_t = 6443)]
    pub apiserver_bind_port: u16,
    /// Port of the kubelet's server
    #[arg(long, default_value_t = 10250)]
    pub kubelet_port: u16,
    /// Address of this node; the one of the default route unless told
    #[arg(long, alias = "apiserver-advertise-address")]
    pub node_ip: Option<IpAddr>,
    /// Name of this node; the host's name unless told
    #[arg(long)]
    pub node_name: Option<String>,
    /// Addresses for Services
    #[arg(long, default_value = "10.96.0.0/12")]
    pub service_cidr: String,
    /// Addresses for pods
    #[arg(long, default_value = "10.244.0.0/16")]
    pub pod_network_cidr: String,
    /// Domain of Services
    #[arg(long, default_value = "cluster.local")]
    pub service_dns_domain: String,
    /// Further names and addresses for the API server's certificate
    #[arg(long, value_delimiter = ',')]
    pub apiserver_cert_extra_sans: Vec<String>,
    /// Use this running container runtime (a CRI socket) instead of an own containerd
    #[arg(long)]
    pub container_runtime_endpoint: Option<String>,
    /// Seconds to wait until the node is Ready and cluster DNS answers
    #[arg(long, default_value_t = 120)]
    pub wait: u64,
    /// Log verbosity, 0 to 10
    #[arg(short = 'v', long = "v", default_value_t = 1)]
    pub verbosity: u8,
}

impl UpOptions {
    pub fn layout(&self) -> Layout {
        self.place.layout()
    }

    /// The ports that must be free, with the flag that moves each.
    pub fn ports(&self) -> [(u16, &'static str); 2] {
        [(self.apiserver_bind_port, "--apiserver-bind-port"), (self.kubelet_port, "--kubelet-port")]
    }

    /// The CRI socket's path.
    pub fn runtime_socket(&self) -> PathBuf {
        match &self.container_runtime_endpoint {
            Some(endpoint) => PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint)),
            None => self.layout().containerd_socket(),
        }
    }
}
