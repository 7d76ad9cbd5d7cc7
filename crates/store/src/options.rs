//! The engine's settings; limits and defaults are etcd's (server/embed/config.go) unless said otherwise.

use std::time::Duration;

#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Operations and compares of one transaction, nested ones together.
    pub max_txn_ops: usize,
    /// Size of one encoded request.
    pub max_request_bytes: usize,
    /// Puts are refused with `NoSpace` while the store holds more than this. etcd's default is 2 GiB.
    pub quota_bytes: u64,
    /// Shorter leases are stretched to this, as etcd does from its election timeout.
    pub min_lease_ttl: Duration,
    /// Pause after which a quiet watch with `progress_notify` gets a progress mark.
    pub watch_progress_interval: Duration,
    /// Size of one log file.
    pub wal_segment_bytes: u64,
    /// Log written since the last checkpoint that makes the next one due.
    pub checkpoint_wal_bytes: u64,
    /// Values kept in memory; the others are read from the disk. Those not saved yet stay in any case.
    pub value_cache_bytes: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            max_txn_ops: 128,
            max_request_bytes: 3 << 19,
            quota_bytes: 8 << 30,
            min_lease_ttl: Duration::from_secs(2),
            watch_progress_interval: Duration::from_secs(600),
            wal_segment_bytes: 16 << 20,
            checkpoint_wal_bytes: 16 << 20,
            value_cache_bytes: 64 << 20,
        }
    }
}
