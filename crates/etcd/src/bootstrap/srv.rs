//! The members of a new cluster by DNS SRV records (client/pkg/srv): `_etcd-server-ssl._tcp.DOMAIN` for members with TLS, `_etcd-server._tcp.DOMAIN` for
//! those without. Asks the name servers of /etc/resolv.conf itself: the system's resolver does not give SRV records.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use super::urls::{UrlsMap, resolve};
use crate::options::{Options, OptionsError};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const ATTEMPTS: usize = 3;
const TIMEOUT: Duration = Duration::from_secs(3);
const UDP_BYTES: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub enum SrvError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("--discovery-srv: {0}")]
    Query(String),
    #[error(
        "cannot find local etcd member {name:?} in SRV records: no record of {domain} points to one of --initial-advertise-peer-urls={urls}"
    )]
    NotThere { name: String, domain: String, urls: String },
}

/// Where a record points.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    host: String,
    port: u16,
}

/// The cluster that the records of `domain` describe; the member at our own advertised address has our name, the others numbers.
pub async fn cluster(options: &Options, domain: &str) -> Result<UrlsMap, SrvError> {
    let suffix = suffix(options.discovery_srv_name.as_deref().unwrap_or_default());
    let own = options.peer_urls()?;
    let servers = name_servers()?;
    let mut parts = Vec::new();
    let mut failures = Vec::new();
    let mut number = 0;
    for (scheme, service) in [("https", "etcd-server-ssl"), ("http", "etcd-server")] {
        let name = format!("_{service}{suffix}._tcp.{domain}");
        let targets = match look_up(&servers, &name).await {
            Ok(targets) => targets,
            Err(reason) => {
                failures.push(format!("error querying DNS SRV records for _{service}{suffix}: {reason}"));
                continue;
            }
        };
        for Target { host, port } in targets {
            let address = format!("{host}:{port}");
            let found = resolve(&address).await.map_err(SrvError::Query)?;
            let member = if is_own(&own, scheme, found).await? {
                options.name.clone()
            } else {
                number += 1;
                (number - 1).to_string()
            };
            tracing::info!(member, address, scheme, "got bootstrap from DNS for etcd-server");
            parts.push(format!("{member}={scheme}://{address}"));
        }
    }
    if parts.is_empty() {
        return Err(SrvError::Query(failures.join("; ")));
    }
    let map = UrlsMap::parse(&parts.join(","))?;
    if map.of(&options.name).is_none() {
        return Err(SrvError::NotThere { name: options.name.clone(), domain: domain.to_owned(), urls: own.join(",") });
    }
    Ok(map)
}

/// The URLs at which the cluster of `domain` serves clients: `_etcd-client-ssl._tcp.DOMAIN` with TLS, `_etcd-client._tcp.DOMAIN` without.
pub async fn client_urls(domain: &str, service_name: &str) -> Result<Vec<String>, SrvError> {
    let (servers, suffix) = (name_servers()?, suffix(service_name));
    let (mut urls, mut failures) = (Vec::new(), Vec::new());
    for (scheme, service) in [("https", "etcd-client-ssl"), ("http", "etcd-client")] {
        match look_up(&servers, &format!("_{service}{suffix}._tcp.{domain}")).await {
            Ok(targets) => urls.extend(targets.into_iter().map(|Target { host, port }| format!("{scheme}://{host}:{port}"))),
            Err(reason) => failures.push(format!("error querying DNS SRV records for _{service}{suffix}: {reason}")),
        }
    }
    if urls.is_empty() { Err(SrvError::Query(failures.join("; "))) } else { Ok(urls) }
}

/// A name parts several clusters of one domain.
fn suffix(service_name: &str) -> String {
    if service_name.is_empty() { String::new() } else { format!("-{service_name}") }
}

