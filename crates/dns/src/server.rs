//! Sockets and loops: UDP and TCP, health, readiness, metrics; and the informers that keep the index.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use base::Tasks;
use client::{Client, Informer, Informers};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use prometheus_client::registry::Registry;
use serve::plain::{self as http, PLAIN};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};

use crate::Options;
use crate::answer::{Outcome, Zone, answer};
use crate::cache::Cache;
use crate::forward::{self, Forwarder, Source};
use crate::metrics::{Metrics, Request, Response};
use crate::records::{Entry, Key, Records, entry};
use crate::wire::{self, Bad, Query, Rcode, Reply, kind};

const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// An idle TCP connection is closed after this. Source: CoreDNS core/dnsserver (tcpIdleTimeout).
const TCP_IDLE: Duration = Duration::from_secs(8);
const MAX_CONNECTIONS: usize = 1000;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} address {address}: {source}")]
    Bind { what: &'static str, address: SocketAddr, source: std::io::Error },
    #[error("--dns-listen {0}: answers must leave from the address that was asked; name the address, such as the node's, not a wildcard")]
    Wildcard(SocketAddr),
    #[error("--dns-upstream {0:?}: must be IP or IP:port")]
    Upstream(String),
    #[error("--dns-domain {0:?}: must be a domain name")]
    Domain(String),
}

struct Socket {
    udp: Arc<UdpSocket>,
    tcp: TcpListener,
}

/// Cluster DNS.
pub struct Dns {
    shared: Arc<Shared>,
    client: Client,
    sockets: Vec<Socket>,
    registry: Arc<Registry>,
    side: Vec<(&'static str, TcpListener)>,
    ready: watch::Sender<bool>,
}

/// What every question needs.
struct Shared {
    zone: Zone,
    records: Records,
    cache: Cache,
    forwarder: Forwarder,
    metrics: Metrics,
    turn: AtomicU32,
    ready: watch::Receiver<bool>,
}

impl Dns {
    /// Opens the sockets; nothing is answered yet.
    pub async fn new(options: Options, client: Client) -> Result<Self, Error> {
        let domain = options.domain.trim_matches('.').to_ascii_lowercase();
        if domain.is_empty() || Query::new(0, &domain, kind::A).is_none() {
            return Err(Error::Domain(options.domain));
        }
        let mut sockets = Vec::new();
        for address in &options.listen {
            sockets.push(open(*address).await?);
        }
        let mut side = Vec::new();
        for (what, address) in [("health", options.health), ("ready", options.ready), ("metrics", options.metrics)] {
            if let Some(address) = address {
                side.push((what, http::bind(address).await.map_err(|source| Error::Bind { what, address, source })?));
            }
        }
        let own = sockets.iter().filter_map(|s| s.udp.local_addr().ok()).collect();
        let source = match &options.upstreams[..] {
            [] => Source::File(options.resolv_conf.clone()),
            list => {
                let parse = |text: &String| forward::server(text).ok_or_else(|| Error::Upstream(text.clone()));
                Source::Fixed(list.iter().map(parse).collect::<Result<_, _>>()?)
            }
        };
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let ready = watch::Sender::new(false);
        let shared = Shared {
            zone: Zone { domain, ttl: options.ttl, serial: (base::clock::unix_ms() / 1000) as u32 },
            records: Records::default(),
            cache: Cache::default(),
            forwarder: Forwarder::new(source, own),
            metrics,
            turn: AtomicU32::new(0),
            ready: ready.subscribe(),
        };
        Ok(Self { shared: Arc::new(shared), client, sockets, registry: Arc::new(registry), side, ready })
    }

    /// The addresses that are answered on; with the real ports if 0 was asked for.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|s| s.udp.local_addr().ok()).collect()
    }

    /// True once the index is complete.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Runs until the tasks are stopped.
    pub async fn run(self, tasks: Tasks) {
        let informers = Informers::new(self.client.clone(), tasks.clone());
        informers.trimmed::<Service>(trim_service).trimmed::<EndpointSlice>(trim_slice).trimmed::<Namespace>(|namespace| {
            namespace.metadata.annotations = None;
            namespace.metadata.labels = None;
            namespace.status = None;
        });
        let (services, slices, namespaces) = (informers.of::<Service>(), informers.of::<EndpointSlice>(), informers.of::<Namespace>());
        follow(&self.shared, &services, &slices, &namespaces);
        for (what, listener) in self.side {
            let (shared, registry) = (self.shared.clone(), self.registry.clone());
            let handler: http::Handler = Arc::new(move |path: &str| side_answer(&shared, &registry, what, path));
            tasks.spawn_critical("dns side server", http::serve(listener, handler));
        }
        // Questions that come before the index is complete wait in the socket: NXDOMAIN would be a lie that clients keep.
        tokio::join!(services.synced(), slices.synced(), namespaces.synced());
        let workers = std::thread::available_parallelism().map_or(1, |n| n.get().min(4));
        for socket in self.sockets {
            for _ in 0..workers {
                tasks.spawn_critical("dns udp", serve_udp(self.shared.clone(), socket.udp.clone(), tasks.clone()));
            }
            tasks.spawn_critical("dns tcp", serve_tcp(self.shared.clone(), socket.tcp, tasks.clone()));
        }
        self.ready.send_replace(true);
        tracing::info!(domain = self.shared.zone.domain, services = services.len(), "cluster DNS answers");
        tasks.stopping().await;
    }
}

