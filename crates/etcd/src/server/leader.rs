//! Clients that would rather be refused than talk to a member that has lost the others (`WithRequireLeader`; api/v3rpc/interceptor.go, monitorLeader).
//! They say so in their metadata.

use std::time::Duration;

use http::HeaderMap;
use store::{Engine, KvError};
use tonic::Status;

use crate::errors;

/// How long a stream bears it: three elections with default settings.
const PATIENCE: Duration = Duration::from_secs(3);

pub fn is_required(headers: &HeaderMap) -> bool {
    headers.get("hasleader").is_some_and(|value| value == "true")
}

pub fn lost() -> Status {
    errors::to_status(KvError::NoLeader)
}

/// Whether there is none now. A store that is no member leads itself.
pub fn is_lost(engine: &Engine) -> bool {
    engine.raft_status().is_some_and(|raft| raft.leader == 0)
}

/// Resolves when there has been none for a while.
pub async fn wait_lost(engine: Engine) {
    let Some(mut changes) = engine.raft_changes() else { return std::future::pending().await };
    loop {
        if changes.wait_for(|raft| raft.leader == 0).await.is_err() {
            // The store is closed: its streams end by themselves.
            return std::future::pending().await;
        }
        if tokio::time::timeout(PATIENCE, changes.wait_for(|raft| raft.leader != 0)).await.is_err() {
            return;
        }
    }
}
