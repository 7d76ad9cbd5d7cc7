//! What a member with an empty data folder becomes: one of the first of a new cluster, or a new one of a cluster that runs
//! (server/etcdserver/bootstrap.go). A member that finds data never comes here.

mod discovery;
mod srv;
pub mod urls;

use std::time::Duration;

use store::{Bootstrap, Member};
use tokio_rustls::TlsConnector;

use self::urls::UrlsMap;
use crate::options::{Options, OptionsError};
use crate::peer::{self, already_bootstrapped};

pub use self::discovery::DiscoveryError;
pub use self::srv::{SrvError, client_urls};

/// How long the others have to say whether they know this member already (BootstrapTimeoutEffective).
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How long members of a cluster have to say who is in it.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Srv(#[from] SrvError),
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    #[error("{text}: its data folder is empty but the cluster knows it as started. Remove it ('etcdctl member remove {id:x}'), add it again ('etcdctl \
             member add'), and start it with --initial-cluster-state=existing", text = already_bootstrapped(*id))]
    Bootstrapped { id: u64 },
    #[error("cannot fetch cluster info from peer urls: {0}")]
    Unknown(#[from] peer::RemoteError),
    #[error("error validating peerURLs {members}: {reason}")]
    Mismatch { members: String, reason: String },
    #[error("incompatible with current running cluster: its members are another etcd, with which this one cannot be mixed")]
    Incompatible,
}

/// Who this member is, and what its folder becomes.
#[derive(Clone, Debug)]
pub struct Start {
    pub cluster_id: u64,
    pub member_id: u64,
    pub peer_urls: Vec<String>,
    pub bootstrap: Bootstrap,
}

/// Finds out from the options and, where there are any, the other members.
pub async fn start(options: &Options, tls: Option<&TlsConnector>, tasks: &base::Tasks) -> Result<Start, BootstrapError> {
    let (map, token) = cluster(options, tasks).await?;
    if options.joins()? {
        urls::check_join(&map, &options.name)?;
        return join(options, &map, tls, tasks).await;
    }
    let own = options.peer_urls()?;
    urls::check_new(&map, &options.name, &own).await?;
    let start = first(&map, &options.name, token)?;
    let others = others(&map, &options.name);
    if !others.is_empty()
        && let Ok(running) = peer::remote_cluster(&others, tls, ASK_TIMEOUT, tasks).await
        && running.members.iter().any(|member| member.id == start.member_id && has_run(member))
    {
        return Err(BootstrapError::Bootstrapped { id: start.member_id });
    }
    Ok(start)
}

/// The cluster that the flags describe, and the token that goes into its ids.
async fn cluster<'a>(options: &'a Options, tasks: &base::Tasks) -> Result<(UrlsMap, &'a str), BootstrapError> {
    let given = |value: &'a Option<String>| value.as_deref().filter(|value| !value.is_empty());
    if let Some(token) = given(&options.discovery_token) {
        return Ok((discovery::cluster(options, tasks).await?, token));
    }
    let map = match given(&options.discovery_srv) {
        Some(domain) => srv::cluster(options, domain).await?,
        None => UrlsMap::parse(&options.initial_cluster_or_self()?)?,
    };
    Ok((map, &options.initial_cluster_token))
}

/// What the folder of a member becomes that begins with a snapshot's state.
pub fn restored(options: &Options) -> Result<Start, OptionsError> {
    options.check_cluster()?;
    let map = UrlsMap::parse(&options.initial_cluster_or_self()?)?;
    urls::check_names(&map, &options.name, &options.peer_urls()?, "")?;
    first(&map, &options.name, &options.initial_cluster_token)
}

/// The first members, each with etcd's id, and which of them is `name`.
pub fn first(map: &UrlsMap, name: &str, token: &str) -> Result<Start, OptionsError> {
    let mut members = Vec::new();
    for (name, urls) in map.iter() {
        let id = urls::member_id(urls, token, None);
        let member = Member { id, name: name.to_owned(), peer_urls: urls.to_vec(), ..Member::default() };
        if members.iter().any(|other: &Member| other.id == id) {
            return Err(OptionsError::Cluster(format!("member exists with identical ID {id:x}")));
        }
        members.push(member);
    }
    let own = members.iter().find(|member| member.name == name).ok_or_else(|| urls::no_local(name))?;
    let (member_id, peer_urls) = (own.id, own.peer_urls.clone());
    let cluster_id = urls::cluster_id(members.iter().map(|member| member.id));
    Ok(Start { cluster_id, member_id, peer_urls, bootstrap: Bootstrap::New(members) })
}