async fn is_own(own: &[String], scheme: &str, address: SocketAddr) -> Result<bool, SrvError> {
    for url in own {
        if let Some((own_scheme, own)) = url.split_once("://")
            && own_scheme == scheme
            && resolve(own).await.map_err(SrvError::Query)? == address
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn name_servers() -> Result<Vec<SocketAddr>, SrvError> {
    let text = std::fs::read_to_string(RESOLV_CONF).map_err(|error| SrvError::Query(format!("{RESOLV_CONF}: {error}")))?;
    let servers = servers_of(&text);
    if servers.is_empty() { Err(SrvError::Query(format!("{RESOLV_CONF} names no server"))) } else { Ok(servers) }
}

fn servers_of(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| line.split_whitespace().nth(1)?.parse::<IpAddr>().ok();
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("nameserver"));
    lines.filter_map(address).map(|address| SocketAddr::new(address, 53)).collect()
}

/// Asks the servers in turn.
async fn look_up(servers: &[SocketAddr], name: &str) -> Result<Vec<Target>, String> {
    let parsed = Name::from_ascii(format!("{}.", name.trim_end_matches('.'))).map_err(|error| error.to_string())?;
    let mut query = Message::query();
    query.metadata.recursion_desired = true;
    query.add_query(Query::query(parsed, RecordType::SRV));
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        for server in servers {
            match tokio::time::timeout(TIMEOUT, ask(*server, &query)).await {
                Ok(Ok(answer)) => return targets(name, &answer),
                Ok(Err(reason)) => last = format!("{server}: {reason}"),
                Err(_) => last = format!("{server}: it does not answer"),
            }
        }
    }
    Err(last)
}

async fn ask(server: SocketAddr, query: &Message) -> Result<Message, String> {
    let bytes = query.to_vec().map_err(|error| error.to_string())?;
    let answer = ask_udp(server, &bytes).await.map_err(|error| error.to_string())?;
    let answer = parse(query, &answer)?;
    if !answer.metadata.truncation {
        return Ok(answer);
    }
    parse(query, &ask_tcp(server, &bytes).await.map_err(|error| error.to_string())?)
}

fn parse(query: &Message, answer: &[u8]) -> Result<Message, String> {
    let answer = Message::from_vec(answer).map_err(|error| error.to_string())?;
    if answer.metadata.id == query.metadata.id { Ok(answer) } else { Err("an answer to another question".into()) }
}

async fn ask_udp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut answer = vec![0; UDP_BYTES];
    let length = socket.recv(&mut answer).await?;
    answer.truncate(length);
    Ok(answer)
}

async fn ask_tcp(server: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn targets(name: &str, answer: &Message) -> Result<Vec<Target>, String> {
    if answer.metadata.response_code != ResponseCode::NoError {
        return Err(format!("{name}: {}", answer.metadata.response_code));
    }
    let target = |data: &RData| match data {
        RData::SRV(srv) => Some(Target { host: srv.target.to_ascii().trim_end_matches('.').to_owned(), port: srv.port }),
        _ => None,
    };
    let targets: Vec<_> = answer.answers.iter().filter_map(|record| target(&record.data)).collect();
    if targets.is_empty() { Err(format!("{name}: no such records")) } else { Ok(targets) }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::SRV;

    use super::*;

    #[test]
    fn servers() {
        let text = "# made by hand\nsearch example.org\nnameserver 10.0.0.1\nnameserver fd00::1 # two\noptions ndots:5\n";
        assert_eq!(servers_of(text), ["10.0.0.1:53".parse().unwrap(), "[fd00::1]:53".parse().unwrap()]);
    }

    /// A server that truncates over UDP and answers over TCP.
    #[tokio::test]
    async fn records_are_found() {
        let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(server).await.unwrap();
        let answer = |query: &[u8], truncated: bool| {
            let query = Message::from_vec(query).unwrap();
            let mut answer = Message::response(query.metadata.id, OpCode::Query);
            answer.metadata.truncation = truncated;
            if !truncated {
                let name = query.queries[0].name().clone();
                let srv = SRV::new(0, 100, 2380, Name::from_ascii("infra0.example.org.").unwrap());
                answer.add_answer(Record::from_rdata(name, 60, RData::SRV(srv)));
            }
            answer.to_vec().unwrap()
        };
        let serve = async {
            let mut query = [0; 512];
            let (length, from) = udp.recv_from(&mut query).await.unwrap();
            udp.send_to(&answer(&query[..length], true), from).await.unwrap();
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut query = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut query).await.unwrap();
            let answer = answer(&query, false);
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        };
        let servers = [server];
        let (found, ()) = tokio::join!(look_up(&servers, "_etcd-server._tcp.example.org"), serve);
        assert_eq!(found, Ok(vec![Target { host: "infra0.example.org".into(), port: 2380 }]));
    }
}
