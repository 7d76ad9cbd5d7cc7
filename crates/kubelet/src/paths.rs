//! Where the kubelet keeps things below its root folder; upstream's layout (pkg/kubelet/kubelet_getters.go).

use std::path::{Path, PathBuf};

pub fn pods(root: &Path) -> PathBuf {
    root.join("pods")
}

pub fn pod(root: &Path, uid: &str) -> PathBuf {
    pods(root).join(uid)
}

/// `plugin` is `kubernetes.io/empty-dir`; a slash becomes a tilde on disk.
pub fn volume(root: &Path, uid: &str, plugin: &str, name: &str) -> PathBuf {
    pod(root, uid).join("volumes").join(plugin.replace('/', "~")).join(name)
}

pub fn container(root: &Path, uid: &str, name: &str) -> PathBuf {
    pod(root, uid).join("containers").join(name)
}

pub fn etc_hosts(root: &Path, uid: &str) -> PathBuf {
    pod(root, uid).join("etc-hosts")
}

pub fn subpaths(root: &Path, uid: &str) -> PathBuf {
    pod(root, uid).join("volume-subpaths")
}
