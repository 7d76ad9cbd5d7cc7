//! Point 3: logs, exec, attach, cp, port-forward, run, proxy, with WebSocket and with SPDY.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testkit::host::output;
use testkit::{Cluster, wait};

use crate::{Test, manifests};

pub const TESTS: &[Test] = &[
    ("streams::logs", logs),
    ("streams::exec", exec),
    ("streams::terminals", terminals),
    ("streams::attach_and_run", attach_and_run),
    ("streams::cp", cp),
    ("streams::port_forward_and_proxy", port_forward_and_proxy),
];

/// kubectl's protocols: WebSocket by default, SPDY when switched off.
const PROTOCOLS: &[(&str, &str)] = &[("websocket", "true"), ("spdy", "false")];

fn logs(cluster: &Cluster) -> Result<()> {
    cluster.apply(&manifests::script(
        "talker",
        "for n in 1 2 3 4 5; do echo line $n; done; echo bad >&2; sleep 2; echo late; exit 3",
        "OnFailure",
        "",
    ))?;
    wait::until(Duration::from_secs(20), "the first lines", || {
        let text = cluster.kubectl(&["logs", "talker"])?;
        if text.starts_with("line 1\nline 2\n") && text.contains("bad") { Ok(()) } else { bail!("{text:?}") }
    })?;
    let followed = cluster.kubectl(&["logs", "-f", "talker"])?;
    ensure!(followed.contains("line 1") && followed.contains("late"), "follow ends with the container: {followed:?}");
    wait::until(Duration::from_secs(30), "the container runs again", || {
        let count = cluster.jsonpath(&["pod", "talker"], "{.status.containerStatuses[0].restartCount}")?;
        if count.parse::<u32>().unwrap_or(0) > 0 { Ok(()) } else { bail!("{count} restarts") }
    })?;
    let previous = cluster.kubectl(&["logs", "--previous", "talker"])?;
    ensure!(previous.contains("late"), "{previous:?}");
    let tail = cluster.kubectl(&["logs", "--previous", "--tail=1", "talker"])?;
    ensure!(tail == "late\n", "{tail:?}");
    let stamped = cluster.kubectl(&["logs", "--previous", "--timestamps", "--tail=1", "talker"])?;
    ensure!(stamped.len() > 25 && stamped.as_bytes()[10] == b'T' && stamped.ends_with(" late\n"), "{stamped:?}");
    ensure!(cluster.kubectl(&["logs", "--since=1h", "--previous", "talker"])?.contains("line 5"), "since an hour ago");
    let waiting = cluster.kubectl_fails(&["logs", "talker", "-c", "nobody"], "")?;
    ensure!(waiting.contains("container nobody is not valid for pod talker"), "{waiting}");
    cluster.kubectl(&["delete", "pod", "talker", "--now"]).map(|_| ())
}

fn exec(cluster: &Cluster) -> Result<()> {
    cluster.apply(&manifests::sleeper("worker", ""))?;
    cluster.wait_ready("worker", 30)?;
    for (name, websockets) in PROTOCOLS {
        let run = |arguments: &[&str], input: &str| -> Result<std::process::Output> {
            let mut command = cluster.kubectl_command(arguments);
            command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets);
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            child.stdin.take().context("a standard input")?.write_all(input.as_bytes())?;
            Ok(child.wait_with_output()?)
        };
        let both = run(&["exec", "worker", "--", "sh", "-c", "echo out; echo err >&2"], "")?;
        ensure!(both.stdout == b"out\n" && both.stderr == b"err\n" && both.status.success(), "{name}: {both:?}");
        let failed = run(&["exec", "worker", "--", "sh", "-c", "exit 7"], "")?;
        ensure!(failed.status.code() == Some(7), "{name}: the exit code comes back: {failed:?}");
        let big = "0123456789".repeat(50_000);
        let cat = run(&["exec", "-i", "worker", "--", "cat"], &big)?;
        ensure!(cat.stdout == big.as_bytes(), "{name}: {} of {} bytes came back", cat.stdout.len(), big.len());
        let missing = run(&["exec", "worker", "--", "no-such-program"], "")?;
        ensure!(!missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("no-such-program"), "{name}: {missing:?}");
    }
    let unknown = cluster.kubectl_fails(&["exec", "nobody", "--", "true"], "")?;
    ensure!(unknown.contains("pods \"nobody\" not found"), "{unknown}");
    Ok(())
}

