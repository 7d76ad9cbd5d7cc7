//! Metrics under etcd's names, as text. Gauges that the store knows are read when somebody asks.

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::ETCD_VERSION;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Call {
    grpc_service: &'static str,
    grpc_method: String,
    grpc_code: &'static str,
}

#[derive(Default)]
pub struct Metrics {
    pub ranges: Counter,
    pub puts: Counter,
    pub deletes: Counter,
    pub txns: Counter,
    pub events: Counter,
    pub failed: Counter,
    pub watchers: Gauge,
    pub watch_streams: Gauge,
    handled: Family<Call, Counter>,
}

/// What the store says of itself at the time of asking.
pub struct Observed {
    pub db_size: u64,
    pub db_size_in_use: u64,
    pub quota_bytes: u64,
    pub revision: i64,
    pub compact_revision: i64,
    pub applied: u64,
    pub leases: usize,
}

impl Metrics {
    /// Counts an answered call; errors that come after a stream began are not seen here.
    pub fn handled(&self, service: &'static str, method: &str, code: tonic::Code) {
        let call = Call { grpc_service: service, grpc_method: method.to_owned(), grpc_code: code_name(code) };
        self.handled.get_or_create(&call).inc();
    }

    pub fn encode(&self, observed: &Observed) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::default();
        for (name, help, counter) in [
            ("etcd_mvcc_range", "Ranges seen by this member", &self.ranges),
            ("etcd_mvcc_put", "Puts seen by this member", &self.puts),
            ("etcd_mvcc_delete", "Deletes seen by this member", &self.deletes),
            ("etcd_mvcc_txn", "Transactions seen by this member", &self.txns),
            ("etcd_debugging_mvcc_events", "Events sent to watchers", &self.events),
            ("etcd_server_proposals_failed", "Proposals that failed", &self.failed),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register("etcd_debugging_mvcc_watcher_total", "Running watches", self.watchers.clone());
        registry.register("etcd_debugging_mvcc_watch_stream_total", "Open streams of watches", self.watch_streams.clone());
        registry.register("grpc_server_handled", "Calls that were answered", self.handled.clone());
        for (name, help, value) in [
            ("etcd_server_has_leader", "Whether there is a leader", 1),
            ("etcd_server_is_leader", "Whether this member leads", 1),
            ("etcd_server_is_learner", "Whether this member is a learner", 0),
            ("etcd_server_proposals_pending", "Proposals under way", 0),
            ("etcd_server_proposals_committed_total", "Proposals committed", clamp(observed.applied)),
            ("etcd_server_proposals_applied_total", "Proposals applied", clamp(observed.applied)),
            ("etcd_server_quota_backend_bytes", "Space that keys may take", clamp(observed.quota_bytes)),
            ("etcd_mvcc_db_total_size_in_bytes", "Space on disk", clamp(observed.db_size)),
            ("etcd_mvcc_db_total_size_in_use_in_bytes", "Space in use", clamp(observed.db_size_in_use)),
            ("etcd_debugging_mvcc_current_revision", "The newest revision", observed.revision),
            ("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction", observed.compact_revision),
            ("etcd_debugging_lease_total", "Leases that have not ended", clamp(observed.leases as u64)),
        ] {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
        registry.register("etcd_server_version", "The version", Info::new(vec![("server_version", ETCD_VERSION)]));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn clamp(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code::*;
    match code {
        Ok => "OK",
        Cancelled => "Canceled",
        Unknown => "Unknown",
        InvalidArgument => "InvalidArgument",
        DeadlineExceeded => "DeadlineExceeded",
        NotFound => "NotFound",
        AlreadyExists => "AlreadyExists",
        PermissionDenied => "PermissionDenied",
        ResourceExhausted => "ResourceExhausted",
        FailedPrecondition => "FailedPrecondition",
        Aborted => "Aborted",
        OutOfRange => "OutOfRange",
        Unimplemented => "Unimplemented",
        Internal => "Internal",
        Unavailable => "Unavailable",
        DataLoss => "DataLoss",
        Unauthenticated => "Unauthenticated",
    }
}
