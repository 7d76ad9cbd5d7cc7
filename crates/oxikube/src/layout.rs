//! Where the all-in-one cluster keeps its files.

use std::path::{Path, PathBuf};

/// The usual folder of a cluster's state.
pub const DATA: &str = "/var/lib/oxikube";

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

    /// Below which cgroup the pods' tree `kubepods` is: the root as upstream has it, and for a cluster in another place one that is named by that place,
    /// so that clusters on one host do not share it.
    pub fn cgroup_root(&self) -> String {
        if self.data == Path::new(DATA) {
            return "/".into();
        }
        let place = self.data.display().to_string();
        format!("/oxikube-{}", place.trim_matches('/').replace('/', "-"))
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
