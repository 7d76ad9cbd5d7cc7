//! The Election service: the leader is the first place in a line, and its value is what the leader says. Errors are those of
//! client/v3/concurrency/election.go.

use std::sync::Arc;

use bytes::Bytes;
use store::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::core::Core;
use super::line::{self, Place};
use crate::pb::v3electionpb as pb;

/// Leaders that may wait for a slow observer.
const LEADERS: usize = 16;

pub struct ElectionService(pub Arc<Core>);

fn not_leader() -> Status {
    Status::unknown("election: not leader")
}

fn named(leader: Option<pb::LeaderKey>) -> Result<pb::LeaderKey, Status> {
    leader.ok_or_else(|| Status::unknown("\"leader\" field must be provided"))
}

#[tonic::async_trait]
impl pb::election_server::Election for ElectionService {
    type ObserveStream = ReceiverStream<Result<pb::LeaderResponse, Status>>;

    async fn campaign(&self, request: Request<pb::CampaignRequest>) -> Result<Response<pb::CampaignResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let pb::CampaignRequest { name, lease, value } = request.into_inner();
        let mut place = Place::join(&self.0, engine, &name, lease, value).await?;
        let revision = place.wait_first().await?;
        let leader = pb::LeaderKey { name, key: place.key.clone(), rev: place.revision, lease: place.lease };
        Ok(Response::new(pb::CampaignResponse { header: Some(self.0.header_at(revision)), leader: Some(leader) }))
    }

    async fn proclaim(&self, request: Request<pb::ProclaimRequest>) -> Result<Response<pb::ProclaimResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let pb::ProclaimRequest { leader, value } = request.into_inner();
        let leader = named(leader)?;
        let is_same = Compare { range: KeyRange::one(leader.key.clone()), op: CompareOp::Equal, target: CompareTarget::Create(leader.rev) };
        let put = Op::Put(PutRequest { lease: leader.lease, ..PutRequest::new(leader.key, value) });
        let done = engine.txn(Txn { compare: vec![is_same], success: vec![put], failure: Vec::new() }).await;
        let done = done.map_err(|error| self.0.refuse(error))?;
        if !done.succeeded {
            return Err(not_leader());
        }
        Ok(Response::new(pb::ProclaimResponse { header: Some(self.0.header_at(done.revision)) }))
    }

    async fn leader(&self, request: Request<pb::LeaderRequest>) -> Result<Response<pb::LeaderResponse>, Status> {
        let (leader, revision) =
            first(&self.0.engine_for(&request), &request.get_ref().name).await.map_err(|error| self.0.refuse(error))?;
        let leader = leader.ok_or_else(|| Status::unknown("election: no leader"))?;
        Ok(Response::new(pb::LeaderResponse { header: Some(self.0.header_at(revision)), kv: Some(leader.into()) }))
    }

    async fn observe(&self, request: Request<pb::LeaderRequest>) -> Result<Response<Self::ObserveStream>, Status> {
        let engine = self.0.engine_for(&request);
        let name = request.into_inner().name;
        let (leaders, stream) = mpsc::channel(LEADERS);
        let core = self.0.clone();
        self.0.tasks.spawn("etcd election observer", async move {
            tokio::select! {
                () = leaders.closed() => {}
                Err(error) = observe(&core, &engine, &name, &leaders) => {
                    let _ = leaders.send(Err(core.refuse(error))).await;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn resign(&self, request: Request<pb::ResignRequest>) -> Result<Response<pb::ResignResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let leader = named(request.into_inner().leader)?;
        let done = line::leave(&engine, leader.key, leader.rev).await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::ResignResponse { header: Some(self.0.header_at(done.revision)) }))
    }
}

/// The first in the line, and the revision at which that was so.
async fn first(engine: &Engine, name: &Bytes) -> Result<(Option<KeyValue>, Revision), KvError> {
    let request = RangeRequest {
        sort_target: SortTarget::CreateRevision,
        sort_order: SortOrder::Ascend,
        ..RangeRequest::new(KeyRange::prefix(line::prefix(name))).limit(1)
    };
    let found = engine.range(request).await?;
    Ok((found.kvs.into_iter().next(), found.revision))
}

/// Tells each leader and each of its values, until the store ends.
async fn observe(
    core: &Core,
    engine: &Engine,
    name: &Bytes,
    leaders: &mpsc::Sender<Result<pb::LeaderResponse, Status>>,
) -> Result<(), KvError> {
    loop {
        let (leader, revision) = first(engine, name).await?;
        let Some(leader) = leader else {
            let joining = WatchRequest { no_delete: true, ..WatchRequest::new(KeyRange::prefix(line::prefix(name)), revision + 1) };
            let mut watch = engine.watch(joining).await?;
            while watch.next().await?.events.is_empty() {}
            continue;
        };
        let mut watch = engine.watch(WatchRequest::new(KeyRange::one(leader.key.clone()), revision + 1)).await?;
        let tell = async |revision, kv: KeyValue| {
            let told = pb::LeaderResponse { header: Some(core.header_at(revision)), kv: Some(kv.into()) };
            // An observer that is gone is noticed by whoever runs this.
            let _ = leaders.send(Ok(told)).await;
        };
        tell(revision, leader).await;
        'leading: loop {
            for event in watch.next().await?.events {
                match event.kind {
                    EventKind::Put => tell(event.kv.mod_revision, event.kv).await,
                    EventKind::Delete => break 'leading,
                }
            }
        }
    }
}
