//! Leases that end Events after their time to live, shared by those of one minute (upstream: storage/etcd3/lease_manager.go).

use std::sync::Arc;
use std::time::Duration;

use api::StatusError;
use kinds::KindInfo;
use store::{Kv, LeaseId};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::cache::store_error;

const REUSE_FOR: Duration = Duration::from_secs(60);
const REUSE_TIMES: u32 = 1000;

struct Shared {
    id: LeaseId,
    until: Instant,
    left: u32,
}

pub struct Leases {
    kv: Arc<dyn Kv>,
    ttl: Duration,
    shared: Mutex<Option<Shared>>,
}

impl Leases {
    /// `ttl` zero: events stay for ever.
    pub fn new(kv: Arc<dyn Kv>, ttl: Duration) -> Self {
        Self { kv, ttl, shared: Mutex::new(None) }
    }

    /// 0 for kinds that stay.
    pub async fn lease_for(&self, info: &KindInfo) -> Result<LeaseId, StatusError> {
        if info.resource != "events" || self.ttl.is_zero() {
            return Ok(0);
        }
        let mut shared = self.shared.lock().await;
        let now = base::clock::monotonic();
        if let Some(lease) = shared.as_mut().filter(|lease| lease.left > 0 && now < lease.until) {
            lease.left -= 1;
            return Ok(lease.id);
        }
        let granted = self.kv.lease_grant(0, self.ttl + REUSE_FOR).await.map_err(|e| store_error(&e))?;
        *shared = Some(Shared { id: granted.id, until: now + REUSE_FOR, left: REUSE_TIMES - 1 });
        Ok(granted.id)
    }
}
