//! A host for one cluster: network and mount namespaces of its own with an uplink to this machine. Everything in it ends with it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// Namespaces held open by a sleeping process, an interface `eth0` with a default route, and a folder for files.
pub struct TestHost {
    name: String,
    holder: Child,
    /// Inode of the network namespace: every process in it is ours.
    namespace: u64,
    folder: tempfile::TempDir,
    address: String,
}

impl TestHost {
    /// `name` is short (up to 5 letters); interfaces are called `oxi-NAME` with digits of this process. `slot` (0 to 63) keeps the addresses of several hosts
    /// of a process apart, the process's number those of several processes.
    pub fn new(name: &str, slot: u8) -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            bail!("tests with real containers need root: they make network namespaces and mounts");
        }
        let folder = tempfile::Builder::new().prefix(&format!("oxi-{name}-")).tempdir().context("making a folder for the test host")?;
        let holder = Command::new("unshare")
            .args(["--net", "--mount", "--propagation", "slave", "sleep", "infinity"])
            .stdin(Stdio::null())
            .spawn()
            .context("running unshare (package util-linux)")?;
        let own = fs::metadata("/proc/self/ns/net").context("reading this process's namespace")?.ino();
        let path = format!("/proc/{}/ns/net", holder.id());
        let namespace = crate::wait::until(Duration::from_secs(5), "a network namespace of its own", || {
            let inode = fs::metadata(&path).context("reading the holder's namespace")?.ino();
            if inode == own { bail!("unshare has not happened yet") } else { Ok(inode) }
        })?;
        let (process, subnet) = (std::process::id(), u32::from(slot) * 4);
        let prefix = format!("198.18.{}", process % 250);
        let name = format!("{name}{}", process % 10_000);
        let host = Self { name, holder, namespace, folder, address: format!("{prefix}.{}", subnet + 2) };
        host.hide_namespaces()?;
        host.wire(&format!("{prefix}.{}", subnet + 1))?;
        Ok(host)
    }

    /// The runtime mounts pods' namespaces on files in /run/netns: a folder of this host's own, or the files would outlive the mounts.
    fn hide_namespaces(&self) -> Result<()> {
        run(self.command("mkdir").args(["-p", "/run/netns"]))?;
        run(self.command("mount").args(["-t", "tmpfs", "netns", "/run/netns"]))
    }

    fn wire(&self, gateway: &str) -> Result<()> {
        let link = self.link();
        let pid = self.holder.id().to_string();
        let peer = format!("{link}p");
        run(Command::new("ip").args(["link", "add", &link, "type", "veth", "peer", "name", &peer]))?;
        run(Command::new("ip").args(["link", "set", &peer, "netns", &pid, "name", "eth0"]))?;
        run(Command::new("ip").args(["address", "add", &format!("{gateway}/30"), "dev", &link]))?;
        run(Command::new("ip").args(["link", "set", &link, "up"]))?;
        run(self.command("ip").args(["link", "set", "lo", "up"]))?;
        run(self.command("ip").args(["address", "add", &format!("{}/30", self.address), "dev", "eth0"]))?;
        run(self.command("ip").args(["link", "set", "eth0", "up"]))?;
        run(self.command("ip").args(["route", "add", "default", "via", gateway]))
    }

    fn link(&self) -> String {
        format!("oxi-{}", self.name)
    }

    /// A command that runs on this host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let pid = self.holder.id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--target", &pid, "--net", "--mount", "--"]).arg(program).stdin(Stdio::null());
        command
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The address of `eth0`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The processes whose network namespace is this host's or that were started from its folder (shims keep the host's namespace).
    fn processes(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let folder = self.folder.path().display().to_string();
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let inside = fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|meta| meta.ino() == self.namespace);
                let named = fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(&folder));
                inside || named
            })
            .filter_map(Pid::from_raw)
            .collect()
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        for _ in 0..50 {
            let processes = self.processes();
            if processes.is_empty() {
                break;
            }
            for pid in processes {
                // One that ended meanwhile is what is wanted.
                let _ended = kill_process(pid, Signal::KILL);
            }
            let _reaped = self.holder.try_wait();
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Err(error) = self.holder.wait() {
            eprintln!("{}: the holder of the namespaces cannot be reaped: {error}", self.name);
        }
        // The interface pair ends with the namespace; this covers a half-made one.
        let link = self.link();
        if Path::new("/sys/class/net").join(&link).exists()
            && let Err(error) = run(Command::new("ip").args(["link", "delete", &link]))
        {
            eprintln!("{}: {error:#}", self.name);
        }
    }
}

/// Runs to the end; an error carries what it printed.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(|_| ())
}

/// Runs to the end and returns standard output; an error carries what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("running {command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
