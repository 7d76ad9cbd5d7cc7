//! Connections: TCP and Unix sockets, TLS, HTTP/2 and HTTP/1.1, and which service a path belongs to.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use http::{Request, Response, header};
use http_body_util::Either;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pki::tls::{ClientAuth, ServingCertificate};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use tonic::body::Body;
use tower::Service;

use super::auth::PeerName;
use super::authority::Lenient;
use super::core::Core;
use super::gateway::{self, Access};
use super::in_task::InTask;
use super::metrics::{Counted, End};
use super::{Error, auth, cluster, election, http as plain, kv, leader, lease, lock, maintenance, watch};
use crate::errors::TONIC_TOO_LARGE;
use crate::options::{TlsFiles, Web};
use crate::pb;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const RELOAD_EVERY: Duration = Duration::from_secs(60);
/// etcd's defaults for quiet connections (--grpc-keepalive-interval, --grpc-keepalive-timeout).
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(7200);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// What a message may be larger than a request (grpcOverheadBytes).
const OVERHEAD_BYTES: usize = 512 << 10;
/// What a client says that will not be served without a leader (rpctypes.MetadataRequireLeaderKey).
const REQUIRE_LEADER: &str = "hasleader";
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A bound socket.
pub struct Socket {
    pub url: String,
    kind: Kind,
    tls: Option<Arc<Tls>>,
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// The serving certificate, and the configuration around it.
pub struct Tls {
    acceptor: TlsAcceptor,
    certificate: Arc<ServingCertificate>,
}

impl Tls {
    /// `None` where no certificate is configured.
    pub fn load(files: &TlsFiles) -> Result<Option<Arc<Self>>, Error> {
        let wrong = |text: &str| Err(Error::Tls(text.replace("--", files.flags)));
        let (cert, key) = match (&files.cert, &files.key) {
            (None, None) if files.client_cert_auth || files.trusted_ca.is_some() => {
                return wrong("--client-cert-auth and --trusted-ca-file need --cert-file and --key-file");
            }
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert, key),
            _ => return wrong("--cert-file and --key-file must both be present or both absent"),
        };
        let certificate = ServingCertificate::load(cert, key)?;
        // etcd demands a certificate as soon as it knows whom to believe.
        let authorities = files.trusted_ca.as_ref().map(|path| pki::files::read_required(path)).transpose()?;
        let clients = match &authorities {
            Some(bundle) => ClientAuth::Require(bundle),
            None if files.client_cert_auth => return wrong("--client-cert-auth needs --trusted-ca-file"),
            None => ClientAuth::None,
        };
        let config = pki::tls::server_config(certificate.clone(), clients)?;
        Ok(Some(Arc::new(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })))
    }

    /// The certificate, which is renewed with the files.
    pub fn certificate(&self) -> Arc<ServingCertificate> {
        self.certificate.clone()
    }
}

/// What answers the requests of a socket.
pub trait Handler: Clone + Send + Sync + 'static {
    fn handle(self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;
    fn max_concurrent_streams(&self) -> u32;
    /// Where connections run.
    fn tasks(&self) -> &base::Tasks;
}

