//! Speed and size of a real cluster, and of `oxikube etcd` beside a real etcd, each figure beside its target.
//! `bench --binary target/release/oxikube [cluster | etcd [PHASE]]`.

mod etcd;
mod load;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use testkit::{Cluster, wait};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.first().map(String::as_str) {
        // Runs inside the test host's namespaces; see `loaded`.
        Some("load") => load::run(&arguments[1..]),
        _ => run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One line of the report.
fn report(what: &str, value: f64, unit: &str, target: f64, larger_is_better: bool) {
    let good = if larger_is_better { value >= target } else { value <= target };
    let sign = if larger_is_better { ">=" } else { "<=" };
    println!("{what:<52} {value:>10.2} {unit:<6} target {sign} {target:>8.1}  {}", if good { "ok" } else { "MISSED" });
}

fn run(arguments: &[String]) -> Result<()> {
    let (binary, filter) = match arguments {
        [flag, path, rest @ ..] if flag == "--binary" => (PathBuf::from(path), rest),
        rest => (PathBuf::from("target/release/oxikube"), rest),
    };
    let binary = binary.canonicalize().with_context(|| format!("{}: build it first", binary.display()))?;
    match filter {
        [] => {
            etcd::run(&binary, "")?;
            cluster(&binary)
        }
        [part] if part == "cluster" => cluster(&binary),
        [part] if part == "etcd" => etcd::run(&binary, ""),
        [part, phase] if part == "etcd" => etcd::run(&binary, phase),
        _ => bail!("usage: bench [--binary FILE] [cluster | etcd [put|create|get|fan-out|memory|compaction|watchers]]"),
    }
}

fn cluster(binary: &Path) -> Result<()> {
    let size = std::fs::metadata(binary)?.len() as f64 / 1e6;
    report("release binary", size, "MB", 60.0, false);
    let started = wait::now();
    let cluster = Cluster::up(binary, "bench", 1, &[])?;
    let ready = started.elapsed();
    start_times(&cluster, ready)?;
    pods(&cluster)?;
    idle(&cluster)?;
    requests(&cluster)?;
    cluster.down().map(|_| ())
}

/// From what `oxikube up` saw: "API server...... ok (0.3 s)".
fn start_times(cluster: &Cluster, whole: Duration) -> Result<()> {
    report("start to node Ready with DNS answering (whole up)", whole.as_secs_f64(), "s", 3.0, false);
    cluster.down_keeping_data()?;
    let started = wait::now();
    let text = cluster.start(&[])?;
    let again = started.elapsed();
    let line = text.lines().find(|line| line.starts_with("API server")).context("up names the API server")?;
    let seconds = line.rsplit_once('(').and_then(|(_, rest)| rest.split(' ').next()).and_then(|number| number.parse().ok());
    report("start to /readyz", seconds.context("up prints seconds")?, "s", 0.5, false);
    report("second start to node Ready with DNS answering", again.as_secs_f64(), "s", 3.0, false);
    Ok(())
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: one\nspec:\n  terminationGracePeriodSeconds: 0\n  containers:\n  - name: c\n    image: oxikube.io/busybox:1\n    command: [sleep, infinity]\n";

fn pods(cluster: &Cluster) -> Result<()> {
    let mut best = f64::MAX;
    for _ in 0..3 {
        let started = wait::now();
        cluster.apply(POD)?;
        cluster.kubectl(&["wait", "--for=jsonpath={.status.phase}=Running", "pod/one", "--timeout=60s"])?;
        best = best.min(started.elapsed().as_secs_f64());
        cluster.kubectl(&["delete", "pod", "one", "--wait=true"])?;
    }
    report("one pod from create to Running (kubectl included)", best, "s", 0.8, false);
    let started = wait::now();
    cluster.kubectl(&["create", "deployment", "many", "--image=oxikube.io/busybox:1", "--replicas=20", "--", "sleep", "infinity"])?;
    cluster.kubectl(&["rollout", "status", "deployment/many", "--timeout=120s"])?;
    report("20 pods of a Deployment", started.elapsed().as_secs_f64(), "s", 5.0, false);
    cluster.kubectl(&["delete", "deployment", "many"])?;
    wait::until(Duration::from_secs(90), "the pods go", || {
        let left = cluster.kubectl(&["get", "pods", "-o", "name"])?;
        if left.is_empty() { Ok(()) } else { bail!("left: {}", left.lines().count()) }
    })
}

fn idle(cluster: &Cluster) -> Result<()> {
    std::thread::sleep(Duration::from_secs(10));
    let pid = cluster.pid()?;
    let before = cpu_ticks(pid)?;
    let seconds = 10;
    std::thread::sleep(Duration::from_secs(seconds));
    let used = cpu_ticks(pid)? - before;
    // The kernel counts in hundredths of a second (USER_HZ).
    report("idle CPU", used as f64 / seconds as f64, "% core", 2.0, false);
    report("idle memory, all but containerd (RSS)", resident_kb(pid)? as f64 / 1024.0, "MB", 80.0, false);
    Ok(())
}

fn cpu_ticks(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit_once(')').context("a stat line")?.1.split_whitespace().collect();
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

fn resident_kb(pid: i32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a VmRSS line")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn requests(cluster: &Cluster) -> Result<()> {
    cluster.apply(POD)?;
    cluster.wait_ready("one", 60)?;
    report("create configmaps, 32 clients", loaded(cluster, "create", 32)?, "/s", 5000.0, true);
    report("GET one pod, 16 clients", loaded(cluster, "get", 16)?, "/s", 15_000.0, true);
    Ok(())
}

/// Runs this program again inside the cluster's namespaces as the load; it prints requests per second.
fn loaded(cluster: &Cluster, what: &str, clients: u32) -> Result<f64> {
    let own = std::env::current_exe().context("finding this program")?;
    let mut command = cluster.host.command(&own);
    command.arg("load").arg(what).arg(clients.to_string()).arg(Path::new(&cluster.kubeconfig()));
    let text = testkit::host::output(&mut command)?;
    text.trim().parse().with_context(|| format!("the load printed {text:?}"))
}
