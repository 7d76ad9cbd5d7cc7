//! Metrics under etcd's names (server/etcdserver/metrics.go and the metrics.go of mvcc, lease, wal, backend and rafthttp). Counts what the services tell,
//! and asks the store for the rest when somebody wants to see it. Must show nothing that was not measured.

mod calls;
mod peers;
mod process;
mod text;

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use store::{Kv, KvError};

pub use self::calls::{Calls, Counted, End};
pub use self::peers::{PeerTraffic, Peers};
pub use self::text::Format;
use self::text::Page;
use super::core::Core;
use crate::ETCD_VERSION;

#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn inc(&self) {
        self.inc_by(1);
    }

    pub fn inc_by(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
pub struct Metrics {
    pub ranges: Counter,
    pub puts: Counter,
    pub put_bytes: Counter,
    pub deletes: Counter,
    pub txns: Counter,
    pub events: Counter,
    pub failed: Counter,
    pub watchers: Gauge,
    pub watch_streams: Gauge,
    pub leases_granted: Counter,
    pub leases_revoked: Counter,
    pub leases_renewed: Counter,
    pub healthy: Counter,
    pub unhealthy: Counter,
    pub calls: Calls,
    pub peers: Peers,
}

/// All metrics as text.
pub async fn page(core: &Core, format: Format) -> Result<String, KvError> {
    let mut page = Page::new(format);
    member(core, &mut page);
    store(core, &mut page).await?;
    services(&core.metrics, &mut page);
    core.metrics.peers.write(&mut page, core.identity.member_id);
    core.metrics.calls.write(&mut page);
    process::write(&mut page);
    Ok(page.finish())
}

fn member(core: &Core, page: &mut Page) {
    let raft = core.engine.raft_status();
    let own = core.identity.member_id;
    let leader = raft.as_ref().map_or(own, |raft| raft.leader);
    let applied = core.engine.applied_index();
    let committed = raft.as_ref().map_or(applied, |raft| raft.raft_index);
    page.gauge("etcd_server_has_leader", "Whether a leader is known").is(u8::from(leader != 0));
    page.gauge("etcd_server_is_leader", "Whether this member leads").is(u8::from(leader == own));
    page.gauge("etcd_server_is_learner", "Whether this member does not vote")
        .is(u8::from(raft.as_ref().is_some_and(|raft| raft.is_learner)));
    let changes = raft.as_ref().map_or(1, |raft| raft.leader_changes);
    page.counter("etcd_server_leader_changes_seen_total", "How often the leader was seen to change").is(changes);
    page.gauge("etcd_server_proposals_committed_total", "Proposals that were committed").is(committed);
    page.gauge("etcd_server_proposals_applied_total", "Proposals that were applied").is(applied);
    let pending = raft.as_ref().map_or(0, |raft| raft.pending_proposals);
    page.gauge("etcd_server_proposals_pending", "Proposals under way").is(pending);
    let failed = raft.as_ref().map_or(0, |raft| raft.failed_proposals).max(core.metrics.failed.get());
    page.counter("etcd_server_proposals_failed_total", "Proposals that failed").is(failed);
    page.gauge("etcd_server_quota_backend_bytes", "Space that keys may take").is(core.quota_bytes);
    page.gauge("etcd_server_version", "The version").with(&[("server_version", ETCD_VERSION)], 1);
    let cluster = ETCD_VERSION.rsplit_once('.').map_or(ETCD_VERSION, |(minor, _)| minor);
    page.gauge("etcd_cluster_version", "The version of the cluster").with(&[("cluster_version", cluster)], 1);
    page.gauge("etcd_server_id", "Who this member is").with(&[("server_id", &format!("{own:x}"))], 1);
}

async fn store(core: &Core, page: &mut Page) -> Result<(), KvError> {
    let status = core.engine.status().await?;
    page.gauge("etcd_mvcc_db_total_size_in_bytes", "Space on disk").is(status.db_size);
    page.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Space in use").is(status.db_size_in_use);
    page.gauge("etcd_debugging_mvcc_current_revision", "The newest revision").is(status.revision);
    page.gauge("etcd_debugging_mvcc_compact_revision", "The revision of the last compaction").is(status.compact_revision);
    page.gauge("etcd_debugging_lease_total", "Leases that have not ended").is(core.own_engine().leases().await?.len());
    page.gauge("etcd_debugging_auth_revision", "The revision of users and roles").is(core.engine.auth_revision());
    let stats = store::stats();
    page.histogram("etcd_disk_wal_fsync_duration_seconds", "Time to make records of the log durable").durations(&[], &stats.log_syncs);
    page.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log").is(stats.log_bytes.load(Ordering::Relaxed));
    page.histogram("etcd_disk_backend_commit_duration_seconds", "Time to save the applied state").durations(&[], &stats.saves);
    page.counter("etcd_debugging_server_lease_expired_total", "Leases whose time ran out").is(stats.leases_expired.load(Ordering::Relaxed));
    Ok(())
}

fn services(metrics: &Metrics, page: &mut Page) {
    for (name, help, counter) in [
        ("etcd_mvcc_range_total", "Ranges seen by this member", &metrics.ranges),
        ("etcd_mvcc_put_total", "Puts seen by this member", &metrics.puts),
        ("etcd_mvcc_delete_total", "Deletes seen by this member", &metrics.deletes),
        ("etcd_mvcc_txn_total", "Transactions seen by this member", &metrics.txns),
        ("etcd_debugging_mvcc_events_total", "Events sent to watchers", &metrics.events),
        ("etcd_debugging_lease_granted_total", "Leases that were granted here", &metrics.leases_granted),
        ("etcd_debugging_lease_revoked_total", "Leases that were revoked here", &metrics.leases_revoked),
        ("etcd_debugging_lease_renewed_total", "Leases that were renewed here", &metrics.leases_renewed),
        ("etcd_server_health_success", "Times that /health said yes", &metrics.healthy),
        ("etcd_server_health_failures", "Times that /health said no", &metrics.unhealthy),
    ] {
        page.counter(name, help).is(counter.get());
    }
    page.gauge("etcd_debugging_mvcc_total_put_size_in_bytes", "Bytes of the keys and values of puts").is(metrics.put_bytes.get());
    page.gauge("etcd_debugging_mvcc_watcher_total", "Running watches").is(metrics.watchers.get());
    page.gauge("etcd_debugging_mvcc_watch_stream_total", "Open streams of watches").is(metrics.watch_streams.get());
}