impl Socket {
    /// Binds a URL; port 0 takes a free one, which `url` then names.
    pub async fn bind(url: &str, tls: Option<&Arc<Tls>>) -> Result<Self, Error> {
        let failed = |source| Error::Bind { url: url.to_owned(), source };
        let (scheme, address) = url.split_once("://").unwrap_or(("http", url));
        let secure = matches!(scheme, "https" | "unixs");
        let tls = match (secure, tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls.clone()),
            (true, None) => {
                return Err(Error::Tls(format!(
                    "{url} needs a certificate: --cert-file and --key-file for clients, --peer-cert-file and --peer-key-file for members"
                )));
            }
        };
        if scheme.starts_with("unix") {
            match std::fs::remove_file(address) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            let listener = UnixListener::bind(address).map_err(failed)?;
            return Ok(Self { url: url.to_owned(), kind: Kind::Unix(listener), tls });
        }
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        Ok(Self { url: format!("{scheme}://{host}:{port}"), kind: Kind::Tcp(listener), tls })
    }

    /// Takes connections until the tasks stop.
    pub async fn serve(self, handler: impl Handler) {
        let mut reload = tokio::time::interval(RELOAD_EVERY);
        let tasks = handler.tasks().clone();
        loop {
            let taken = tokio::select! {
                _ = reload.tick() => {
                    if let Some(tls) = &self.tls
                        && let Err(error) = tls.certificate.reload()
                    {
                        tracing::warn!(%error, "the serving certificate cannot be read again, the old one stays");
                    }
                    continue;
                }
                taken = self.kind.accept() => taken,
            };
            match taken {
                Ok(stream) => {
                    let (tls, handler) = (self.tls.clone(), handler.clone());
                    tasks.spawn("etcd connection", async move {
                        if let Err(error) = connection(stream, tls, handler).await {
                            tracing::debug!(error, "a connection ended");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors and the like: give others time to end.
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Kind {
    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

async fn connection(stream: Box<dyn Stream>, tls: Option<Arc<Tls>>, handler: impl Handler) -> Result<(), String> {
    match tls {
        None => http(TokioIo::new(Lenient::new(stream)), None, handler).await,
        Some(tls) => {
            let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.acceptor.accept(stream)).await;
            let stream = handshake.map_err(|_| "TLS handshake timed out".to_owned())?.map_err(|error| format!("TLS handshake: {error}"));
            if let Err(error) = &stream {
                tracing::warn!(error, "a client was rejected");
            }
            let stream = stream?;
            let peer = peer_name(stream.get_ref().1.peer_certificates());
            http(TokioIo::new(Lenient::new(stream)), peer, handler).await
        }
    }
}

/// What the client's certificate, which the handshake has verified, calls him.
fn peer_name(certificates: Option<&[CertificateDer<'static>]>) -> Option<PeerName> {
    let certificate = pki::Certificate::from_der(certificates?.first()?.clone());
    certificate
        .map_err(|error| tracing::warn!(%error, "a client's certificate cannot be read"))
        .ok()
        .map(|found| PeerName(found.common_name.into()))
}

async fn http<I, H: Handler>(io: I, peer: Option<PeerName>, handler: H) -> Result<(), String>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let streams = handler.max_concurrent_streams();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        let answer = handler.clone().handle(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let streams_in_task = InTask::default();
    let mut builder = auto::Builder::new(streams_in_task.clone());
    builder.http1().timer(TokioTimer::new());
    builder
        .http2()
        .auto_date_header(false)
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    streams_in_task.drive(builder.serve_connection(io, service)).await.map_err(|error| error.to_string())
}

/// The body of a gRPC request: a client's, or what the JSON gateway makes of a client's.
pub type GrpcBody = Either<Incoming, Body>;

/// All services, by path.
#[derive(Clone)]
pub struct Router {
    core: Arc<Core>,
    /// Whether this socket serves keys, or only health and metrics.
    whole: bool,
    /// Whether this socket speaks TLS.
    secure: bool,
    has_gateway: bool,
    access: Arc<Access>,
    max_concurrent_streams: u32,
    kv: pb::kv_server::KvServer<kv::KvService>,
    fast: kv::KvService,
    watch: watch::WatchService,
    lease: pb::lease_server::LeaseServer<lease::LeaseService>,
    cluster: pb::cluster_server::ClusterServer<cluster::ClusterService>,
    maintenance: pb::maintenance_server::MaintenanceServer<maintenance::MaintenanceService>,
    auth: pb::auth_server::AuthServer<auth::AuthService>,
    lock: pb::v3lockpb::lock_server::LockServer<lock::LockService>,
    election: pb::v3electionpb::election_server::ElectionServer<election::ElectionService>,
}

type Answer<'a> = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send + 'a>>;

impl Router {
    pub fn new(core: Arc<Core>, max_concurrent_streams: u32, web: &Web) -> Self {
        let limit = core.max_request_bytes + OVERHEAD_BYTES;
        Self {
            whole: true,
            secure: false,
            has_gateway: web.enable_grpc_gateway,
            access: Arc::new(Access::new(&web.cors, &web.host_whitelist)),
            max_concurrent_streams,
            fast: kv::KvService(core.clone()),
            kv: pb::kv_server::KvServer::new(kv::KvService(core.clone())).max_decoding_message_size(limit),
            watch: watch::WatchService { core: core.clone(), limit },
            lease: pb::lease_server::LeaseServer::new(lease::LeaseService(core.clone())),
            cluster: pb::cluster_server::ClusterServer::new(cluster::ClusterService(core.clone())),
            maintenance: pb::maintenance_server::MaintenanceServer::new(maintenance::MaintenanceService(core.clone())),
            auth: pb::auth_server::AuthServer::new(auth::AuthService(core.clone())),
            lock: pb::v3lockpb::lock_server::LockServer::new(lock::LockService(core.clone())),
            election: pb::v3electionpb::election_server::ElectionServer::new(election::ElectionService(core.clone())),
            core,
        }
    }

    /// For `--listen-metrics-urls`.
    pub fn metrics_only(&self) -> Self {
        Self { whole: false, ..self.clone() }
    }

    /// For a socket of `--listen-client-urls`.
    pub fn behind(&self, socket: &Socket) -> Self {
        Self { secure: socket.tls.is_some(), ..self.clone() }
    }

    /// The largest message of a request.
    pub fn message_limit(&self) -> usize {
        self.core.max_request_bytes + OVERHEAD_BYTES
    }

    /// Answers a gRPC request.
    pub async fn grpc(&self, request: Request<GrpcBody>) -> Response<Body> {
        match self.dispatch(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    async fn dispatch(&self, mut request: Request<GrpcBody>) -> Result<Response<Body>, Infallible> {
        let path = request.uri().path().to_owned();
        let unknown = || Ok(tonic::Status::unimplemented(format!("unknown service or method {path}")).into_http());
        let hears_leader = request.headers().get(REQUIRE_LEADER).is_some_and(|value| value == "true");
        let Some((service, method)) = path.trim_start_matches('/').split_once('/').filter(|_| self.whole) else { return unknown() };
        let needs_leader = leader::is_required(request.headers());
        if needs_leader && leader::is_lost(&self.core.engine) {
            return Ok(leader::lost().into_http());
        }
        let refused = self.core.gate.admit(&self.core.engine, service, method, &mut request).await.err();
        let answer: Answer<'_> = match (service, refused) {
            (_, Some(status)) => Box::pin(async move { Ok(status.into_http()) }),
            ("etcdserverpb.KV", None) => Box::pin(self.call_kv(method, request)),
            ("etcdserverpb.Watch", None) => Box::pin(self.watch.clone().call(request).map(Ok)),
            ("etcdserverpb.Lease", None) => self.lease.clone().call(request),
            ("etcdserverpb.Cluster", None) => self.cluster.clone().call(request),
            ("etcdserverpb.Maintenance", None) => self.maintenance.clone().call(request),
            ("etcdserverpb.Auth", None) => self.auth.clone().call(request),
            ("v3lockpb.Lock", None) => self.lock.clone().call(request),
            ("v3electionpb.Election", None) => self.election.clone().call(request),
            _ => return unknown(),
        };
        if let Err(status) = self.core.admit(service, method, hears_leader) {
            return Ok(status.into_http());
        }
        let Some((call, kind)) = self.core.metrics.calls.of(service, method) else { return answer.await };
        let call = call.clone();
        call.started.inc();
        let mut response = answer.await?;
        let status = tonic::Status::from_header_map(response.headers());
        let code = status.as_ref().map_or(tonic::Code::Ok, tonic::Status::code);
        if kind.gives_stream && status.is_none() {
            if !kind.takes_stream {
                call.received.inc();
            }
            let end = needs_leader.then(|| {
                let lost = leader::wait_lost(self.core.engine.clone());
                Box::pin(lost.map(|()| leader::lost())) as End
            });
            return Ok(response.map(|body| Body::new(Counted::new(body, call, end))));
        }
        call.received.inc();
        call.handled(code);
        if code == tonic::Code::Ok {
            call.sent.inc();
        }
        if status.is_some_and(|status| status.message().contains(TONIC_TOO_LARGE)) {
            // gRPC in Go has other words and another code for it.
            let limit = self.message_limit();
            response = tonic::Status::resource_exhausted(format!("grpc: received message larger than max ({limit})")).into_http();
        }
        Ok(response)
    }

    async fn call_kv(&self, method: &str, request: Request<GrpcBody>) -> Result<Response<Body>, Infallible> {
        match self.fast.fast(method, self.message_limit(), request).await {
            Ok(response) => Ok(response),
            Err(request) => self.kv.clone().call(request).await,
        }
    }

    /// Answers what is not gRPC.
    async fn plain(self, request: Request<Incoming>) -> Response<Body> {
        if !self.whole {
            return plain::serve(&self.core, &request).await;
        }
        let (access, origin) = (self.access.clone(), request.headers().get(header::ORIGIN).cloned());
        let mut response = match access.answer(&request, self.secure) {
            Some(response) => response,
            None if self.has_gateway && gateway::is_mine(request.uri().path()) => gateway::serve(self, request).await,
            None => plain::serve(&self.core, &request).await,
        };
        access.mark(origin.as_ref(), response.headers_mut());
        response
    }
}

/// Shared, since each request has a handle of its own.
impl Handler for Arc<Router> {
    async fn handle(self, request: Request<Incoming>) -> Response<Body> {
        let is_grpc = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if is_grpc { self.grpc(request.map(Either::Left)).await } else { Router::clone(&self).plain(request).await }
    }

    fn max_concurrent_streams(&self) -> u32 {
        self.max_concurrent_streams
    }

    fn tasks(&self) -> &base::Tasks {
        &self.core.tasks
    }
}
