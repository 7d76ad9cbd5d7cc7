//! The members of a new cluster by way of another cluster, where each writes itself down under a token (etcd's v3 discovery,
//! server/etcdserver/api/v3discovery). Whoever made the token has written there how many there will be. Must never write twice for one member.

use store::{KeyRange, KeyValue, Kv, KvError, PutRequest, RangeRequest, WatchRequest};

use super::urls::{UrlsMap, member_id};
use crate::options::{Options, OptionsError};
use crate::{ConnectError, EtcdKv, EtcdTls};

const REGISTRY: &str = "/_etcd/registry";

#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("--discovery-endpoints: {0}")]
    Connect(#[from] ConnectError),
    #[error("--discovery-endpoints: {0}")]
    Store(#[from] KvError),
    #[error("discovery: size key not found: write the number of members to {0} of that cluster first")]
    SizeNotFound(String),
    #[error("discovery: size key is bad: {0:?} is not a number of members")]
    BadSize(String),
    #[error("discovery: cluster is full: it has its {0} members, and this is none of them")]
    Full(usize),
}

/// Writes this member down and waits for the others.
pub async fn cluster(options: &Options, tasks: &base::Tasks) -> Result<UrlsMap, DiscoveryError> {
    let endpoints: Vec<String> = options
        .discovery_endpoints
        .iter()
        .flat_map(|list| list.split(','))
        .map(|url| url.trim().to_owned())
        .filter(|url| !url.is_empty())
        .collect();
    let token = options.discovery_token.clone().unwrap_or_default();
    let tls = options.discovery_cacert.clone().map(|ca_file| EtcdTls {
        ca_file,
        cert_file: options.discovery_cert.clone(),
        key_file: options.discovery_key.clone(),
    });
    let kv = EtcdKv::connect(&endpoints, tls.as_ref(), tasks)?;
    let own = options.peer_urls()?;
    let id = member_id(&own, &token, None);
    let entry = own.iter().map(|url| format!("{}={url}", options.name)).collect::<Vec<_>>().join(",");
    let entries = join(&kv, &token, id, &entry).await?;
    Ok(UrlsMap::parse(&entries.join(","))?)
}

/// The entries of the first members, in the order in which they came.
async fn join(kv: &EtcdKv, token: &str, id: u64, entry: &str) -> Result<Vec<String>, DiscoveryError> {
    let members = format!("{REGISTRY}/{token}/members/");
    let own = format!("{members}{id:x}");
    let size = size(kv, &format!("{REGISTRY}/{token}/_config/size")).await?;
    let (mut found, _) = list(kv, &members).await?;
    if !found.iter().any(|kv| kv.key == own.as_bytes()) {
        if found.len() >= size {
            return Err(DiscoveryError::Full(size));
        }
        kv.put(PutRequest::new(own.clone(), entry.to_owned())).await?;
        tracing::info!(key = own, entry, "registered this member for discovery");
    }
    loop {
        let revision;
        (found, revision) = list(kv, &members).await?;
        if found.len() >= size {
            break;
        }
        tracing::info!(found = found.len(), size, "waiting for other members to register");
        let mut watch = kv.watch(WatchRequest::new(KeyRange::prefix(members.clone()), revision + 1)).await?;
        while watch.next().await?.events.is_empty() {}
    }
    found.truncate(size);
    if !found.iter().any(|kv| kv.key == own.as_bytes()) {
        return Err(DiscoveryError::Full(size));
    }
    Ok(found.iter().map(|kv| String::from_utf8_lossy(&kv.value).into_owned()).collect())
}

async fn size(kv: &EtcdKv, key: &str) -> Result<usize, DiscoveryError> {
    let found = kv.range(RangeRequest::new(KeyRange::one(key.to_owned()))).await?;
    let value = found.kvs.first().ok_or_else(|| DiscoveryError::SizeNotFound(key.to_owned()))?;
    let text = String::from_utf8_lossy(&value.value).into_owned();
    text.trim().parse().ok().filter(|size| *size > 0).ok_or(DiscoveryError::BadSize(text))
}

async fn list(kv: &EtcdKv, members: &str) -> Result<(Vec<KeyValue>, i64), KvError> {
    let mut found = kv.range(RangeRequest::new(KeyRange::prefix(members.to_owned()))).await?;
    found.kvs.sort_by_key(|kv| kv.create_revision);
    Ok((found.kvs, found.revision))
}
