//! The cluster's own containerd: its configuration, start, adoption after a crash of ours, stop. A containerd that somebody else configured is never touched.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::daemon;
use crate::image;
use crate::layout::Layout;

/// How long a freshly started containerd may take to open its socket.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Starts our containerd, or adopts the one that an earlier run of ours left; returns when its socket answers.
pub async fn ensure(layout: &Layout) -> Result<()> {
    if answers(&layout.containerd_socket()) && daemon::running(&layout.containerd_pid_file(), "containerd").is_some() {
        tracing::info!(socket = %layout.containerd_socket().display(), "adopting the running containerd");
        return Ok(());
    }
    for dir in [layout.data.join("containerd"), layout.run.join("containerd"), layout.cni_bin(), layout.cni_conf()] {
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    }
    let config = layout.data.join("containerd.toml");
    std::fs::write(&config, configuration(layout)).with_context(|| format!("writing {}", config.display()))?;
    let mut command = std::process::Command::new("containerd");
    command.arg("--config").arg(&config).arg("--log-level").arg("warn");
    let log = layout.data.join("containerd.log");
    daemon::spawn_detached(&mut command, &log, Some(&layout.containerd_pid_file()))
        .context("starting containerd: is it installed? On Debian: apt-get install containerd runc")?;
    let started = base::clock::monotonic();
    while !answers(&layout.containerd_socket()) {
        if daemon::running(&layout.containerd_pid_file(), "containerd").is_none() {
            bail!("containerd ended at once; the end of {}:\n{}", log.display(), daemon::tail(&log, 5));
        }
        if started.elapsed() > START_LIMIT {
            bail!(
                "containerd did not open {} within {} s; see {}",
                layout.containerd_socket().display(),
                START_LIMIT.as_secs(),
                log.display()
            );
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// Whether something accepts connections on the socket.
pub fn answers(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}

/// Ends our containerd, if it runs.
pub async fn stop(layout: &Layout) -> Result<bool> {
    daemon::stop(&layout.containerd_pid_file(), "containerd", Duration::from_secs(10)).await
}

/// Lowering `oom_score_adj` needs CAP_SYS_RESOURCE (bit 24); without it runc dies, so containerd must clamp.
fn may_lower_oom_score() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("CapEff:").map(|hex| u64::from_str_radix(hex.trim(), 16).unwrap_or(0)))
        })
        .is_some_and(|capabilities| capabilities & (1 << 24) != 0)
}

fn configuration(layout: &Layout) -> String {
    format!(
        r#"# Written by oxikube at each start.
version = 2
root = "{data}/containerd"
state = "{run}/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cni_conf}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"#,
        data = layout.data.display(),
        run = layout.run.display(),
        socket = layout.containerd_socket().display(),
        pause = image::PAUSE,
        restrict = !may_lower_oom_score(),
        cni_bin = layout.cni_bin().display(),
        cni_conf = layout.cni_conf().display(),
    )
}
