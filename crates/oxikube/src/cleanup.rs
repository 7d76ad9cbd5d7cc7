//! Taking away what a cluster made on the host: interfaces, packet filter rules, mounts, cgroups. Every step goes on when another fails; all faults are told.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::layout::Layout;

/// Removes everything; an error lists what stayed and why.
pub fn host(layout: &Layout) -> Result<()> {
    let mut faults = Vec::new();
    let mut note = |what: &str, result: Result<()>| {
        if let Err(error) = result {
            faults.push(format!("{what}: {error:#}"));
        }
    };
    note("mounts", unmount_below(&layout.data).and_then(|()| unmount_below(&layout.run)));
    match ::host::LinuxNet::here() {
        Ok(net) => {
            let place = network::agent::Options {
                node_name: String::new(),
                cni_conf_dir: layout.cni_conf(),
                cni_data_dir: layout.cni_state(),
                pod_overlay: network::plan::Overlay::None,
                pod_network_cidrs: Vec::new(),
                pod_uplink_mtu: 0,
            };
            for error in network::agent::cleanup(&net, &place, true) {
                note("pod network", Err(error.into()));
            }
            note("service rules", proxy::cleanup(&net).map_err(Into::into));
        }
        Err(error) => note("network", Err(error.into())),
    }
    note("cgroups", remove_cgroups(&layout.cgroup_root()));
    if faults.is_empty() {
        return Ok(());
    }
    bail!("something stayed behind:\n  - {}", faults.join("\n  - "))
}

/// Unmounts what is mounted below `dir`, deepest first.
fn unmount_below(dir: &Path) -> Result<()> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").context("reading the mount table")?;
    let mut points: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|field| PathBuf::from(unescape(field)))
        .filter(|point| point.starts_with(dir) && point != dir)
        .collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in points {
        rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).with_context(|| format!("unmounting {}", point.display()))?;
    }
    Ok(())
}

/// The mount table writes blanks, tabs, newlines and backslashes as `\ooo`.
fn unescape(field: &str) -> String {
    field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// Removes the pods' tree below `cgroup_root`, and that if it is not the root, on cgroup v1 and v2. What is busy belongs to pods of somebody else and stays.
fn remove_cgroups(cgroup_root: &str) -> Result<()> {
    let own = if cgroup_root == "/" { "kubepods" } else { cgroup_root.trim_start_matches('/') };
    let root = Path::new("/sys/fs/cgroup");
    let mut trees = vec![root.join(own)];
    if let Ok(controllers) = std::fs::read_dir(root) {
        trees.extend(controllers.flatten().map(|entry| entry.path().join(own)));
    }
    for tree in trees.into_iter().filter(|tree| tree.is_dir()) {
        remove_tree(&tree)?;
    }
    Ok(())
}

fn remove_tree(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match std::fs::remove_dir(dir) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::ResourceBusy | std::io::ErrorKind::NotFound) => {
            tracing::debug!(cgroup = %dir.display(), "in use by others");
            Ok(())
        }
        other => other.with_context(|| format!("removing the cgroup {}", dir.display())),
    }
}