/// Whether a member has ever said where its clients find it: of the first members all know the names before (isMemberBootstrapped).
pub fn has_run(member: &Member) -> bool {
    !member.client_urls.is_empty()
}

fn others(map: &UrlsMap, name: &str) -> Vec<String> {
    map.iter().filter(|(other, _)| *other != name).flat_map(|(_, urls)| urls.to_vec()).collect()
}

async fn join(options: &Options, map: &UrlsMap, tls: Option<&TlsConnector>, tasks: &base::Tasks) -> Result<Start, BootstrapError> {
    let running = peer::remote_cluster(&others(map, &options.name), tls, JOIN_TIMEOUT, tasks).await?;
    let own = match_members(map, &options.name, &running.members).await.map_err(|reason| {
        let describe = |member: &Member| format!("{{{:x} {}}}", member.id, member.peer_urls.join(","));
        BootstrapError::Mismatch { members: running.members.iter().map(describe).collect::<Vec<_>>().join(" "), reason }
    })?;
    if !running.is_ours {
        return Err(BootstrapError::Incompatible);
    }
    if has_run(&own) {
        return Err(BootstrapError::Bootstrapped { id: own.id });
    }
    Ok(Start { cluster_id: running.id, member_id: own.id, peer_urls: own.peer_urls, bootstrap: Bootstrap::Join(running.members) })
}

/// The member that `name` is, where the flags describe the members that there are (membership.ValidateClusterAndAssignIDs).
async fn match_members(map: &UrlsMap, name: &str, existing: &[Member]) -> Result<Member, String> {
    if existing.len() != map.iter().count() {
        return Err("member count is unequal".into());
    }
    let mut own = None;
    for member in existing {
        let mut last = String::new();
        let mut found = None;
        for (name, urls) in map.iter() {
            match urls::are_equal(&member.peer_urls, urls).await {
                Ok(()) => {
                    found = Some(name);
                    break;
                }
                Err(reason) => last = reason,
            }
        }
        match found {
            Some(found) if found == name => own = Some(member.clone()),
            Some(_) => {}
            None => {
                let (id, urls) = (member.id, member.peer_urls.join(" "));
                return Err(format!("PeerURLs: no match found for existing member ({id:x}, [{urls}]), last resolver error ({last})"));
            }
        }
    }
    own.ok_or_else(|| urls::no_local(name).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREE: &str = "infra0=http://10.0.1.10:2380,infra1=http://10.0.1.11:2380,infra2=http://10.0.1.12:2380";

    fn members(urls: &[&str]) -> Vec<Member> {
        let member = |(id, url): (u64, &&str)| Member { id, peer_urls: vec![(*url).to_owned()], ..Member::default() };
        (1..).zip(urls).map(member).collect()
    }

    #[test]
    fn first_members() {
        let map = UrlsMap::parse(THREE).unwrap();
        let start = first(&map, "infra1", "etcd-cluster").unwrap();
        let Bootstrap::New(members) = &start.bootstrap else { panic!("{start:?}") };
        assert_eq!(members.len(), 3);
        assert_eq!(members.iter().find(|member| member.id == start.member_id).unwrap().peer_urls, ["http://10.0.1.11:2380"]);
        assert!(members.iter().all(|member| !has_run(member)));
        let other = first(&map, "infra2", "etcd-cluster").unwrap();
        assert_eq!(other.cluster_id, start.cluster_id);
        assert_ne!(first(&map, "infra2", "another").unwrap().cluster_id, start.cluster_id);
        let missing = first(&map, "x", "t").unwrap_err().to_string();
        assert_eq!(missing, "couldn't find local name \"x\" in the initial cluster configuration");
    }

    #[tokio::test]
    async fn who_joins_must_describe_the_cluster() {
        let map = UrlsMap::parse("a=http://10.0.0.1:1,b=http://10.0.0.2:1").unwrap();
        let own = match_members(&map, "b", &members(&["http://10.0.0.1:1", "http://10.0.0.2:1"])).await.unwrap();
        assert_eq!(own.id, 2);
        let unequal = match_members(&map, "b", &members(&["http://10.0.0.1:1"])).await;
        assert_eq!(unequal.unwrap_err(), "member count is unequal");
        let other = match_members(&map, "b", &members(&["http://10.0.0.1:1", "http://10.0.0.3:1"])).await.unwrap_err();
        assert!(other.starts_with("PeerURLs: no match found for existing member (2, [http://10.0.0.3:1])"), "{other}");
    }
}