async fn open(address: SocketAddr) -> Result<Socket, Error> {
    if address.ip().is_unspecified() {
        return Err(Error::Wildcard(address));
    }
    let bind = |source| Error::Bind { what: "DNS", address, source };
    let tcp = TcpListener::bind(address).await.map_err(bind)?;
    // With port 0 both protocols still share a number.
    let udp = UdpSocket::bind(tcp.local_addr().map_err(bind)?).await.map_err(bind)?;
    Ok(Socket { udp: Arc::new(udp), tcp })
}

fn trim_service(service: &mut Service) {
    service.metadata.annotations = None;
    service.metadata.labels = None;
    service.status = None;
    if let Some(spec) = &mut service.spec {
        spec.selector = None;
    }
}

fn trim_slice(slice: &mut EndpointSlice) {
    slice.metadata.annotations = None;
    slice.metadata.owner_references = None;
    if let Some(labels) = &mut slice.metadata.labels {
        labels.retain(|name, _| name == SERVICE_NAME_LABEL);
    }
    for endpoint in slice.endpoints.iter_mut().flatten() {
        (endpoint.target_ref, endpoint.hints, endpoint.zone, endpoint.node_name) = (None, None, None, None);
    }
}

/// Keeps the index in step with the objects.
fn follow(shared: &Arc<Shared>, services: &Informer<Service>, slices: &Informer<EndpointSlice>, namespaces: &Informer<Namespace>) {
    slices.index("service", |slice| service_of(slice).map(|(namespace, name)| format!("{namespace}/{name}")).into_iter().collect());
    let update = {
        let (shared, services, slices) = (shared.clone(), services.clone(), slices.clone());
        Arc::new(move |key: &Key| {
            let (namespace, name) = key;
            shared.records.set(key, || {
                let service = services.get(Some(namespace), name)?;
                let headless = service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"));
                let slices = if headless { slices.by_index("service", &format!("{namespace}/{name}")) } else { Vec::new() };
                entry(&service, &slices)
            });
        })
    };
    let of_service = update.clone();
    services.on_change(move |delta| {
        let meta = &delta.object().metadata;
        of_service(&(meta.namespace.clone().unwrap_or_default(), meta.name.clone().unwrap_or_default()));
    });
    let records = shared.clone();
    slices.on_change(move |delta| {
        let mut keys: Vec<Key> = [delta.old(), delta.current()].into_iter().flatten().filter_map(|slice| service_of(slice)).collect();
        keys.dedup();
        // Only headless services have names for their endpoints; all others would be work for nothing.
        let is_plain = |(namespace, name): &Key| matches!(records.records.get(namespace, name).as_deref(), Some(Entry::ClusterIp { .. }));
        keys.iter().filter(|key| !is_plain(key)).for_each(|key| update(key));
    });
    let shared = shared.clone();
    namespaces.on_change(move |delta| {
        shared.records.set_namespace(delta.object().metadata.name.as_deref().unwrap_or_default(), delta.current().is_some());
    });
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_NAME_LABEL)?;
    Some((slice.metadata.namespace.clone()?, name.clone()))
}

fn side_answer(shared: &Shared, registry: &Registry, what: &str, path: &str) -> http::Answer {
    match (what, path) {
        ("health", "/health") => http::text(200, PLAIN, "OK"),
        ("ready", "/ready") if *shared.ready.borrow() => http::text(200, PLAIN, "OK"),
        ("ready", "/ready") => http::text(503, PLAIN, "kubernetes"),
        ("metrics", "/metrics") => http::metrics(registry),
        _ => http::not_found(),
    }
}

async fn serve_udp(shared: Arc<Shared>, socket: Arc<UdpSocket>, tasks: Tasks) {
    let mut buffer = vec![0; 4096];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer's "port unreachable".
            Err(error) => {
                tracing::debug!(%error, "receiving a question failed");
                continue;
            }
        };
        match shared.local(&buffer[..length], "udp", None) {
            Local::Silence => {}
            Local::Answer(answer) => send(&socket, &answer, from).await,
            Local::Ask(pending) => {
                let (shared, socket) = (shared.clone(), socket.clone());
                tasks.spawn("dns question", async move {
                    let limit = pending.query.udp_limit();
                    send(&socket, &shared.remote(*pending, limit).await, from).await;
                });
            }
        }
    }
}

