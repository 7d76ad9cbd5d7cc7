//! How many requests run at once. Must not touch long-running requests.

use std::time::Duration;

use api::{Reason, StatusError};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::auth::UserInfo;

/// Waits in line this long, then 429.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(15);

/// Upstream's `--max-requests-inflight` and `--max-mutating-requests-inflight`, with a fair queue before each.
pub struct Limits {
    reads: Semaphore,
    writes: Semaphore,
}

impl Limits {
    /// 0: no limit.
    pub fn new(reads: usize, writes: usize) -> Self {
        let permits = |n: usize| Semaphore::new(if n == 0 { Semaphore::MAX_PERMITS } else { n });
        Self { reads: permits(reads), writes: permits(writes) }
    }

    /// `None`: the caller is exempt.
    pub async fn enter(&self, user: &UserInfo, verb: &str) -> Result<Option<SemaphorePermit<'_>>, StatusError> {
        if user.is_in("system:masters") {
            return Ok(None);
        }
        let line = if matches!(verb, "get" | "list") { &self.reads } else { &self.writes };
        if let Ok(permit) = line.try_acquire() {
            return Ok(Some(permit));
        }
        match tokio::time::timeout(QUEUE_TIMEOUT, line.acquire()).await {
            Ok(Ok(permit)) => Ok(Some(permit)),
            _ => Err(StatusError::new(Reason::TooManyRequests, "Too many requests, please try again later.").with_retry_after(1)),
        }
    }
}
