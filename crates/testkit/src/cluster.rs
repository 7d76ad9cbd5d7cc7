//! A running cluster on a test host, and kubectl against it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::host::{TestHost, output};
use crate::wait;

/// Started by `oxikube up`, ended by `oxikube down` (or, should that fail, with its host).
pub struct Cluster {
    pub host: TestHost,
    binary: PathBuf,
}

impl Cluster {
    /// Starts one and waits until it is ready.
    pub fn up(binary: &Path, name: &str, slot: u8, flags: &[&str]) -> Result<Self> {
        let cluster = Self { host: TestHost::new(name, slot)?, binary: binary.to_owned() };
        cluster.start(flags)?;
        Ok(cluster)
    }

    /// `oxikube up` again, after a `kill -9` or a `down`.
    pub fn start(&self, flags: &[&str]) -> Result<String> {
        let mut command = self.oxikube("up");
        command.args(self.place()).args(["--node-name", "node-1"]).args(flags);
        output(&mut command).with_context(|| format!("the end of the cluster's log:\n{}", self.log_tail(40)))
    }

    /// `oxikube SUBCOMMAND` on the host.
    pub fn oxikube(&self, subcommand: &str) -> Command {
        let mut command = self.host.command(&self.binary);
        command.arg(subcommand);
        command
    }

    /// The flags that say where this cluster lives.
    pub fn place(&self) -> Vec<String> {
        ["data", "run", "config"].iter().flat_map(|kind| [format!("--{kind}-dir"), self.host.path(kind).display().to_string()]).collect()
    }

    /// `oxikube down` without deleting anything.
    pub fn down_keeping_data(&self) -> Result<String> {
        output(self.oxikube("down").args(self.place()))
    }

    pub fn down(&self) -> Result<String> {
        output(self.oxikube("down").args(self.place()).arg("--delete-data"))
    }

    pub fn log_tail(&self, lines: usize) -> String {
        let text = std::fs::read_to_string(self.host.path("data").join("oxikube.log")).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.host.path("config").join("admin.conf")
    }

    /// The pid of the cluster's process.
    pub fn pid(&self) -> Result<i32> {
        let path = self.host.path("run").join("oxikube.pid");
        std::fs::read_to_string(&path)
            .with_context(|| format!("reading {}", path.display()))?
            .trim()
            .parse()
            .context("a pid file holds a number")
    }

    /// kubectl with the admin's rights; the command is not run yet.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.command("kubectl");
        command.env("KUBECONFIG", self.kubeconfig()).env("HOME", self.host.folder()).args(arguments);
        command
    }

    /// Runs kubectl; a failure is an error with what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        output(&mut self.kubectl_command(arguments))
    }

    /// Runs kubectl with a standard input; a failure is an error with what it printed.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let result = self.kubectl_output(arguments, input)?;
        if !result.status.success() {
            bail!(
                "kubectl {} failed: {}{}",
                arguments.join(" "),
                String::from_utf8_lossy(&result.stdout),
                String::from_utf8_lossy(&result.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&result.stdout).into_owned())
    }

    /// Runs kubectl with a standard input, whatever comes of it.
    pub fn kubectl_output(&self, arguments: &[&str], input: &str) -> Result<Output> {
        let mut command = self.kubectl_command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("running kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has a standard input")?;
        stdin.write_all(input.as_bytes()).context("feeding kubectl")?;
        drop(stdin);
        child.wait_with_output().context("waiting for kubectl")
    }

    /// Runs kubectl that must fail; returns what it wrote to standard error.
    pub fn kubectl_fails(&self, arguments: &[&str], input: &str) -> Result<String> {
        let result = self.kubectl_output(arguments, input)?;
        if result.status.success() {
            bail!("kubectl {} was expected to fail and printed: {}", arguments.join(" "), String::from_utf8_lossy(&result.stdout));
        }
        Ok(String::from_utf8_lossy(&result.stderr).into_owned())
    }

    pub fn apply(&self, manifest: &str) -> Result<String> {
        self.kubectl_with(&["apply", "-f", "-"], manifest)
    }

    /// `kubectl get ... -o json`.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.kubectl(&[&["get"], arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).context("kubectl prints JSON")
    }

    /// `kubectl get ... -o jsonpath=PATH`.
    pub fn jsonpath(&self, arguments: &[&str], path: &str) -> Result<String> {
        let format = format!("jsonpath={path}");
        self.kubectl(&[&["get"], arguments, &["-o", format.as_str()]].concat())
    }

    /// Waits until the jsonpath has this very value.
    pub fn wait_value(&self, arguments: &[&str], path: &str, wanted: &str, limit_s: u64) -> Result<()> {
        wait::until(Duration::from_secs(limit_s), &format!("{} {path} = {wanted:?}", arguments.join(" ")), || {
            let seen = self.jsonpath(arguments, path)?;
            if seen == wanted { Ok(()) } else { bail!("it is {seen:?}") }
        })
    }

    pub fn wait_ready(&self, pod: &str, limit_s: u64) -> Result<()> {
        let limit = format!("--timeout={limit_s}s");
        let waited = self.kubectl(&["wait", "--for=condition=Ready", &format!("pod/{pod}"), &limit]);
        waited.map(|_| ()).with_context(|| self.kubectl(&["describe", "pod", pod]).unwrap_or_default())
    }

    /// Runs a command in a pod's first container and returns what it prints.
    pub fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", pod, "--"], command].concat())
    }
}