async fn send(socket: &UdpSocket, answer: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(answer, to).await {
        tracing::debug!(%error, %to, "sending an answer failed");
    }
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accepting a DNS connection failed");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let shared = shared.clone();
        tasks.spawn("dns connection", async move {
            if let Err(error) = converse(&shared, stream).await {
                tracing::debug!(%error, "a DNS connection ended");
            }
            drop(place);
        });
    }
}

async fn converse(shared: &Shared, mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let Ok(length) = tokio::time::timeout(TCP_IDLE, stream.read_u16()).await else { return Ok(()) };
        let mut message = vec![0; usize::from(length?)];
        let Ok(read) = tokio::time::timeout(TCP_IDLE, stream.read_exact(&mut message)).await else { return Ok(()) };
        read?;
        let limit = usize::from(u16::MAX);
        let answer = match shared.local(&message, "tcp", Some(limit)) {
            Local::Silence => return Ok(()),
            Local::Answer(answer) => answer,
            Local::Ask(pending) => shared.remote(*pending, limit).await,
        };
        let mut framed = (answer.len() as u16).to_be_bytes().to_vec();
        framed.extend(&answer);
        stream.write_all(&framed).await?;
    }
}

/// What can be said without waiting.
enum Local {
    Silence,
    Answer(Vec<u8>),
    Ask(Box<Pending>),
}

/// A question for other servers.
struct Pending {
    query: Query,
    /// The alias that led there.
    alias: Option<(Reply, String)>,
    started: tokio::time::Instant,
}

impl Shared {
    fn local(&self, message: &[u8], proto: &'static str, limit: Option<usize>) -> Local {
        let started = base::clock::monotonic();
        let query = match wire::parse(message) {
            Ok(query) => query,
            Err(Bad::Ignore) => return Local::Silence,
            Err(Bad::Reply(rcode, id, flags)) => {
                self.count(rcode.name(), "", started);
                return Local::Answer(wire::refuse(rcode, id, flags));
            }
        };
        self.metrics.requests.get_or_create(&Request { proto, r#type: kind::name(query.kind) }).inc();
        let limit = limit.unwrap_or_else(|| query.udp_limit());
        let alias = match answer(&self.zone, &self.records, &query, self.turn.fetch_add(1, Ordering::Relaxed)) {
            Outcome::Reply(reply) => {
                self.count(reply.rcode.name(), "kubernetes", started);
                return Local::Answer(reply.encode(&query, limit));
            }
            Outcome::Alias(reply, target) => Some((reply, target)),
            Outcome::Forward => None,
        };
        if alias.is_none()
            && let Some(answer) = self.cache.get(&query)
        {
            self.metrics.cache_hits.inc();
            self.count("NOERROR", "cache", started);
            return Local::Answer(query.adopt(answer, limit));
        }
        Local::Ask(Box::new(Pending { query, alias, started }))
    }

    async fn remote(&self, pending: Pending, limit: usize) -> Vec<u8> {
        let Pending { query, alias, started } = pending;
        let answer = match alias {
            None => self.ask(&query).await.map(|answer| query.adopt(answer, limit)),
            Some((reply, target)) => Ok(self.through_alias(&query, reply, &target).await.encode(&query, limit)),
        };
        match answer {
            Ok(answer) => {
                self.count(if wire::rcode(&answer) == 3 { "NXDOMAIN" } else { "NOERROR" }, "forward", started);
                answer
            }
            Err(error) => {
                tracing::debug!(%error, name = query.name, "a name outside the cluster cannot be resolved");
                self.count("SERVFAIL", "forward", started);
                Reply::new(Rcode::ServFail).encode(&query, limit)
            }
        }
    }

    /// The answer of other servers, with the ID 0.
    async fn ask(&self, query: &Query) -> Result<Vec<u8>, forward::Error> {
        self.metrics.cache_misses.inc();
        self.metrics.forwards.inc();
        let answer = self.forwarder.ask(query).await?;
        self.cache.put(query, &answer);
        Ok(answer)
    }

    /// Adds the addresses behind an alias that leads out of the cluster. If they cannot be had, the alias alone is the answer.
    async fn through_alias(&self, query: &Query, mut reply: Reply, target: &str) -> Reply {
        if !forward::follows_alias(query.kind) {
            return reply;
        }
        let Some(next) = Query::new(0, target, query.kind) else { return reply };
        let answer = match self.cache.get(&next) {
            Some(answer) => Ok(answer),
            None => self.ask(&next).await,
        };
        match answer {
            Ok(answer) => reply.answers.extend(wire::answers_of(&answer).unwrap_or_default()),
            Err(error) => tracing::debug!(%error, target, "an ExternalName cannot be resolved"),
        }
        reply
    }

    fn count(&self, rcode: &'static str, plugin: &'static str, started: tokio::time::Instant) {
        self.metrics.responses.get_or_create(&Response { rcode, plugin }).inc();
        self.metrics.seconds.observe(started.elapsed().as_secs_f64());
    }
}
