//! `oxikube down`: ends the cluster and takes away all that it made on the host; with `--delete-data` its state too.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::layout::Layout;
use crate::options::{Place, UpOptions};
use crate::{containerd, daemon, pods};

/// `oxikube down`.
#[derive(clap::Args, Clone, Debug)]
pub struct DownOptions {
    #[command(flatten)]
    pub place: Place,
    /// Delete the state, the certificates and the kubeconfig files too
    #[arg(long)]
    pub delete_data: bool,
}

pub async fn run(options: DownOptions) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("oxikube down must run as root: it removes network interfaces, cgroups and mounts. Try: sudo oxikube down");
    }
    let layout = options.place.layout();
    let known = read_state(&layout)?;
    step("cluster process", daemon::stop(&layout.pid_file(), "oxikube", Duration::from_secs(15)).await?);
    let own_runtime = known.as_ref().is_none_or(|up| up.container_runtime_endpoint.is_none());
    let socket = known.as_ref().map_or_else(|| layout.containerd_socket(), UpOptions::runtime_socket);
    if containerd::answers(&socket) {
        let count = pods::remove_all(&socket).await.context("removing the pods from the container runtime")?;
        say!("pods: {count} removed");
    } else if own_runtime && layout.data.join("containerd.toml").exists() {
        // A containerd that crashed leaves shims and namespaces behind; only it can take them away.
        containerd::ensure(&layout).await.context("starting containerd to remove what it left")?;
        let count = pods::remove_all(&socket).await.context("removing the pods from the container runtime")?;
        say!("pods: {count} removed");
    }
    if own_runtime {
        step("containerd", containerd::stop(&layout).await?);
    }
    crate::cleanup::host(&layout)?;
    if options.delete_data {
        delete(&layout)?;
    }
    say!("The cluster is down.");
    Ok(())
}

fn step(what: &str, stopped: bool) {
    say!("{what}: {}", if stopped { "stopped" } else { "was not running" });
}

/// What the cluster was started with; `None` where none was.
pub fn read_state(layout: &Layout) -> Result<Option<UpOptions>> {
    let path = layout.state_file();
    match std::fs::read(&path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn delete(layout: &Layout) -> Result<()> {
    for folder in [&layout.data, &layout.run, &layout.pki(), &layout.manifests()] {
        remove_folder(folder)?;
    }
    for name in ["admin.conf", "super-admin.conf", "controller-manager.conf", "scheduler.conf", "kubelet.conf", "kube-proxy.conf"] {
        let path = layout.config.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("removing {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).with_context(|| format!("removing {}", folder.display())),
        _ => Ok(()),
    }
}
