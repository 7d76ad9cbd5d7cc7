//! The Lock service: a lock is the first place in a line. Holds none itself: a lock ends with its key or its lease.

use std::sync::Arc;

use bytes::Bytes;
use store::{KeyRange, Kv};
use tonic::{Request, Response, Status};

use super::core::Core;
use super::line::Place;
use crate::pb::v3lockpb as pb;

pub struct LockService(pub Arc<Core>);

#[tonic::async_trait]
impl pb::lock_server::Lock for LockService {
    async fn lock(&self, request: Request<pb::LockRequest>) -> Result<Response<pb::LockResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let pb::LockRequest { name, lease } = request.into_inner();
        let mut place = Place::join(&self.0, engine, &name, lease, Bytes::new()).await?;
        let revision = place.wait_first().await?;
        Ok(Response::new(pb::LockResponse { header: Some(self.0.header_at(revision)), key: place.key.clone() }))
    }

    async fn unlock(&self, request: Request<pb::UnlockRequest>) -> Result<Response<pb::UnlockResponse>, Status> {
        let deleted = self.0.engine_for(&request).delete(KeyRange::one(request.get_ref().key.clone())).await;
        let (revision, _) = deleted.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::UnlockResponse { header: Some(self.0.header_at(revision)) }))
    }
}
