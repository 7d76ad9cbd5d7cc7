//! One probe of one container start: asks at its period, counts, gives verdicts (pkg/kubelet/prober/worker.go). The counting is pure.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Container, Pod, Probe};
use client::EventType;

use super::{Kind, http};
use crate::context::Context;
use crate::pod::hooks::resolve_port;
use crate::pod::worker::Shared;
use crate::probes::grpc;
use crate::server::metrics::probe_labels;

pub struct Job {
    pub context: Arc<Context>,
    pub shared: Arc<Shared>,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub container_id: String,
    pub started_ns: i64,
    pub pod_ip: String,
    pub kind: Kind,
    pub probe: Probe,
}

/// What one attempt found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The container answered that it is not well, or did not answer.
    Failure(String),
    /// The probe itself could not be made; counts as a failure, with an event of its own.
    Errored(String),
}

/// Counts equal outcomes in a row until one crosses its threshold.
#[derive(Debug, Default)]
pub struct Counter {
    last: Option<bool>,
    run: i32,
}

impl Counter {
    /// The verdict that this outcome leads to; `None` while below the threshold.
    pub fn count(&mut self, success: bool, probe: &Probe) -> Option<bool> {
        if self.last == Some(success) {
            self.run = self.run.saturating_add(1);
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let threshold = if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        (self.run >= threshold).then_some(success)
    }
}

fn seconds(value: Option<i32>, default: i32) -> Duration {
    Duration::from_secs(u64::try_from(value.filter(|value| *value > 0).unwrap_or(default)).unwrap_or(1))
}

/// Probes until the task is stopped with its container.
pub async fn run(job: Job) {
    let period = seconds(job.probe.period_seconds, 10);
    let initial = u64::try_from(job.probe.initial_delay_seconds.unwrap_or(0)).unwrap_or(0);
    let age_ms = base::clock::unix_ms() - job.started_ns / 1_000_000;
    // A container that this process did not start is probed at a random time of the first period, so that not all are at once.
    if age_ms > i64::try_from(period.as_millis()).unwrap_or(i64::MAX) {
        tokio::time::sleep(period.mul_f64(rand::random::<f64>())).await;
    }
    let delay = i64::try_from(initial * 1000).unwrap_or(i64::MAX) - (base::clock::unix_ms() - job.started_ns / 1_000_000);
    tokio::time::sleep(Duration::from_millis(u64::try_from(delay).unwrap_or(0))).await;
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut counter = Counter::default();
    loop {
        ticks.tick().await;
        if !is_turn(&job) {
            continue;
        }
        let outcome = attempt_thrice(&job).await;
        report(&job, &outcome);
        let Some(verdict) = counter.count(outcome == Outcome::Success, &job.probe) else { continue };
        job.shared.set_probe(|results| {
            let map = match job.kind {
                Kind::Liveness => &mut results.liveness,
                Kind::Readiness => &mut results.readiness,
                Kind::Startup => &mut results.startup,
            };
            map.insert(job.container_id.clone(), verdict);
        });
        // A start-up probe's work is done with its success; a failed one of either kind has the container killed.
        if job.kind == Kind::Startup || (job.kind == Kind::Liveness && !verdict) {
            return;
        }
    }
}

/// Liveness and readiness wait for the start-up probe.
fn is_turn(job: &Job) -> bool {
    let started = job.shared.probe_results().startup.get(&job.container_id) == Some(&true);
    job.kind == Kind::Startup || job.container.startup_probe.is_none() || started
}

/// Upstream tries again when the probe itself could not be made.
async fn attempt_thrice(job: &Job) -> Outcome {
    let mut outcome = attempt(job).await;
    for _ in 0..2 {
        if !matches!(outcome, Outcome::Errored(_)) {
            break;
        }
        outcome = attempt(job).await;
    }
    outcome
}

async fn attempt(job: &Job) -> Outcome {
    let timeout = seconds(job.probe.timeout_seconds, 1);
    let ports = job.container.ports.as_deref().unwrap_or_default();
    if let Some(exec) = &job.probe.exec {
        return exec_probe(job, exec.command.clone().unwrap_or_default(), timeout).await;
    }
    if let Some(get) = &job.probe.http_get {
        let port = match resolve_port(&get.port, ports) {
            Ok(port) => port,
            Err(cause) => return Outcome::Errored(cause),
        };
        let target = http::Target {
            tls: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| job.pod_ip.clone()),
            port,
            path: get.path.clone().unwrap_or_default(),
            headers: get.http_headers.clone().unwrap_or_default(),
            user_agent: "kube-probe/1.36",
        };
        return match http::get(&target, timeout).await {
            Ok(answer) if (200..400).contains(&answer.status) => Outcome::Success,
            Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
            Err(cause) => Outcome::Failure(cause),
        };
    }
    if let Some(tcp) = &job.probe.tcp_socket {
        let host = tcp.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| job.pod_ip.clone());
        return match resolve_port(&tcp.port, ports) {
            Ok(port) => tcp_probe(&host, port, timeout).await,
            Err(cause) => Outcome::Errored(cause),
        };
    }
    if let Some(action) = &job.probe.grpc {
        return grpc::check(&job.pod_ip, action.port, action.service.as_deref().unwrap_or_default(), timeout).await;
    }
    Outcome::Errored(format!("missing probe handler for {}:{}", crate::pod::described(&job.pod), job.container.name))
}

async fn exec_probe(job: &Job, command: Vec<String>, timeout: Duration) -> Outcome {
    match job.context.cri.exec_sync(&job.container_id, command, timeout).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => Outcome::Failure(String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned()),
        Err(error) if error.code() == Some(tonic::Code::DeadlineExceeded) => Outcome::Failure(format!("command timed out: {error}")),
        Err(error) => Outcome::Errored(error.to_string()),
    }
}

async fn tcp_probe(host: &str, port: u16, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(format!("dial tcp {host}:{port}: {}", http::dial_text(&error))),
        Err(_) => Outcome::Failure(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

fn report(job: &Job, outcome: &Outcome) {
    let result = match outcome {
        Outcome::Success => "successful",
        Outcome::Failure(_) => "failed",
        Outcome::Errored(_) => "unknown",
    };
    let labels = probe_labels(job.kind.word(), result, &job.pod, &job.container.name);
    *job.context.probe_totals.lock().entry(labels).or_default() += 1;
    let note = match outcome {
        Outcome::Success => return,
        Outcome::Failure(text) => format!("{} probe failed: {text}", job.kind.word()),
        Outcome::Errored(text) => format!("{} probe errored: {text}", job.kind.word()),
    };
    let field = format!("spec.containers{{{}}}", job.container.name);
    job.context.event(&job.pod, Some(&field), EventType::Warning, "Unhealthy", note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_need_their_threshold_in_a_row() {
        let probe = Probe { failure_threshold: Some(2), success_threshold: Some(2), ..Probe::default() };
        let mut counter = Counter::default();
        let outcomes =
            [(false, None), (false, Some(false)), (true, None), (false, None), (true, None), (true, Some(true)), (true, Some(true))];
        for (step, (success, expected)) in outcomes.into_iter().enumerate() {
            assert_eq!(counter.count(success, &probe), expected, "step {step}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(tcp_probe("127.0.0.1", port, Duration::from_secs(1)).await, Outcome::Success);
        drop(listener);
        assert!(matches!(tcp_probe("127.0.0.1", port, Duration::from_secs(1)).await, Outcome::Failure(_)));
    }
}
