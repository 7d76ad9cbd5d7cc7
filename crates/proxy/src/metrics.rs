//! The proxy's metrics under upstream's names. Source: pkg/proxy/metrics/metrics.go.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::sync::atomic::AtomicU64;

#[derive(Clone, Debug)]
pub struct Metrics {
    pub sync_seconds: Histogram,
    pub last_sync_seconds: Gauge<f64, AtomicU64>,
    pub last_queued_seconds: Gauge<f64, AtomicU64>,
    pub sync_failures: Counter,
    pub endpoint_changes: Counter,
    pub service_changes: Counter,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            sync_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            last_sync_seconds: Gauge::default(),
            last_queued_seconds: Gauge::default(),
            sync_failures: Counter::default(),
            endpoint_changes: Counter::default(),
            service_changes: Counter::default(),
        };
        let m = metrics.clone();
        registry.register("kubeproxy_sync_proxy_rules_duration_seconds", "SyncProxyRules latency in seconds", m.sync_seconds);
        registry.register(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
            "The last time proxy rules were synced",
            m.last_sync_seconds,
        );
        registry.register(
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued",
            m.last_queued_seconds,
        );
        registry.register("kubeproxy_sync_proxy_rules_nftables_sync_failures", "Failed writes of rules", m.sync_failures);
        registry.register("kubeproxy_sync_proxy_rules_endpoint_changes", "Changes of endpoints", m.endpoint_changes);
        registry.register("kubeproxy_sync_proxy_rules_service_changes", "Changes of services", m.service_changes);
        metrics
    }
}
