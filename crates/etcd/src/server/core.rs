//! What all services share: the store, who we are, the metrics. Holds no behaviour of a single service.

use store::{Engine, Kv, KvError, RaftStatus, Revision};
use tonic::{Request, Status};

use super::auth::Gate;
use super::identity::Identity;
use super::metrics::Metrics;
use crate::errors;
use crate::pb;
use crate::snapshot::save::Cluster;

pub struct Core {
    /// Nobody's: for what a client asks take `engine_for`, for the server's own work one that acts as `store::Identity::Server`.
    pub engine: Engine,
    pub gate: Gate,
    pub identity: Identity,
    pub metrics: Metrics,
    pub quota_bytes: u64,
    pub max_request_bytes: usize,
    pub tasks: base::Tasks,
}

impl Core {
    /// The store in the name of whoever sent the request.
    pub fn engine_for<T>(&self, request: &Request<T>) -> Engine {
        self.engine.acting_as(request.extensions().get::<store::Identity>().cloned().unwrap_or_default())
    }

    /// The store for what the server does by itself.
    pub fn own_engine(&self) -> Engine {
        self.engine.acting_as(store::Identity::Server)
    }

    pub fn header_at(&self, revision: Revision) -> pb::ResponseHeader {
        let Identity { cluster_id, member_id } = self.identity;
        pb::ResponseHeader { cluster_id, member_id, revision, raft_term: self.raft().term }
    }

    /// A header with the newest revision.
    pub fn header(&self) -> pb::ResponseHeader {
        self.header_at(self.engine.revision())
    }

    /// What a snapshot says of the cluster.
    pub fn cluster(&self) -> Cluster {
        Cluster { members: self.engine.members(), term: self.raft().term }
    }

    /// Where the member stands.
    pub fn raft(&self) -> RaftStatus {
        self.engine.raft_status().unwrap_or_default()
    }

    /// Refuses what a learner does not serve, and what waits for a leader where there is none (server/etcdserver/api/v3rpc/interceptor.go). Whether a range
    /// is one that learners serve is seen later.
    pub fn admit(&self, service: &str, method: &str, needs_leader: bool) -> Result<(), Status> {
        let raft = self.raft();
        let for_learners = matches!((service, method), ("etcdserverpb.Maintenance", "Status" | "Snapshot") | ("etcdserverpb.KV", "Range"));
        if raft.is_learner && !for_learners {
            return Err(errors::not_for_learners());
        }
        if needs_leader && raft.leader == 0 {
            return Err(errors::to_status(KvError::NoLeader));
        }
        Ok(())
    }

    /// Whether puts are refused for want of space.
    pub async fn is_full(&self) -> Result<bool, KvError> {
        Ok(self.engine.status().await?.db_size_in_use > self.quota_bytes)
    }

    /// Counts an error and says it as etcd does.
    pub fn refuse(&self, error: KvError) -> Status {
        if matches!(error, KvError::Unavailable(_) | KvError::Timeout | KvError::NoLeader | KvError::Internal(_)) {
            self.metrics.failed.inc();
        }
        errors::to_status(error)
    }
}
