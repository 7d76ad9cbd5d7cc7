//! The Maintenance service: status, checksums, alarms, snapshots.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use store::{Engine, History, KeyValue, Kv, KvError, Revision};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::alarms;
use super::core::Core;
use crate::snapshot::{schema, stream};
use crate::{ETCD_VERSION, errors, pb};

pub struct MaintenanceService(pub Arc<Core>);

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for MaintenanceService {
    type SnapshotStream = ReceiverStream<Result<pb::SnapshotResponse, Status>>;

    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let engine = self.0.engine_for(&request);
        if request.get_ref().action != i32::from(pb::alarm_request::AlarmAction::Get) {
            engine.check_root().map_err(|error| self.0.refuse(error))?;
        }
        let alarms = alarms::answer(&self.0, &engine, request.into_inner()).await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::AlarmResponse { header: Some(self.0.header()), alarms }))
    }

    async fn status(&self, _request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let status = self.0.engine.status().await.map_err(|error| self.0.refuse(error))?;
        let raft = self.0.raft();
        let alarms = alarms::active(&self.0).await.map_err(|error| self.0.refuse(error))?;
        let no_leader = (raft.leader == 0).then(|| KvError::NoLeader.to_string());
        let errors = no_leader.into_iter().chain(alarms.iter().map(alarms::text)).collect();
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.0.header_at(status.revision)),
            version: ETCD_VERSION.to_owned(),
            db_size: bytes(status.db_size),
            leader: raft.leader,
            raft_index: raft.raft_index,
            raft_term: raft.term,
            raft_applied_index: raft.applied_index,
            errors,
            db_size_in_use: bytes(status.db_size_in_use),
            is_learner: raft.is_learner,
        }))
    }

    async fn defragment(&self, _request: Request<pb::DefragmentRequest>) -> Result<Response<pb::DefragmentResponse>, Status> {
        tracing::info!("a defragmentation was asked for: there is nothing to do, compaction frees its space by itself");
        // etcd sends no header here.
        Ok(Response::new(pb::DefragmentResponse::default()))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let hashed = hash_kv(&self.0.engine, 0).await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::HashResponse { header: Some(self.0.header_at(hashed.revision)), hash: hashed.hash }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let hashed = hash_kv(&self.0.engine, request.into_inner().revision).await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.0.header()),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
            hash_revision: hashed.revision,
        }))
    }

    async fn snapshot(&self, _request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        let snapshot = self.0.engine.snapshot().await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(stream::send(snapshot, self.0.cluster(), &self.0.tasks)))
    }

    async fn move_leader(&self, request: Request<pb::MoveLeaderRequest>) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let engine = self.0.engine_for(&request);
        engine.transfer_leader(request.into_inner().target_id).await.map_err(|error| self.0.refuse(error))?;
        // etcd sends no header here.
        Ok(Response::new(pb::MoveLeaderResponse::default()))
    }

    async fn downgrade(&self, _request: Request<pb::DowngradeRequest>) -> Result<Response<pb::DowngradeResponse>, Status> {
        Err(errors::one_member("downgrading"))
    }
}

struct Hashed {
    revision: Revision,
    /// etcd's way of saying "never": -1.
    compact_revision: Revision,
    hash: u32,
}

/// The checksum that every member with the same keys has: CRC-32C over the rows of etcd's key bucket. Of what is up to the compacted revision only those
/// rows count that are still the newest of their keys, unless no key is left (server/storage/mvcc/hash.go).
async fn hash_kv(engine: &Engine, revision: Revision) -> Result<Hashed, KvError> {
    let history = engine.history(revision).await?;
    tokio::task::spawn_blocking(move || hash_history(history)).await.map_err(|error| KvError::Internal(format!("hashing: {error}")))?
}

fn hash_history(mut history: History) -> Result<Hashed, KvError> {
    let compacted = history.compact_revision;
    let (changed, any_left) = {
        // Keys that changed since the compaction, and whether they are alive.
        let changed: HashMap<&[u8], bool> =
            history.outlook().filter(|(_, revision, _)| *revision > compacted).map(|(key, _, deleted)| (key, !deleted)).collect();
        let old_left = history.outlook().any(|(key, revision, _)| revision <= compacted && !changed.contains_key(key));
        let any_left = old_left || changed.values().any(|live| *live);
        (changed.into_keys().map(Bytes::copy_from_slice).collect::<HashSet<_>>(), any_left)
    };
    let is_kept = |kv: &KeyValue| kv.mod_revision > compacted || !changed.contains(&kv.key);
    let mut hash = crc32c::crc32c(schema::KEY);
    let mut buffer = BytesMut::new();
    while let Some(batch) = history.next_batch()? {
        for (kv, place) in batch.into_iter().filter(|(kv, _)| is_kept(kv) || !any_left) {
            let (key, value) = schema::row(kv, place, &mut buffer).map_err(|error| KvError::Internal(error.to_string()))?;
            hash = crc32c::crc32c_append(crc32c::crc32c_append(hash, &key), &value);
        }
    }
    let compact_revision = if compacted == 0 { -1 } else { compacted };
    Ok(Hashed { revision: history.revision, compact_revision, hash })
}

fn bytes(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
