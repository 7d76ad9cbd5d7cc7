//! What other members say of the cluster before this one is part of it (server/etcdserver/cluster_util.go).

use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::{Deserialize, Serialize};
use store::Member;
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tower::Service;

use super::dial;
use super::greeting::{CLUSTER_HEADER, PROTOCOL_HEADER};
use crate::Transport;

const ANSWER_BYTES: usize = 4 << 20;

/// A member in etcd's JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteMember {
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Vec<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(rename = "clientURLs", default, skip_serializing_if = "Vec::is_empty")]
    client_urls: Vec<String>,
}

impl From<Member> for RemoteMember {
    fn from(member: Member) -> Self {
        let Member { id, name, peer_urls, client_urls, is_learner } = member;
        Self { id, peer_urls, is_learner, name, client_urls }
    }
}

impl From<RemoteMember> for Member {
    fn from(member: RemoteMember) -> Self {
        let RemoteMember { id, peer_urls, is_learner, name, client_urls } = member;
        Self { id, name, peer_urls, client_urls, is_learner }
    }
}

/// A cluster as one of its members knows it.
#[derive(Clone, Debug)]
pub struct RemoteCluster {
    pub id: u64,
    pub members: Vec<Member>,
    /// It is made of our own kind of members.
    pub is_ours: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("could not retrieve cluster information from the given URLs ({0})")]
pub struct RemoteError(String);

/// Asks all at once; the first that knows answers.
pub async fn remote_cluster(
    urls: &[String],
    tls: Option<&TlsConnector>,
    timeout: Duration,
    tasks: &base::Tasks,
) -> Result<RemoteCluster, RemoteError> {
    let asked = urls.iter().map(|url| {
        tokio::time::timeout(timeout, ask(url, tls, tasks))
            .map(move |answer| answer.unwrap_or_else(|_| Err("it does not answer".into())).map_err(|reason| format!("{url}: {reason}")))
    });
    let mut answers: FuturesUnordered<_> = asked.collect();
    let mut reasons = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer {
            Ok(cluster) => return Ok(cluster),
            Err(reason) => reasons.push(reason),
        }
    }
    Err(RemoteError(reasons.join("; ")))
}

async fn ask(url: &str, tls: Option<&TlsConnector>, tasks: &base::Tasks) -> Result<RemoteCluster, String> {
    let mut transport = Transport::new(&[url.to_owned()], tls, &dial(), tasks).map_err(|error| error.to_string())?;
    let request = Request::get("/members").body(Body::empty()).map_err(|error| error.to_string())?;
    let response = transport.call(request).await.map_err(|status| status.message().to_owned())?;
    if response.status() != StatusCode::OK {
        return Err(format!("it answers {}", response.status()));
    }
    let id = response.headers().get(CLUSTER_HEADER).and_then(|id| u64::from_str_radix(id.to_str().ok()?, 16).ok());
    let id = id.ok_or("it does not name its cluster")?;
    let is_ours = response.headers().contains_key(PROTOCOL_HEADER);
    let body = Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?.to_bytes();
    let members: Vec<RemoteMember> = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    Ok(RemoteCluster { id, members: members.into_iter().map(Into::into).collect(), is_ours })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_written_as_etcd_writes_them() {
        let member = Member {
            id: 7,
            name: "a".into(),
            peer_urls: vec!["http://a:1".into()],
            client_urls: vec!["http://a:2".into()],
            is_learner: false,
        };
        let check = |member: &Member, expected: &str| {
            assert_eq!(serde_json::to_string(&RemoteMember::from(member.clone())).unwrap(), expected);
            assert_eq!(&Member::from(serde_json::from_str::<RemoteMember>(expected).unwrap()), member);
        };
        check(&member, r#"{"id":7,"peerURLs":["http://a:1"],"name":"a","clientURLs":["http://a:2"]}"#);
        let learner = Member { name: String::new(), client_urls: Vec::new(), is_learner: true, ..member };
        check(&learner, r#"{"id":7,"peerURLs":["http://a:1"],"isLearner":true}"#);
    }
}
