//! `oxikube up`: checks the host, starts the cluster as a background process, shows progress, returns when it serves.

use std::io::Write;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::options::UpOptions;
use crate::{cluster, daemon, preflight, probe};

pub async fn run(options: UpOptions) -> Result<()> {
    let layout = options.layout();
    if let Some(pid) = daemon::running(&layout.pid_file(), "oxikube") {
        say!("The cluster already runs (pid {}). Try: oxikube status", pid.as_raw_nonzero());
        return Ok(());
    }
    preflight::check(&options)?;
    if options.foreground {
        return cluster::run(options).await;
    }
    background(options).await
}

async fn background(options: UpOptions) -> Result<()> {
    let layout = options.layout();
    std::fs::create_dir_all(&layout.data).with_context(|| format!("making {}", layout.data.display()))?;
    let started = base::clock::monotonic();
    let mut command = Command::new(std::env::current_exe().context("finding this program's own file")?);
    command.arg0("oxikube").args(std::env::args_os().skip(1)).arg("--foreground");
    let mut child = daemon::spawn_detached(&mut command, &layout.log_file(), None)?;
    let limit = Duration::from_secs(options.wait);
    let mut progress = Progress::new();
    for (what, stage) in
        [("API server", probe::Stage::ApiServer), ("node Ready", probe::Stage::NodeReady), ("cluster DNS", probe::Stage::Dns)]
    {
        progress.begin(what);
        loop {
            if let Some(status) = child.try_wait().context("looking after the cluster's process")? {
                progress.fail();
                bail!("the cluster ended at once ({status}): {}", cause(&layout.log_file()));
            }
            match probe::reached(&options, stage).await {
                Ok(()) => break,
                Err(why) if started.elapsed() > limit => {
                    progress.fail();
                    bail!(
                        "not there after {} s: {why:#}. The cluster goes on trying in the background; its log is {}. End it with: oxikube down",
                        limit.as_secs(),
                        layout.log_file().display()
                    );
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        progress.done(started.elapsed());
    }
    say!("\nYour cluster is ready. To use it:\n\n  export KUBECONFIG={}\n  kubectl get nodes\n", layout.admin_conf().display());
    Ok(())
}

/// The reason in the log of a cluster that ended: its last line with an error.
fn cause(log: &Path) -> String {
    let tail = daemon::tail(log, 30);
    let line = tail.lines().rev().find(|line| line.starts_with("Error:")).map(|line| line.trim_start_matches("Error:").trim().to_owned());
    line.unwrap_or_else(|| format!("the end of {}:\n{tail}", log.display()))
}

/// The lines that a person sees while waiting.
struct Progress;

impl Progress {
    fn new() -> Self {
        Self
    }

    fn begin(&mut self, what: &str) {
        let mut out = std::io::stdout();
        if let Err(error) = write!(out, "{what:.<24}").and_then(|()| out.flush()) {
            tracing::debug!(%error, "standard output cannot be written");
        }
    }

    fn done(&mut self, elapsed: Duration) {
        say!(" ok ({:.1} s)", elapsed.as_secs_f64());
    }

    fn fail(&mut self) {
        say!(" failed");
    }
}

/// The node's address and name as the options or the host give them.
pub fn identity(options: &UpOptions) -> Result<(IpAddr, String)> {
    let address = match options.node_ip {
        Some(address) => address,
        None => preflight::node_address()?,
    };
    let name = match &options.node_name {
        Some(name) => name.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().to_lowercase(),
    };
    Ok((address, name))
}
