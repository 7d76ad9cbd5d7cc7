//! Where the all-in-one cluster keeps its files.

use std::path::PathBuf;

/// The folders of one cluster on this host.
#[derive(Clone, Debug)]
pub struct Layout {
    /// State: `/var/lib/oxikube`.
    pub data: PathBuf,
    /// Sockets and pid files: `/run/oxikube`.
    pub run: PathBuf,
    /// Certificates and kubeconfig files: `/etc/kubernetes`.
    pub config: PathBuf,
}

impl Layout {
    pub fn containerd_socket(&self) -> PathBuf {
        self.run.join("containerd.sock")
    }

    pub fn containerd_pid_file(&self) -> PathBuf {
        self.run.join("containerd.pid")
    }

    pub fn pid_file(&self) -> PathBuf {
        self.run.join("oxikube.pid")
    }

    /// What the running cluster was started with, for `status` and `down`.
    pub fn state_file(&self) -> PathBuf {
        self.data.join("cluster.json")
    }

    pub fn log_file(&self) -> PathBuf {
        self.data.join("oxikube.log")
    }

    pub fn store(&self) -> PathBuf {
        self.data.join("store")
    }

    pub fn kubelet(&self) -> PathBuf {
        self.data.join("kubelet")
    }

    pub fn cni_bin(&self) -> PathBuf {
        self.data.join("cni/bin")
    }

    pub fn cni_conf(&self) -> PathBuf {
        self.data.join("cni/net.d")
    }

    /// The allocations of pod addresses.
    pub fn cni_state(&self) -> PathBuf {
        self.data.join("cni/state")
    }

    pub fn pki(&self) -> PathBuf {
        self.config.join("pki")
    }

    pub fn admin_conf(&self) -> PathBuf {
        self.config.join("admin.conf")
    }

    pub fn manifests(&self) -> PathBuf {
        self.config.join("manifests")
    }
}
