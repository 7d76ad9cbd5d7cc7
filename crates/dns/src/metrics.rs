//! The server's metrics under CoreDNS's names. Source: CoreDNS plugin/metrics, plugin/cache, plugin/forward.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Request {
    pub proto: &'static str,
    pub r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Response {
    pub rcode: &'static str,
    pub plugin: &'static str,
}

#[derive(Clone, Debug)]
pub struct Metrics {
    pub requests: Family<Request, Counter>,
    pub responses: Family<Response, Counter>,
    pub seconds: Histogram,
    pub cache_hits: Counter,
    pub cache_misses: Counter,
    pub forwards: Counter,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            responses: Family::default(),
            seconds: Histogram::new(exponential_buckets(0.00025, 2.0, 16)),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            forwards: Counter::default(),
        };
        let m = metrics.clone();
        registry.register("coredns_dns_requests", "DNS requests by protocol and type", m.requests);
        registry.register("coredns_dns_responses", "DNS responses by code and by who made them", m.responses);
        registry.register("coredns_dns_request_duration_seconds", "Seconds that a request took", m.seconds);
        registry.register("coredns_cache_hits", "Answers from the cache", m.cache_hits);
        registry.register("coredns_cache_misses", "Questions that the cache could not answer", m.cache_misses);
        registry.register("coredns_forward_requests", "Questions sent to other servers", m.forwards);
        metrics
    }
}
