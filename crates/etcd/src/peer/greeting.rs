//! What members say of themselves with each request, and how one that must not talk to us is refused, with etcd's headers and words
//! (server/etcdserver/api/rafthttp/http.go). Decides from what it is given.

use http::{HeaderMap, HeaderValue, Request, StatusCode};
use tonic::body::Body;

use crate::ETCD_VERSION;

/// The version of what members say to each other. A member refuses every other.
const PROTOCOL: &str = "1";
pub const PROTOCOL_HEADER: &str = "x-oxikube-peer-protocol";
pub const CLUSTER_HEADER: &str = "x-etcd-cluster-id";
const FROM_HEADER: &str = "x-server-from";
const TO_HEADER: &str = "x-raft-to";
const VERSION_HEADER: &str = "x-server-version";
const URLS_HEADER: &str = "x-peerurls";
/// The sender's data folder was empty when it started, and it has not yet said to the cluster that it is there.
const FRESH_HEADER: &str = "x-oxikube-fresh";

pub const ID_MISMATCH: &str = "cluster ID mismatch";
pub const INCOMPATIBLE: &str = "incompatible version";
const TO_MISMATCH: &str = "to field mismatch";
pub const REMOVED: &str = "the member has been permanently removed from the cluster";

/// What a member says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    pub cluster_id: u64,
    pub from: u64,
    pub to: u64,
    pub peer_urls: Vec<String>,
    pub is_fresh: bool,
}

impl Greeting {
    /// The request, with a body, that begins with this.
    pub fn request(&self, path: &str, body: Body) -> Result<Request<Body>, String> {
        let mut request = Request::post(path)
            .header(PROTOCOL_HEADER, PROTOCOL)
            .header(VERSION_HEADER, ETCD_VERSION)
            .header(CLUSTER_HEADER, format!("{:x}", self.cluster_id))
            .header(FROM_HEADER, format!("{:x}", self.from))
            .header(TO_HEADER, format!("{:x}", self.to))
            .header(URLS_HEADER, self.peer_urls.join(","));
        if self.is_fresh {
            request = request.header(FRESH_HEADER, "1");
        }
        request.body(body).map_err(|error| error.to_string())
    }

    /// What the other one said, or why it is not one of ours.
    pub fn read(headers: &HeaderMap) -> Result<Self, Refusal> {
        if text(headers, PROTOCOL_HEADER) != Some(PROTOCOL) {
            let (version, protocol) = (text(headers, VERSION_HEADER).unwrap_or("?"), text(headers, PROTOCOL_HEADER).unwrap_or("none"));
            tracing::warn!(remote_version = version, remote_protocol = protocol, local_protocol = PROTOCOL, "{INCOMPATIBLE}");
            return Err(Refusal::precondition(INCOMPATIBLE));
        }
        let id = |name| text(headers, name).and_then(|id| u64::from_str_radix(id, 16).ok());
        let (Some(cluster_id), Some(from), Some(to)) = (id(CLUSTER_HEADER), id(FROM_HEADER), id(TO_HEADER)) else {
            return Err(Refusal { status: StatusCode::BAD_REQUEST, reason: "the ids of cluster and members are missing".into() });
        };
        let urls = text(headers, URLS_HEADER).unwrap_or_default();
        let peer_urls = urls.split(',').filter(|url| !url.is_empty()).map(str::to_owned).collect();
        Ok(Self { cluster_id, from, to, peer_urls, is_fresh: headers.contains_key(FRESH_HEADER) })
    }

    /// Whether it is meant for the member `to` of cluster `cluster_id`.
    pub fn check(&self, cluster_id: u64, to: u64) -> Result<(), Refusal> {
        if self.cluster_id != cluster_id {
            tracing::error!(
                remote_cluster_id = format!("{:x}", self.cluster_id),
                local_cluster_id = format!("{cluster_id:x}"),
                remote_member_id = format!("{:x}", self.from),
                "request cluster ID mismatch: that member was started with another --initial-cluster or --initial-cluster-token"
            );
            return Err(Refusal::precondition(ID_MISMATCH));
        }
        if self.to != to {
            tracing::warn!(
                requested_member_id = format!("{:x}", self.to),
                local_member_id = format!("{to:x}"),
                "ignored streaming request; ID mismatch"
            );
            return Err(Refusal::precondition(TO_MISMATCH));
        }
        Ok(())
    }
}

fn text<'a>(headers: &'a HeaderMap<HeaderValue>, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An answer that is a no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    pub reason: String,
}

impl Refusal {
    fn precondition(reason: &str) -> Self {
        Self { status: StatusCode::PRECONDITION_FAILED, reason: reason.to_owned() }
    }

    pub fn removed() -> Self {
        Self { status: StatusCode::GONE, reason: REMOVED.to_owned() }
    }

    /// The sender lost its data.
    pub fn bootstrapped(id: u64) -> Self {
        Self { status: StatusCode::CONFLICT, reason: already_bootstrapped(id) }
    }

    pub fn not_ready() -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, reason: "etcdserver: the member is starting".into() }
    }
}

pub fn already_bootstrapped(id: u64) -> String {
    format!("member {id:x} has already been bootstrapped")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting() -> Greeting {
        Greeting { cluster_id: 0xc, from: 0xa, to: 0xb, peer_urls: vec!["http://a:1".into(), "http://b:1".into()], is_fresh: true }
    }

    #[test]
    fn what_is_said_is_heard() {
        let request = greeting().request("/x", Body::empty()).unwrap();
        assert_eq!(Greeting::read(request.headers()), Ok(greeting()));
        let old = Greeting { is_fresh: false, ..greeting() };
        assert_eq!(Greeting::read(old.request("/x", Body::empty()).unwrap().headers()), Ok(old));
    }

    #[test]
    fn strangers_are_refused() {
        let check = |greeting: &Greeting, expected: Option<&str>| {
            let refusal = greeting.check(0xc, 0xb).err();
            assert_eq!(refusal.as_ref().map(|refusal| refusal.reason.as_str()), expected);
        };
        check(&greeting(), None);
        check(&Greeting { cluster_id: 1, ..greeting() }, Some(ID_MISMATCH));
        check(&Greeting { to: 1, ..greeting() }, Some(TO_MISMATCH));
        let mut headers = greeting().request("/x", Body::empty()).unwrap().headers().clone();
        headers.insert(PROTOCOL_HEADER, HeaderValue::from_static("2"));
        assert_eq!(Greeting::read(&headers).unwrap_err().reason, INCOMPATIBLE);
        headers.insert(PROTOCOL_HEADER, HeaderValue::from_static(PROTOCOL));
        headers.insert(FROM_HEADER, HeaderValue::from_static("x"));
        assert_eq!(Greeting::read(&headers).unwrap_err().status, StatusCode::BAD_REQUEST);
    }
}
