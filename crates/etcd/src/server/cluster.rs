//! The Cluster service (server/etcdserver/api/v3rpc/member.go). Makes ids for new members and checks what clients write as URLs; all else the store decides.

use std::sync::Arc;

use store::Member;
use tonic::{Request, Response, Status};

use super::core::Core;
use crate::bootstrap::urls::{check_url, member_id};
use crate::pb;

pub struct ClusterService(pub Arc<Core>);

#[tonic::async_trait]
impl pb::cluster_server::Cluster for ClusterService {
    async fn member_add(&self, request: Request<pb::MemberAddRequest>) -> Result<Response<pb::MemberAddResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let pb::MemberAddRequest { peer_ur_ls, is_learner } = request.into_inner();
        let peer_urls = urls(peer_ur_ls)?;
        let id = member_id(&peer_urls, "", Some(base::clock::unix_ms() / 1000));
        let member = Member { id, peer_urls, is_learner, ..Member::default() };
        let members = engine.add_member(member.clone()).await.map_err(|error| self.0.refuse(error))?;
        tracing::info!(member = format!("{id:x}"), urls = member.peer_urls.join(","), is_learner, "added a member");
        let (header, member) = (Some(self.0.header_at(0)), Some(to_pb(member)));
        Ok(Response::new(pb::MemberAddResponse { header, member, members: all_to_pb(members) }))
    }

    async fn member_remove(&self, request: Request<pb::MemberRemoveRequest>) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let id = request.into_inner().id;
        let members = engine.remove_member(id).await.map_err(|error| self.0.refuse(error))?;
        tracing::info!(member = format!("{id:x}"), "removed a member");
        Ok(Response::new(pb::MemberRemoveResponse { header: Some(self.0.header_at(0)), members: all_to_pb(members) }))
    }

    async fn member_update(&self, request: Request<pb::MemberUpdateRequest>) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let pb::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let members = engine.update_member(id, urls(peer_ur_ls)?).await.map_err(|error| self.0.refuse(error))?;
        Ok(Response::new(pb::MemberUpdateResponse { header: Some(self.0.header_at(0)), members: all_to_pb(members) }))
    }

    async fn member_list(&self, request: Request<pb::MemberListRequest>) -> Result<Response<pb::MemberListResponse>, Status> {
        let engine = self.0.engine_for(&request);
        if request.into_inner().linearizable {
            engine.read_barrier().await.map_err(|error| self.0.refuse(error))?;
        }
        Ok(Response::new(pb::MemberListResponse { header: Some(self.0.header_at(0)), members: all_to_pb(engine.members()) }))
    }

    async fn member_promote(&self, request: Request<pb::MemberPromoteRequest>) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        let engine = self.0.engine_for(&request);
        let id = request.into_inner().id;
        let members = engine.promote_member(id).await.map_err(|error| self.0.refuse(error))?;
        tracing::info!(member = format!("{id:x}"), "promoted a learner");
        Ok(Response::new(pb::MemberPromoteResponse { header: Some(self.0.header_at(0)), members: all_to_pb(members) }))
    }
}

/// Sorted, as ids are made of them.
fn urls(mut urls: Vec<String>) -> Result<Vec<String>, Status> {
    if urls.is_empty() || urls.iter().any(|url| check_url(url).is_err()) {
        return Err(Status::invalid_argument("etcdserver: given member URLs are invalid"));
    }
    urls.sort();
    Ok(urls)
}

fn all_to_pb(members: Vec<Member>) -> Vec<pb::Member> {
    members.into_iter().map(to_pb).collect()
}

fn to_pb(member: Member) -> pb::Member {
    let Member { id, name, peer_urls, client_urls, is_learner } = member;
    pb::Member { id, name, peer_ur_ls: peer_urls, client_ur_ls: client_urls, is_learner }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_members() {
        let check = |given: &[&str], expected: Option<&[&str]>| {
            let given = given.iter().map(|url| (*url).to_owned()).collect();
            assert_eq!(
                urls(given).ok().as_deref(),
                expected.map(|urls| urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>()).as_deref()
            );
        };
        check(&["http://b:2380", "http://a:2380"], Some(&["http://a:2380", "http://b:2380"]));
        check(&["http://a"], None);
        check(&["a:2380"], None);
        check(&[], None);
    }
}
