//! The server's metrics, with upstream's names (component-base, apiserver/pkg/endpoints/metrics).

use std::sync::atomic::AtomicI64;

use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct RequestLabels {
    pub verb: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub subresource: String,
    pub scope: &'static str,
    pub component: &'static str,
    pub code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct DurationLabels {
    pub verb: &'static str,
    pub group: &'static str,
    pub version: &'static str,
    pub resource: &'static str,
    pub subresource: String,
    pub scope: &'static str,
    pub component: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct InflightLabels {
    pub request_kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct LongRunningLabels {
    pub verb: &'static str,
    pub resource: &'static str,
}

/// One request in flight.
pub struct InFlight(Gauge<i64, AtomicI64>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

type Durations = Family<DurationLabels, Histogram, fn() -> Histogram>;

pub struct Metrics {
    pub registry: RwLock<Registry>,
    pub requests: Family<RequestLabels, Counter>,
    pub durations: Durations,
    pub inflight: Family<InflightLabels, Gauge<i64, AtomicI64>>,
    pub long_running: Family<LongRunningLabels, Gauge<i64, AtomicI64>>,
}

fn histogram() -> Histogram {
    // Seconds, as upstream's apiserver_request_duration_seconds.
    Histogram::new([
        0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0,
    ])
}

impl Metrics {
    pub fn new() -> Self {
        let mut registry = Registry::default();
        let requests = Family::default();
        let durations: Durations = Family::new_with_constructor(histogram);
        let (inflight, long_running) = (Family::default(), Family::default());
        registry.register("apiserver_request", "Requests by verb, resource and code", requests.clone());
        registry.register("apiserver_request_duration_seconds", "Time to answer, without long-running requests", durations.clone());
        registry.register("apiserver_current_inflight_requests", "Requests being served, by kind", inflight.clone());
        registry.register("apiserver_longrunning_requests", "Watches and streams being served", long_running.clone());
        Self { registry: RwLock::new(registry), requests, durations, inflight, long_running }
    }

    /// Counts a request among those in flight while the answer lives.
    pub fn count_inflight(&self, verb: &str) -> InFlight {
        let request_kind = if matches!(verb, "get" | "list") { "readOnly" } else { "mutating" };
        let gauge = self.inflight.get_or_create(&InflightLabels { request_kind }).clone();
        gauge.inc();
        InFlight(gauge)
    }

    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        prometheus_client::encoding::text::encode(&mut out, &self.registry.read())?;
        Ok(out)
    }
}
