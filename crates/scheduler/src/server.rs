//! The scheduler's metrics under upstream's names, and where they are served.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::config::Options;
use crate::scheduler::{SchedulerError, Shared};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result_ {
    result: &'static str,
    profile: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueName {
    queue: &'static str,
}

/// Upstream's main metrics (pkg/scheduler/metrics/metrics.go).
pub(crate) struct Metrics {
    attempts: Family<Result_, Counter>,
    attempt_seconds: Histogram,
    sli_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            attempts: Family::default(),
            attempt_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            sli_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 20)),
        }
    }
}

impl Metrics {
    pub fn attempt(&self, placed: bool, took: Duration) {
        let result = if placed { "scheduled" } else { "unschedulable" };
        self.attempts.get_or_create(&Result_ { result, profile: "default-scheduler" }).inc();
        self.attempt_seconds.observe(took.as_secs_f64());
    }

    pub fn bound(&self, since_first_seen: Duration) {
        self.sli_seconds.observe(since_first_seen.as_secs_f64());
    }

    fn encode(&self, shared: &Shared) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        registry.register("scheduler_schedule_attempts", "Attempts to schedule pods, by result", self.attempts.clone());
        registry.register("scheduler_scheduling_attempt_duration_seconds", "Time of one scheduling attempt", self.attempt_seconds.clone());
        registry.register(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "Time from a pod's arrival to its binding",
            self.sli_seconds.clone(),
        );
        let pending: Family<QueueName, Gauge> = Family::default();
        let counts = shared.state.lock().queue.pending();
        for (queue, count) in
            [("active", counts.active), ("backoff", counts.backoff), ("unschedulable", counts.unschedulable), ("gated", counts.gated)]
        {
            pending.get_or_create(&QueueName { queue }).set(count as i64);
        }
        registry.register("scheduler_pending_pods", "Pods without a node, by queue", pending);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

/// Serves until the tasks stop.
pub(crate) async fn start(options: &Options, shared: Arc<Shared>, tasks: &Tasks) -> Result<(), SchedulerError> {
    let client = shared.client.clone();
    let server = serve::Secure { metrics: Arc::new(move || shared.metrics.encode(&shared)), client };
    let address = SocketAddr::new(options.bind_address, options.secure_port);
    server.start(address, "kube-scheduler", tasks).await?;
    Ok(())
}