/// `script` gives kubectl a terminal.
fn terminals(cluster: &Cluster) -> Result<()> {
    let kubectl = format!(
        "KUBECONFIG={} kubectl exec -it worker -- sh -c 'test -t 0 && test -t 1 && echo terminal; sleep 1; stty size'",
        cluster.kubeconfig().display()
    );
    let text = output(cluster.host.command("script").args(["-qec", &format!("stty rows 33 cols 77; {kubectl}"), "/dev/null"]))?;
    ensure!(text.contains("terminal"), "standard input and output are terminals: {text:?}");
    ensure!(text.contains("33 77"), "the terminal has the client's size: {text:?}");
    Ok(())
}

fn attach_and_run(cluster: &Cluster) -> Result<()> {
    let text = cluster.kubectl_with(
        &["run", "once", "--image=oxikube.io/busybox:1", "--rm", "-i", "--restart=Never", "--quiet", "--", "sh", "-c", "cat; echo done"],
        "fed\n",
    )?;
    ensure!(text.contains("fed") && text.contains("done"), "{text:?}");
    ensure!(cluster.kubectl(&["get", "pods", "once", "--ignore-not-found", "-o", "name"])?.is_empty(), "--rm removes the pod");
    cluster.apply(&manifests::script(
        "echoer",
        "while read line; do echo got $line; done",
        "Never",
        "    stdin: true\n    stdinOnce: true",
    ))?;
    cluster.wait_ready("echoer", 30)?;
    let text = cluster.kubectl_with(&["attach", "-i", "echoer"], "one\ntwo\n")?;
    ensure!(text.contains("got one") && text.contains("got two"), "{text:?}");
    cluster.kubectl(&["delete", "pod", "echoer", "--now"]).map(|_| ())
}

fn cp(cluster: &Cluster) -> Result<()> {
    let (there, back) = (cluster.host.path("there.bin"), cluster.host.path("back.bin"));
    let content: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
    std::fs::write(&there, &content)?;
    cluster.kubectl(&["cp", &there.display().to_string(), "worker:/tmp/file.bin"])?;
    cluster.kubectl(&["cp", "worker:/tmp/file.bin", &back.display().to_string()])?;
    ensure!(std::fs::read(&back)? == content, "the file came back as it went");
    Ok(())
}

/// Ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait().map(|_| ())) {
            eprintln!("a kubectl cannot be ended: {error}");
        }
    }
}

fn port_forward_and_proxy(cluster: &Cluster) -> Result<()> {
    let pod = cluster.jsonpath(&["pods", "-l", "app=hello"], "{.items[0].metadata.name}")?;
    for (at, (name, websockets)) in PROTOCOLS.iter().enumerate() {
        let port = 18080 + at;
        let mut command = cluster.kubectl_command(&["port-forward", &format!("pod/{pod}"), &format!("{port}:8080")]);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets).stdout(Stdio::piped());
        let mut running = Running(command.spawn()?);
        let mut line = String::new();
        // It stays open: kubectl tells every connection.
        let mut told = BufReader::new(running.0.stdout.take().context("a standard output")?);
        told.read_line(&mut line)?;
        ensure!(line.contains("Forwarding from"), "{name}: {line}");
        for _ in 0..3 {
            let page = output(cluster.host.command("curl").args(["-sS", "-m", "5", &format!("http://127.0.0.1:{port}/")]))?;
            ensure!(page.trim() == pod, "{name}: {page}");
        }
    }
    let mut running = Running(cluster.kubectl_command(&["proxy", "--port=18090"]).stdout(Stdio::piped()).spawn()?);
    let mut first = [0; 20];
    let mut told = running.0.stdout.take().context("a standard output")?;
    told.read_exact(&mut first)?;
    let get = |path: &str| output(cluster.host.command("curl").args(["-sS", "-m", "5", &format!("http://127.0.0.1:18090{path}")]));
    ensure!(get("/version")?.contains("v1.36"), "kubectl proxy reaches /version");
    ensure!(get(&format!("/api/v1/namespaces/default/pods/{pod}:8080/proxy/"))?.trim() == pod, "a pod by the API server's proxy");
    ensure!(get("/api/v1/namespaces/default/services/hello:http/proxy/")?.starts_with("hello-"), "a service by the API server's proxy");
    ensure!(get("/api/v1/nodes/node-1/proxy/healthz")?.trim() == "ok", "the kubelet by the API server's proxy");
    cluster.kubectl(&["delete", "pod", "worker", "--now"]).map(|_| ())
}
