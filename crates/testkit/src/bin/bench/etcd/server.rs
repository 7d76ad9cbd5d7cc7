//! The servers that are compared: processes of their own, on the same disk.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::wait;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Etcd,
    Oxikube,
}

pub struct Server {
    process: Child,
    pub kind: Kind,
    pub address: String,
    binary: PathBuf,
    dir: PathBuf,
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

impl Server {
    /// `binary` is ours; etcd is the one on the path.
    pub fn start(kind: Kind, binary: &Path, dir: &Path) -> Result<Self> {
        let address = free_address()?;
        let process = spawn(kind, binary, dir, &address)?;
        let mut server = Self { process, kind, address, binary: binary.to_owned(), dir: dir.to_owned() };
        server.wait_ready()?;
        Ok(server)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let started = wait::now();
        while TcpStream::connect(&self.address).is_err() || !self.answers() {
            if started.elapsed() > Duration::from_secs(120) || self.process.try_wait()?.is_some() {
                bail!("{} did not start: look at {}", self.name(), self.dir.with_extension("log").display());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Whether a linearizable read works.
    fn answers(&self) -> bool {
        let call = || -> Result<bool> {
            let mut connection = super::wire::Connection::open(&self.address, "/etcdserverpb.KV/Range")?;
            connection.set_patience(Duration::from_secs(2))?;
            connection.call(&super::wire::Message::default().bytes(1, b"ready").0, true);
            let (mut answered, mut ended) = (false, false);
            while !ended {
                connection.turn(|_, event| match event {
                    super::wire::Event::Data(_) => answered = true,
                    super::wire::Event::End => ended = true,
                })?;
            }
            Ok(answered)
        };
        call().unwrap_or(false)
    }

    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Etcd => "etcd",
            Kind::Oxikube => "oxikube",
        }
    }

    /// Stops it as an operator does and starts it again; returns how long the start took, until it answers.
    pub fn restart(&mut self) -> Result<Duration> {
        let pid = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        self.process.wait()?;
        let started = wait::now();
        self.process = spawn(self.kind, &self.binary, &self.dir, &self.address)?;
        self.wait_ready()?;
        Ok(started.elapsed())
    }

    /// Seconds of processor time so far.
    pub fn cpu(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
        // The kernel counts in hundredths of a second (USER_HZ).
        Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
    }

    pub fn memory_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a VmRSS line")?;
        Ok(line.split_whitespace().next().context("a number")?.parse::<f64>()? / 1024.0)
    }
}

fn spawn(kind: Kind, binary: &Path, dir: &Path, address: &str) -> Result<Child> {
    let peer = format!("http://{}", free_address()?);
    let client = format!("http://{address}");
    let mut command = match kind {
        Kind::Etcd => {
            let mut command = Command::new("etcd");
            command.args(["--log-level", "error", "--logger", "zap"]);
            command
        }
        Kind::Oxikube => {
            let mut command = Command::new(binary);
            command.arg("etcd");
            command
        }
    };
    let log = std::fs::File::create(dir.with_extension("log"))?;
    command
        .arg("--data-dir")
        .arg(dir)
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client, "--quota-backend-bytes", "8589934592"])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().with_context(|| format!("starting {command:?}"))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
