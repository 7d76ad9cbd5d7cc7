//! The CNI plugin: what a container runtime runs for each pod. Entry point, versions, errors; the verbs are in `attach`.
//! Source: CNI specification 1.1.0 (containernetworking/cni, SPEC.md).

pub mod attach;
pub mod config;
pub mod ipam;
pub mod loopback;
pub mod ports;
pub mod result;

use std::path::{Path, PathBuf};

use serde_json::json;

use self::config::NetConf;

/// What the runtime says in environment variables.
#[derive(Clone, Debug, Default)]
pub struct Env {
    /// CNI_COMMAND.
    pub command: String,
    /// CNI_CONTAINERID.
    pub container_id: String,
    /// CNI_NETNS: the path of the pod's network namespace; may be empty for DEL.
    pub netns: String,
    /// CNI_IFNAME.
    pub ifname: String,
}

impl Env {
    pub fn from_process() -> Self {
        let get = |name| std::env::var(name).unwrap_or_default();
        Self { command: get("CNI_COMMAND"), container_id: get("CNI_CONTAINERID"), netns: get("CNI_NETNS"), ifname: get("CNI_IFNAME") }
    }
}

/// True if this process was started by a container runtime as a plugin.
pub fn is_plugin_call() -> bool {
    std::env::var_os("CNI_COMMAND").is_some()
}

/// An error as the specification wants it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CniError {
    pub code: u32,
    pub message: String,
}

/// The specification's codes, "Error" section; below 100 they are reserved.
pub mod code {
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    pub const UNKNOWN_CONTAINER: u32 = 3;
    pub const INVALID_ENVIRONMENT: u32 = 4;
    pub const IO: u32 = 5;
    pub const DECODE: u32 = 6;
    pub const INVALID_CONFIG: u32 = 7;
    pub const NOT_AVAILABLE: u32 = 50;
    /// Our own: the kernel refused.
    pub const KERNEL: u32 = 100;
    /// Our own: no address is free.
    pub const NO_ADDRESS: u32 = 101;
    /// Our own: CHECK found a difference.
    pub const DIFFERS: u32 = 102;
}

impl CniError {
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl From<host::Error> for CniError {
    fn from(error: host::Error) -> Self {
        Self::new(code::KERNEL, error.to_string())
    }
}

/// Versions of the specification whose result format differs in nothing that we print wrongly.
pub const VERSIONS: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Runs one call of the plugin: the exit code and what belongs on standard output.
pub fn main(env: &Env, stdin: &[u8]) -> (i32, String) {
    if env.command == "VERSION" {
        return version(stdin);
    }
    let (version, outcome) = match config::parse(stdin) {
        Ok(conf) => (conf.cni_version.clone(), run(env, &conf)),
        Err((version, error)) => (version, Err(error)),
    };
    match outcome {
        Ok(output) => (0, output),
        Err(error) => (1, json!({ "cniVersion": version, "code": error.code, "msg": error.message }).to_string()),
    }
}

fn version(stdin: &[u8]) -> (i32, String) {
    let asked: Option<serde_json::Value> = serde_json::from_slice(stdin).ok();
    let asked = asked.and_then(|v| v.get("cniVersion")?.as_str().map(str::to_owned)).unwrap_or_else(|| "1.1.0".into());
    (0, json!({ "cniVersion": asked, "supportedVersions": VERSIONS }).to_string())
}

fn run(env: &Env, conf: &NetConf) -> Result<String, CniError> {
    if conf.kind == "loopback" {
        return loopback::run(env, conf);
    }
    match env.command.as_str() {
        "ADD" => attach::add(env, conf),
        "DEL" => attach::del(env, conf),
        "CHECK" => attach::check(env, conf),
        "GC" => attach::gc(conf),
        "STATUS" => attach::status(conf),
        other => Err(CniError::new(code::INVALID_ENVIRONMENT, format!("CNI_COMMAND is {other:?}; ADD, DEL, CHECK, GC, STATUS or VERSION"))),
    }
}

/// Puts the plugin under its names into a plugin folder, as links to `executable`. An existing file that is not such a link
/// stays: another `loopback` is as good as ours.
pub fn install(bin_dir: &Path, executable: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(bin_dir)?;
    let mut made = Vec::new();
    for name in ["oxikube", "loopback"] {
        let path = bin_dir.join(name);
        match std::fs::read_link(&path) {
            Ok(target) if target == executable => continue,
            Ok(target) if name == "loopback" && target.file_name() != executable.file_name() => continue,
            Ok(_) => std::fs::remove_file(&path)?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(_) if name == "loopback" => continue,
            Err(_) => std::fs::remove_file(&path)?,
        }
        std::os::unix::fs::symlink(executable, &path)?;
        made.push(path);
    }
    Ok(made)
}

#[cfg(test)]
mod tests;
