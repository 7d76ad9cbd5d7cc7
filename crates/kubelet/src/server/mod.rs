//! The kubelet's HTTPS server on 10250 and its health endpoint on 10248 (pkg/kubelet/server/server.go). Owns connections; what is answered is in `routes`.

pub mod answers;
pub mod auth;
pub mod logs;
pub mod metrics;
pub mod routes;
pub mod stats;
pub mod streaming;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use pki::tls::{ClientAuth, ServingCertificate};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::context::Context;
use crate::options::Settings;
use crate::pods::Workers;
use auth::{Gate, Refusal};
use routes::Routes;

/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The listening sockets, bound before anything starts so that a taken port is found at once.
pub struct Listeners {
    pub main: TcpListener,
    pub healthz: Option<TcpListener>,
}

impl Listeners {
    pub async fn bind(settings: &Settings) -> std::io::Result<Self> {
        let bind = |address: SocketAddr| async move {
            TcpListener::bind(address).await.map_err(|error| {
                let text = format!("failed to listen on {address}: {error}; is another kubelet running, or is the port to be changed?");
                std::io::Error::new(error.kind(), text)
            })
        };
        let main = bind(SocketAddr::new(settings.address, settings.port)).await?;
        let healthz = match settings.healthz_port {
            0 => None,
            port => Some(bind(SocketAddr::new(settings.healthz_address, port)).await?),
        };
        Ok(Self { main, healthz })
    }
}

/// The given certificate, or one that signs itself and is kept in the certificate folder.
pub fn certificate(settings: &Settings, addresses: &[String]) -> Result<Arc<ServingCertificate>, String> {
    if let (Some(certificate), Some(key)) = (&settings.tls_cert_file, &settings.tls_key_file) {
        return ServingCertificate::load(certificate, key).map_err(|error| error.to_string());
    }
    let (certificate, key) = (settings.cert_dir.join("kubelet.crt"), settings.cert_dir.join("kubelet.key"));
    let now = base::clock::now();
    let valid = pki::files::read(&certificate)
        .ok()
        .flatten()
        .and_then(|pem| pki::Certificate::from_pem(&pem).ok())
        .is_some_and(|found| !found.expires_within(30, now) && found.check_time(now).is_ok());
    if !valid {
        let make = || -> pki::Result<()> {
            let authority = pki::Authority::create(&format!("{}-ca@{}", settings.node_name, now.as_second()), now)?;
            let ips = addresses.iter().filter_map(|ip| ip.parse().ok()).collect();
            let leaf = pki::Leaf::server(format!("{}@{}", settings.node_name, now.as_second()), vec![settings.node_name.clone()], ips);
            let (pem, private) = authority.issue(&leaf, now)?;
            std::fs::create_dir_all(&settings.cert_dir).map_err(|error| pki::Error::Certificate(error.to_string()))?;
            pki::files::write(&key, private.to_pem().as_bytes(), 0o600)?;
            pki::files::write(&certificate, format!("{pem}{}", authority.certificate_pem).as_bytes(), 0o644)
        };
        make().map_err(|error| format!("a serving certificate cannot be made in {}: {error}", settings.cert_dir.display()))?;
    }
    ServingCertificate::load(certificate, key).map_err(|error| error.to_string())
}

pub struct Server {
    context: Arc<Context>,
    routes: Arc<Routes>,
    gate: Arc<Gate>,
    acceptor: TlsAcceptor,
}

impl Server {
    pub fn new(context: Arc<Context>, workers: Workers) -> Result<Self, String> {
        let gate = Arc::new(Gate::new(context.client.clone(), &context.settings)?);
        let addresses = context.machine.read().addresses.clone();
        let certificate = certificate(&context.settings, &addresses)?;
        let config = pki::tls::server_config(certificate, ClientAuth::Request).map_err(|error| error.to_string())?;
        let routes = Arc::new(Routes::new(context.clone(), workers));
        Ok(Self { context, routes, gate, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Serves until the tasks are stopped.
    pub fn start(self, listeners: Listeners) {
        let tasks = self.context.tasks.clone();
        if let Some(listener) = listeners.healthz {
            let routes = self.routes.clone();
            tasks.spawn_critical("healthz", serve_health(listener, routes));
        }
        tasks.spawn_critical("server", self.accept(listeners.main));
    }

    async fn accept(self, listener: TcpListener) {
        let this = Arc::new(self);
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let server = this.clone();
                    this.context.tasks.spawn("connection", async move { server.serve(stream).await });
                }
                Err(error) => {
                    // Out of file descriptors, for example: waiting is all that helps.
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY cannot be set");
        }
        let tls = match tokio::time::timeout(HANDSHAKE, self.acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        };
        let chain: Arc<Vec<CertificateDer<'static>>> = Arc::new(
            tls.get_ref().1.peer_certificates().map(|chain| chain.iter().map(|der| der.clone().into_owned()).collect()).unwrap_or_default(),
        );
        let service = service_fn(move |request: Request<Incoming>| {
            let (this, chain) = (self.clone(), chain.clone());
            async move { Ok::<_, std::convert::Infallible>(this.answer(&chain, request).await) }
        });
        if let Err(error) = Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(tls), service).await {
            tracing::debug!(%error, "a connection ended");
        }
    }

    async fn answer(&self, chain: &[CertificateDer<'static>], request: Request<Incoming>) -> http::Response<answers::Body> {
        let path = request.uri().path().to_owned();
        match self.gate.check(chain, request.headers(), request.method(), &path).await {
            Ok(()) => self.routes.answer(request).await,
            Err(Refusal::Unauthorized) => answers::text(StatusCode::UNAUTHORIZED, "Unauthorized"),
            Err(Refusal::Forbidden(cause)) => answers::text(StatusCode::FORBIDDEN, &cause),
            Err(Refusal::Failed(cause)) => answers::text(StatusCode::INTERNAL_SERVER_ERROR, &cause),
        }
    }
}

async fn serve_health(listener: TcpListener, routes: Arc<Routes>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let routes_of_connection = routes.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            let routes = routes_of_connection.clone();
            async move {
                let answer = match request.uri().path().starts_with("/healthz") {
                    true => routes.healthz(),
                    false => answers::text(StatusCode::NOT_FOUND, "404 page not found\n"),
                };
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        routes.spawn(async move {
            if let Err(error) = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await {
                tracing::debug!(%error, "a health connection ended");
            }
        });
    }
}
