//! Peer URLs: what `--initial-cluster` says, when two lists of them mean the same, and the ids that etcd makes from them. Asks DNS where names differ.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::options::OptionsError;

/// How long names may take to resolve, and how often they are asked for (pkg/netutil).
const RESOLVE_FOR: Duration = Duration::from_secs(30);
const RESOLVE_EVERY: Duration = Duration::from_secs(1);

/// Sorted peer URLs by the name of the member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UrlsMap(BTreeMap<String, Vec<String>>);

impl UrlsMap {
    /// `NAME=URL,NAME=URL`; a name may come several times.
    pub fn parse(text: &str) -> Result<Self, OptionsError> {
        let mut map = BTreeMap::<String, Vec<String>>::new();
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (name, url) = part.split_once('=').unwrap_or((part, ""));
            let url = url.trim().to_owned();
            check_url(&url).map_err(|reason| wrong(format!("--initial-cluster: {reason}")))?;
            map.entry(name.trim().to_owned()).or_default().push(url);
        }
        map.values_mut().for_each(|urls| urls.sort());
        Ok(Self(map))
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(name, urls)| (name.as_str(), urls.as_slice()))
    }

    pub fn of(&self, name: &str) -> Option<&[String]> {
        self.0.get(name).map(Vec::as_slice)
    }
}

impl std::fmt::Display for UrlsMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts: Vec<_> = self.iter().flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}"))).collect();
        f.write_str(&parts.join(","))
    }
}

fn wrong(text: String) -> OptionsError {
    OptionsError::Cluster(text)
}

pub fn no_local(name: &str) -> OptionsError {
    wrong(format!("couldn't find local name {name:?} in the initial cluster configuration"))
}

/// client/pkg/types.NewURLs
pub fn check_url(url: &str) -> Result<(), String> {
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https" | "unix" | "unixs")) else {
        return Err(format!("URL scheme must be http, https, unix, or unixs: {url}"));
    };
    if scheme.starts_with("unix") {
        return Ok(());
    }
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && (!name.contains(':') || (name.starts_with('[') && name.ends_with(']'))) => {}
        _ => return Err(format!("URL address does not have the form \"host:port\": {url}")),
    }
    if path.is_empty() { Ok(()) } else { Err(format!("URL must not contain a path: {url}")) }
}

fn check_duplicates(map: &UrlsMap) -> Result<(), OptionsError> {
    let mut seen = std::collections::BTreeSet::new();
    if map.iter().flat_map(|(_, urls)| urls).all(|url| seen.insert(url)) {
        Ok(())
    } else {
        Err(wrong(format!("initial cluster {map} has duplicate url")))
    }
}

/// config.VerifyJoinExisting
pub fn check_join(map: &UrlsMap, name: &str) -> Result<(), OptionsError> {
    map.of(name).ok_or_else(|| no_local(name))?;
    check_duplicates(map)
}

/// config.VerifyBootstrap: `own` is `--initial-advertise-peer-urls`, sorted.
pub async fn check_new(map: &UrlsMap, name: &str, own: &[String]) -> Result<(), OptionsError> {
    let urls = map.of(name).ok_or_else(|| no_local(name))?;
    match are_equal(own, urls).await {
        Ok(()) => check_duplicates(map),
        Err(reason) => check_names(map, name, own, &reason),
    }
}

/// The same, of lists that must agree word by word; `reason` is why they are not the same addresses either.
pub fn check_names(map: &UrlsMap, name: &str, own: &[String], reason: &str) -> Result<(), OptionsError> {
    let urls = map.of(name).ok_or_else(|| no_local(name))?;
    check_duplicates(map)?;
    let missing: Vec<_> = urls.iter().filter(|url| !own.contains(url)).map(|url| format!("{name}={url}")).collect();
    if !missing.is_empty() {
        let (missing, own) = (missing.join(","), own.join(","));
        return Err(wrong(format!("--initial-cluster has {missing} but missing from --initial-advertise-peer-urls={own} ({reason})")));
    }
    let missing: Vec<_> = own.iter().filter(|url| !urls.contains(url)).cloned().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let in_map = urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
    Err(wrong(format!("--initial-advertise-peer-urls has {} but missing from --initial-cluster={in_map}", missing.join(","))))
}

/// Whether two lists name the same addresses, in whatever words (pkg/netutil.URLStringsEqual).
pub async fn are_equal(a: &[String], b: &[String]) -> Result<(), String> {
    let list = |urls: &[String]| format!("[{}]", urls.iter().map(|url| format!("{url:?}")).collect::<Vec<_>>().join(" "));
    if a.len() != b.len() {
        return Err(format!("len({}) != len({})", list(a), list(b)));
    }
    if sorted(a) == sorted(b) {
        return Ok(());
    }
    let (left, right) = (resolve_all(a).await?, resolve_all(b).await?);
    if left == right {
        return Ok(());
    }
    Err(format!("{}(resolved from {}) != {}(resolved from {})", list(&left), list(a), list(&right), list(b)))
}

