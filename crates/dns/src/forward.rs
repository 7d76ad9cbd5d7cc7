//! Asks other servers. Each question has its own socket, so its own port: harder to forge an answer to.
//! Must never ask itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::wire::{self, Query, kind};

/// One server's time to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The next server is asked too when the ones before have been silent for this long.
const HEDGE: Duration = Duration::from_millis(400);
/// Source: kubeadm's Corefile, `max_concurrent 1000`.
const MAX_CONCURRENT: usize = 1000;
/// The file is looked at no more often than this.
const LOOK: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no server for names outside the cluster is known")]
    NoServer,
    #[error("too many questions are on their way to other servers")]
    Busy,
    #[error("no server answered: {0}")]
    Failed(String),
}

/// Where the servers are told.
pub enum Source {
    Fixed(Vec<SocketAddr>),
    File(PathBuf),
}

struct Servers {
    list: Arc<[SocketAddr]>,
    /// Of the file, when it was read.
    modified: Option<SystemTime>,
    looked: Option<Instant>,
}

pub struct Forwarder {
    source: Source,
    /// Our own addresses: asking them would go round in circles.
    own: Vec<SocketAddr>,
    servers: Mutex<Servers>,
    running: Semaphore,
}

impl Forwarder {
    pub fn new(source: Source, own: Vec<SocketAddr>) -> Self {
        let servers = Mutex::new(Servers { list: Arc::new([]), modified: None, looked: None });
        Self { source, own, servers, running: Semaphore::new(MAX_CONCURRENT) }
    }

    /// The servers to ask, in the order in which they are tried.
    pub fn servers(&self) -> Arc<[SocketAddr]> {
        let mut servers = self.servers.lock();
        if servers.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return servers.list.clone();
        }
        servers.looked = Some(base::clock::monotonic());
        match &self.source {
            Source::Fixed(list) => servers.list = self.others(list.clone()),
            Source::File(path) => {
                let modified = std::fs::metadata(path).and_then(|m| m.modified()).ok();
                if modified.is_none() || modified != servers.modified {
                    match std::fs::read_to_string(path) {
                        Ok(text) => servers.list = self.others(name_servers(&text)),
                        Err(error) => {
                            tracing::warn!(%error, path = %path.display(), "name servers cannot be read; the ones known before stay")
                        }
                    }
                    servers.modified = modified;
                }
            }
        }
        servers.list.clone()
    }

    fn others(&self, list: Vec<SocketAddr>) -> Arc<[SocketAddr]> {
        let (own, others): (Vec<_>, Vec<_>) = list.into_iter().partition(|server| self.own.contains(server));
        if !own.is_empty() {
            tracing::warn!(?own, "a server for names outside the cluster is this server itself and is not asked");
        }
        others.into()
    }

    /// The answer to a question, with the ID 0. The servers are tried in turn; a silent one does not hold up the next.
    pub async fn ask(&self, query: &Query) -> Result<Vec<u8>, Error> {
        let _permit = self.running.try_acquire().map_err(|_| Error::Busy)?;
        let servers = self.servers();
        if servers.is_empty() {
            return Err(Error::NoServer);
        }
        let mut asked: FuturesUnordered<_> = FuturesUnordered::new();
        let mut rest = servers.iter();
        let mut last = Error::NoServer;
        asked.extend(rest.next().map(|server| ask_one(query, *server)));
        loop {
            tokio::select! {
                answer = asked.next() => match answer {
                    Some(Ok(answer)) => return Ok(answer),
                    Some(Err(error)) => last = Error::Failed(error),
                    None => return Err(last),
                },
                () = tokio::time::sleep(HEDGE), if rest.len() > 0 => {}
            }
            asked.extend(rest.next().map(|server| ask_one(query, *server)));
        }
    }
}

/// The servers that a resolv.conf names. Source: resolv.conf(5).
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    // A zone index (fe80::1%eth0) is not something that a socket address here can say.
    lines.filter_map(|ip| ip.parse::<IpAddr>().ok()).map(|ip| SocketAddr::new(ip, 53)).collect()
}

