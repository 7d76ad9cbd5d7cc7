//! What `oxikube up` says when it cannot start, and that it leaves nothing half-started.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use testkit::TestHost;

/// Each case breaks one thing on a fresh host and names words that the error must have.
pub fn run(binary: &Path) -> Result<()> {
    let host = TestHost::new("fails", 3)?;
    let data = host.path("data").display().to_string();
    let place: Vec<String> =
        ["data", "run", "config"].iter().flat_map(|kind| [format!("--{kind}-dir"), host.path(kind).display().to_string()]).collect();
    let up = |setup: &str, flags: &str| -> Result<String> {
        let line = format!("{setup} {} up {} {flags}", binary.display(), place.join(" "));
        let output = host.command("sh").args(["-c", &line]).output().context("running oxikube up")?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "it must fail: {line}\n{}", String::from_utf8_lossy(&output.stdout));
        ensure!(!Path::new(&data).join("store").exists(), "nothing is half-started: {line}");
        Ok(text)
    };
    let cases = [
        ("busybox nc -l -p 6443 >/dev/null 2>&1 & sleep 0.3;", "", vec!["port 6443 is taken", "--apiserver-bind-port"]),
        ("PATH=/nowhere /usr/bin/env", "", vec!["not found on PATH", "containerd", "apt-get install"]),
        ("", "--container-runtime-endpoint unix:///nowhere.sock", vec!["no container runtime at /nowhere.sock"]),
        ("faketime -f '2001-01-01 00:00:00'", "", vec!["the clock says 2001-01-01", "Set the clock"]),
        ("setpriv --reuid=65534 --regid=65534 --clear-groups", "", vec!["must run as root", "sudo"]),
    ];
    for (setup, flags, wanted) in cases {
        let text = up(setup, flags)?;
        for words in wanted {
            ensure!(text.contains(words), "wanted {words:?} in: {text}");
        }
    }
    let full = format!("mkdir -p {data} && mount -t tmpfs -o size=16m oxi-small {data} &&");
    let text = up(&full, "")?;
    ensure!(text.contains("MB are free on the disk of") && text.contains("--data-dir"), "{text}");
    let dead = host.path("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).context("a socket that nobody serves")?);
    let text = up("", &format!("--container-runtime-endpoint {}", dead.display()))?;
    ensure!(text.contains("is dead: nothing accepts connections"), "{text}");
    Ok(())
}
