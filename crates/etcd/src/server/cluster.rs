//! The Cluster service of a cluster that is one member. Changes of the membership are refused in words.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::core::Core;
use crate::{errors, pb};

pub struct ClusterService(pub Arc<Core>);

#[tonic::async_trait]
impl pb::cluster_server::Cluster for ClusterService {
    async fn member_add(&self, _request: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        Err(errors::one_member("adding a member"))
    }

    async fn member_remove(&self, request: Request<pb::MemberRemoveRequest>) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.known(request.into_inner().id)?;
        // etcd does not let the last started member go either.
        Err(Status::failed_precondition("etcdserver: re-configuration failed due to not enough started members"))
    }

    async fn member_update(&self, request: Request<pb::MemberUpdateRequest>) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.known(request.into_inner().id)?;
        Err(errors::one_member("changing a member's peer URLs"))
    }

    async fn member_list(&self, _request: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let header = Some(self.0.header_at(0));
        Ok(Response::new(pb::MemberListResponse { header, members: vec![self.0.member.clone()] }))
    }

    async fn member_promote(&self, request: Request<pb::MemberPromoteRequest>) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.known(request.into_inner().id)?;
        Err(Status::failed_precondition("etcdserver: can only promote a learner member"))
    }
}

impl ClusterService {
    fn known(&self, id: u64) -> Result<(), Status> {
        if id == self.0.identity.member_id { Ok(()) } else { Err(Status::not_found("etcdserver: member not found")) }
    }
}