/// `IP` or `IP:port`.
pub fn server(text: &str) -> Option<SocketAddr> {
    text.parse().ok().or_else(|| text.parse().ok().map(|ip| SocketAddr::new(ip, 53)))
}

async fn ask_one(query: &Query, server: SocketAddr) -> Result<Vec<u8>, String> {
    let asked = tokio::time::timeout(TIMEOUT, exchange(query, server)).await;
    let answer = asked.map_err(|_| format!("{server}: no answer in {} s", TIMEOUT.as_secs()))?.map_err(|e| format!("{server}: {e}"))?;
    // Another server may know what this one failed at.
    match wire::rcode(&answer) {
        2 => Err(format!("{server}: SERVFAIL")),
        5 => Err(format!("{server}: REFUSED")),
        _ => Ok(answer),
    }
}

async fn exchange(query: &Query, server: SocketAddr) -> io::Result<Vec<u8>> {
    let id: u16 = rand::random();
    let message = query.encode(id);
    let mut answer = over_udp(query, server, id, &message).await?;
    if wire::is_truncated(&answer) {
        answer = over_tcp(query, server, id, &message).await?;
    }
    if wire::records_of(&answer).is_none() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is malformed"));
    }
    answer[..2].fill(0);
    Ok(answer)
}

async fn over_udp(query: &Query, server: SocketAddr, id: u16, message: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(message).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if query.is_answered_by(&buffer[..length], id) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn over_tcp(query: &Query, server: SocketAddr, id: u16, message: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut framed = (message.len() as u16).to_be_bytes().to_vec();
    framed.extend(message);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    if !query.is_answered_by(&answer, id) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question"));
    }
    Ok(answer)
}

/// True if the answer's alias target is worth asking: only addresses follow aliases.
pub fn follows_alias(kind: u16) -> bool {
    matches!(kind, kind::A | kind::AAAA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf() {
        let text = "# nameserver 1.1.1.1\nsearch x\nnameserver 192.0.2.53\n nameserver\tfd00::53 \nnameserver fe80::1%eth0\nnameserver\n";
        assert_eq!(name_servers(text), ["192.0.2.53:53".parse().unwrap(), "[fd00::53]:53".parse().unwrap()]);
    }

    #[test]
    fn it_never_asks_itself() {
        let own = "192.0.2.1:53".parse().unwrap();
        let forwarder = Forwarder::new(Source::Fixed(vec![own, "192.0.2.2:53".parse().unwrap()]), vec![own]);
        assert_eq!(forwarder.servers()[..], ["192.0.2.2:53".parse::<SocketAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn without_a_server_there_is_an_error() {
        let query = Query::new(1, "example.com", kind::A).unwrap();
        assert_eq!(Forwarder::new(Source::Fixed(vec![]), vec![]).ask(&query).await, Err(Error::NoServer));
    }

    /// Answers the first question on `socket` with `rcode`.
    async fn one_answer(socket: UdpSocket, rcode: wire::Rcode) {
        let mut buffer = [0; 512];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        let query = wire::parse(&buffer[..length]).unwrap();
        let mut other = query.clone();
        other.id = query.id.wrapping_add(1);
        let forged = wire::Reply::new(rcode).encode(&other, 512);
        socket.send_to(&forged, from).await.unwrap();
        socket.send_to(&wire::Reply::new(rcode).encode(&query, 512), from).await.unwrap();
    }

    #[tokio::test]
    async fn the_next_server_is_asked_after_a_failure() {
        let (bad, good) = (UdpSocket::bind("127.0.0.1:0").await.unwrap(), UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let servers = vec![bad.local_addr().unwrap(), good.local_addr().unwrap()];
        let (bad, good) = (one_answer(bad, wire::Rcode::ServFail), one_answer(good, wire::Rcode::NxDomain));
        let forwarder = Forwarder::new(Source::Fixed(servers), vec![]);
        let query = Query::new(1, "example.com", kind::A).unwrap();
        let (answer, (), ()) = tokio::join!(forwarder.ask(&query), bad, good);
        assert_eq!(wire::rcode(&answer.unwrap()), 3);
    }
}