fn sorted(urls: &[String]) -> Vec<&String> {
    let mut urls: Vec<_> = urls.iter().collect();
    urls.sort();
    urls
}

async fn resolve_all(urls: &[String]) -> Result<Vec<String>, String> {
    let mut resolved = Vec::new();
    for url in urls {
        resolved.push(match url.split_once("://") {
            Some((scheme @ ("http" | "https"), address)) => format!("{scheme}://{}", resolve(address).await?),
            _ => url.clone(),
        });
    }
    resolved.sort();
    Ok(resolved)
}

/// The first address of `HOST:PORT`. A name that is not known yet may become so: members start before DNS knows them.
pub async fn resolve(address: &str) -> Result<SocketAddr, String> {
    let give_up = base::clock::monotonic() + RESOLVE_FOR;
    loop {
        let reason = match tokio::net::lookup_host(address).await {
            Ok(mut found) => match found.next() {
                Some(found) => return Ok(found),
                None => "it has no address".to_owned(),
            },
            Err(error) => error.to_string(),
        };
        if base::clock::monotonic() >= give_up {
            return Err(format!("failed resolving host {address}: {reason}"));
        }
        tracing::warn!(address, reason, "failed to resolve URL host; trying again");
        tokio::time::sleep(RESOLVE_EVERY).await;
    }
}

/// membership.computeMemberId: `urls` are sorted; members that were added to a running cluster also have the second of it, and no token.
pub fn member_id(urls: &[String], token: &str, added_at_s: Option<i64>) -> u64 {
    let second = added_at_s.map(|second| second.to_string()).unwrap_or_default();
    hash(format!("{}{token}{second}", urls.concat()).as_bytes())
}

/// membership.RaftCluster.genID
pub fn cluster_id(members: impl Iterator<Item = u64>) -> u64 {
    let mut ids: Vec<_> = members.collect();
    ids.sort_unstable();
    hash(&ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<_>>())
}

/// The first eight bytes of SHA-1: etcd's ids are no secrets.
fn hash(bytes: &[u8]) -> u64 {
    let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    digest.as_ref().iter().take(8).fold(0, |id, byte| id << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_etcd() {
        // What every etcd with default flags reports.
        let id = member_id(&["http://localhost:2380".into()], "etcd-cluster", None);
        assert_eq!((id, cluster_id([id].into_iter())), (0x8e9e_05c5_2164_694d, 0xcdf8_1819_4e3a_8c32));
        assert_ne!(member_id(&["http://localhost:2380".into()], "", Some(1)), member_id(&["http://localhost:2380".into()], "", Some(2)));
    }

    #[test]
    fn maps() {
        let check = |text: &str, expected: Result<&str, &str>| match (UrlsMap::parse(text), expected) {
            (Ok(map), Ok(expected)) => assert_eq!(map.to_string(), expected),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (found, _) => panic!("{text}: {found:?}"),
        };
        check("a=http://a:1,b=https://b:1,a=http://a:0", Ok("a=http://a:0,a=http://a:1,b=https://b:1"));
        check("", Ok(""));
        check("a", Err("URL scheme must be"));
        check("a=ftp://a:1", Err("URL scheme must be"));
        check("a=http://a", Err("does not have the form \"host:port\""));
        check("a=http://a:1/x", Err("must not contain a path"));
        check("a=http://::1:1", Err("host:port"));
        check("a=http://[::1]:1", Ok("a=http://[::1]:1"));
    }

    #[tokio::test]
    async fn the_flags_must_agree() {
        let check = async |map: &str, own: &[&str], expected: Option<&str>| {
            let own: Vec<String> = own.iter().map(|url| (*url).to_owned()).collect();
            let found = check_new(&UrlsMap::parse(map).unwrap(), "a", &own).await;
            match (found, expected) {
                (Ok(()), None) => {}
                (Err(error), Some(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, _) => panic!("{map} {own:?}: {found:?}"),
            }
        };
        check("a=http://127.0.0.1:1", &["http://127.0.0.1:1"], None).await;
        check("a=http://localhost:1", &["http://127.0.0.1:1"], None).await;
        check("b=http://127.0.0.1:1", &["http://127.0.0.1:1"], Some("couldn't find local name \"a\"")).await;
        check("a=http://127.0.0.1:1,b=http://127.0.0.1:1", &["http://127.0.0.1:1"], Some("has duplicate url")).await;
        let expected = "--initial-cluster has a=http://127.0.0.1:2 but missing from --initial-advertise-peer-urls=http://127.0.0.1:1";
        check("a=http://127.0.0.1:2", &["http://127.0.0.1:1"], Some(expected)).await;
        let expected = "--initial-advertise-peer-urls has http://127.0.0.1:2 but missing from --initial-cluster=a=http://127.0.0.1:1";
        check("a=http://127.0.0.1:1", &["http://127.0.0.1:1", "http://127.0.0.1:2"], Some(expected)).await;
    }
}
