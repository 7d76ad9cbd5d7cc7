//! Health and metrics: /healthz, /livez, /readyz, /metrics under upstream's names.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

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

/// Binds the port and serves until the tasks stop.
pub(crate) async fn start(options: &Options, shared: Arc<Shared>, tasks: &Tasks) -> Result<(), SchedulerError> {
    let address = SocketAddr::new(options.bind_address, options.secure_port);
    let listener = TcpListener::bind(address).await.map_err(|source| SchedulerError::Listen { address, source })?;
    let group = tasks.clone();
    tasks.spawn_critical("scheduler-server", async move {
        loop {
            let (stream, _) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let shared = shared.clone();
            group.spawn("scheduler-connection", async move {
                let service = service_fn(move |request| answer(request, shared.clone()));
                if let Err(error) = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                    tracing::debug!(%error, "a connection ended early");
                }
            });
        }
    });
    Ok(())
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match request.uri().path() {
        "/healthz" | "/livez" | "/readyz" => (StatusCode::OK, "ok".to_owned()),
        "/metrics" => match shared.metrics.encode(&shared) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        },
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    Ok(response)
}
