//! The Lease service. Only translates: a lease that is gone is an answer here, not an error, where etcd makes it one.

use std::sync::Arc;
use std::time::Duration;

use store::{Engine, Kv, KvError};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::core::Core;
use crate::pb;

/// Answers to keep-alives that may wait for a slow client.
const ANSWERS: usize = 16;

pub struct LeaseService(pub Arc<Core>);

#[tonic::async_trait]
impl pb::lease_server::Lease for LeaseService {
    type LeaseKeepAliveStream = ReceiverStream<Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(&self, request: Request<pb::LeaseGrantRequest>) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let pb::LeaseGrantRequest { ttl, id } = request.into_inner();
        // Too short is stretched by the store.
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        let granted = engine.lease_grant(id, ttl).await.map_err(|error| self.0.refuse(error))?;
        self.0.metrics.leases_granted.inc();
        let ttl = seconds(granted.granted_ttl);
        Ok(Response::new(pb::LeaseGrantResponse { header: Some(self.0.header()), id: granted.id, ttl, error: String::new() }))
    }

    async fn lease_revoke(&self, request: Request<pb::LeaseRevokeRequest>) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        self.0.engine_for(&request).lease_revoke(request.get_ref().id).await.map_err(|error| self.0.refuse(error))?;
        self.0.metrics.leases_revoked.inc();
        Ok(Response::new(pb::LeaseRevokeResponse { header: Some(self.0.header()) }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let engine = self.0.engine_for(&request);
        let mut requests = request.into_inner();
        let (answers, stream) = mpsc::channel(ANSWERS);
        let core = self.0.clone();
        self.0.tasks.spawn("etcd keep-alive", async move {
            while let Ok(Some(request)) = requests.message().await {
                if let Some((call, _)) = core.metrics.calls.of("etcdserverpb.Lease", "LeaseKeepAlive") {
                    call.received.inc();
                }
                let answer = keep_alive(&core, &engine, request.id).await;
                let is_last = answer.is_err();
                if answers.send(answer).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let header = Some(self.0.header());
        Ok(Response::new(match engine.lease_status(id).await {
            Ok(status) => {
                if keys {
                    // Those that will be told: the leader may know of more than this member.
                    engine.check_keys(&status.keys).map_err(|error| self.0.refuse(error))?;
                }
                pb::LeaseTimeToLiveResponse {
                    header,
                    id,
                    ttl: seconds(status.remaining_ttl),
                    granted_ttl: seconds(status.granted_ttl),
                    keys: if keys { status.keys } else { Vec::new() },
                }
            }
            Err(KvError::LeaseNotFound) => pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() },
            Err(error) => return Err(self.0.refuse(error)),
        }))
    }

    async fn lease_leases(&self, request: Request<pb::LeaseLeasesRequest>) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let ids = self.0.engine_for(&request).leases().await.map_err(|error| self.0.refuse(error))?;
        let leases = ids.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: Some(self.0.header()), leases }))
    }
}

async fn keep_alive(core: &Core, engine: &Engine, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
    let ttl = match engine.lease_keep_alive(id).await {
        Ok(ttl) => {
            core.metrics.leases_renewed.inc();
            seconds(ttl)
        }
        Err(KvError::LeaseNotFound) => 0,
        Err(error) => return Err(core.refuse(error)),
    };
    Ok(pb::LeaseKeepAliveResponse { header: Some(core.header()), id, ttl })
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}
