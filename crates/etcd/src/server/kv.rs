//! The KV service: ranges, puts, deletes, transactions, compaction. Only translates.

use std::sync::Arc;

use store::{Engine, Kv, KvError, Op, OpResponse, Txn, TxnResponse};
use tonic::body::Body;
use tonic::{Request, Response, Status};

use super::core::Core;
use super::listener::GrpcBody;
use super::unary;
use crate::convert;
use crate::errors;
use crate::pb;
use crate::pb::kv_server::Kv as _;

#[derive(Clone)]
pub struct KvService(pub Arc<Core>);

impl KvService {
    /// Answers the methods that are called most, without tonic's layers; what it does not take it gives back.
    pub async fn fast(
        &self,
        method: &str,
        limit: usize,
        request: http::Request<GrpcBody>,
    ) -> Result<http::Response<Body>, http::Request<GrpcBody>> {
        if !unary::is_plain(&request) {
            return Err(request);
        }
        Ok(match method {
            "Put" => unary::serve(request, limit, |request| self.put(request)).await,
            "Range" => unary::serve(request, limit, |request| self.range(request)).await,
            "Txn" => unary::serve(request, limit, |request| self.txn(request)).await,
            "DeleteRange" => unary::serve(request, limit, |request| self.delete_range(request)).await,
            _ => return Err(request),
        })
    }

    async fn write(&self, engine: &Engine, op: Op) -> Result<(i64, OpResponse), Status> {
        let txn = Txn { success: vec![op], ..Txn::default() };
        let TxnResponse { revision, mut responses, .. } = engine.txn(txn).await.map_err(|error| self.0.refuse(error))?;
        match responses.pop() {
            Some(response) => Ok((revision, response)),
            None => Err(self.mismatch()),
        }
    }

    fn mismatch(&self) -> Status {
        self.0.refuse(KvError::Internal("a request got another request's answer".into()))
    }
}

#[tonic::async_trait]
impl pb::kv_server::Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Result<Response<pb::RangeResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let request = convert::range_from_pb(request.into_inner())?;
        if !request.serializable && self.0.raft().is_learner {
            return Err(errors::not_for_learners());
        }
        self.0.metrics.ranges.inc();
        let response = engine.range(request).await.map_err(|error| self.0.refuse(error))?;
        let header = self.0.header_at(response.revision);
        Ok(Response::new(convert::range_response_to_pb(response, Some(header))))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.0.metrics.puts.inc();
        let engine = self.0.engine_for(&request);
        let request = convert::put_from_pb(request.into_inner());
        self.0.metrics.put_bytes.inc_by((request.key.len() + request.value.len()) as u64);
        let lease = request.lease;
        let (revision, response) = match self.write(&engine, Op::Put(request)).await {
            // A put alone looks for its lease first, one in a transaction for its key (server/etcdserver/apply.go).
            Err(status) if lease != 0 && status.message() == KvError::KeyNotFound.to_string() => {
                engine.lease_status(lease).await.map_err(|error| self.0.refuse(error))?;
                return Err(status);
            }
            written => written?,
        };
        let OpResponse::Put(previous) = response else { return Err(self.mismatch()) };
        let header = Some(self.0.header_at(revision));
        Ok(Response::new(pb::PutResponse { header, prev_kv: previous.map(Into::into) }))
    }

    async fn delete_range(&self, request: Request<pb::DeleteRangeRequest>) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        self.0.metrics.deletes.inc();
        let engine = self.0.engine_for(&request);
        let (revision, response) = self.write(&engine, Op::Delete(convert::delete_from_pb(request.into_inner()))).await?;
        let OpResponse::Delete { deleted, prev_kvs } = response else { return Err(self.mismatch()) };
        let header = Some(self.0.header_at(revision));
        let prev_kvs = prev_kvs.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::DeleteRangeResponse { header, deleted, prev_kvs }))
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let txn = convert::txn_from_pb(request.into_inner())?;
        self.0.metrics.txns.inc();
        let response = engine.txn(txn).await.map_err(|error| self.0.refuse(error))?;
        let header = self.0.header_at(response.revision);
        Ok(Response::new(convert::txn_response_to_pb(response, header)))
    }

    async fn compact(&self, request: Request<pb::CompactionRequest>) -> Result<Response<pb::CompactionResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let pb::CompactionRequest { revision, physical } = request.into_inner();
        engine.compact(revision, physical).await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::CompactionResponse { header: Some(self.0.header()) }))
    }
}
