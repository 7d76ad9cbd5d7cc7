//! Throw-away network namespaces for tests: named, so that `ip netns` finds one that a killed test left; removed on drop.

use std::path::PathBuf;
use std::process::Command;

use crate::netns;

/// A network namespace that ends with the value. `lo` is up.
pub struct ScratchNetns {
    pub name: String,
    pub path: PathBuf,
}

impl ScratchNetns {
    /// Makes `oxi-NAME-PID`. Panics with the reason where that is not possible: a test that cannot run has failed.
    pub fn new(name: &str) -> Self {
        let name = format!("oxi-{name}-{}", std::process::id());
        ip(&["netns", "add", &name]);
        let scratch = Self { path: PathBuf::from("/var/run/netns").join(&name), name };
        scratch.run("ip", &["link", "set", "lo", "up"]);
        scratch
    }

    /// Runs a program inside; its output. Panics if it fails.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let output = self.try_run(program, args);
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a program inside.
    pub fn try_run(&self, program: &str, args: &[&str]) -> std::process::Output {
        let output = Command::new("ip").args(["netns", "exec", &self.name, program]).args(args).output();
        output.unwrap_or_else(|e| panic!("start ip (Debian package iproute2): {e}"))
    }

    /// Runs `work` on a thread inside.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run_in(&self.path, work).unwrap_or_else(|e| panic!("{e}"))
    }
}

impl Drop for ScratchNetns {
    fn drop(&mut self) {
        // What cannot be removed is found by its name; a second panic would hide the first.
        drop(Command::new("ip").args(["netns", "del", &self.name]).output());
    }
}

fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output().unwrap_or_else(|e| panic!("start ip (Debian package iproute2): {e}"));
    let reason = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {args:?}: {reason}(these tests need root)");
}
