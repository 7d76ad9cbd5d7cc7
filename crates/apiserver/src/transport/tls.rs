//! The listener: TLS with optional client certificates, HTTP/1.1 and HTTP/2, graceful end. Certificates are read again when their files change.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use pki::tls::{ClientAuth, ServingCertificate};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::body::request_body;
use crate::auth::{PeerAddress, PeerCertificates};
use crate::options::Options;
use crate::pipeline::{self, Core};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const RELOAD_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("--tls-cert-file and --tls-private-key-file are both needed")]
    Missing,
    #[error("the serving certificate: {0}")]
    Certificate(#[from] pki::Error),
}

/// The serving certificate, and the configuration around it.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<rustls::ServerConfig>,
    certificate: Arc<ServingCertificate>,
}

impl ServerTls {
    pub fn load(options: &Options) -> Result<Self, TlsError> {
        let (Some(cert), Some(key)) = (&options.tls_cert_file, &options.tls_private_key_file) else { return Err(TlsError::Missing) };
        let certificate = ServingCertificate::load(cert, key)?;
        // Who signed a client's certificate is the authenticator's question: there may be several authorities (clients, front proxies).
        let config = pki::tls::server_config(certificate.clone(), ClientAuth::Request)?;
        Ok(Self { config: Arc::new(config), certificate })
    }

    fn reload(&self) {
        if let Err(error) = self.certificate.reload() {
            tracing::warn!(%error, "the serving certificate cannot be read again, the old one stays");
        }
    }
}

/// Takes connections until the tasks stop.
pub async fn accept(listener: TcpListener, tls: ServerTls, core: Arc<Core>, tasks: base::Tasks) {
    let acceptor = TlsAcceptor::from(tls.config.clone());
    let mut reload = tokio::time::interval(RELOAD_EVERY);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            () = core.stop.cancelled() => break,
            _ = reload.tick() => tls.reload(),
            taken = listener.accept() => match taken {
                Ok((stream, peer)) => {
                    let (acceptor, core) = (acceptor.clone(), core.clone());
                    let tracker = core.connections.clone();
                    tasks.spawn("apiserver-connection", tracker.track_future(async move {
                        if let Err(error) = connection(stream, peer, acceptor, core).await {
                            tracing::debug!(%peer, error, "a connection ended");
                        }
                    }));
                }
                Err(error) => {
                    // Out of file descriptors and the like: give others time to end.
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
    drop(listener);
    // Draining: the task is ended with the others.
    std::future::pending::<()>().await;
}

async fn connection(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, core: Arc<Core>) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = handshake.map_err(|_| "TLS handshake timed out".to_owned())?.map_err(|e| format!("TLS handshake: {e}"))?;
    let session = stream.get_ref().1;
    let certificates: Option<PeerCertificates> =
        session.peer_certificates().map(|chain| PeerCertificates(chain.iter().map(|c| c.clone().into_owned()).collect()));
    let is_h2 = session.alpn_protocol() == Some(b"h2");
    let served = core.clone();
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(certificates) = &certificates {
            request.extensions_mut().insert(certificates.clone());
        }
        request.extensions_mut().insert(PeerAddress(peer));
        let core = served.clone();
        async move { Ok::<_, Infallible>(pipeline::handle(core, request.map(request_body)).await) }
    });
    let (io, stop) = (TokioIo::new(stream), core.stop.clone());
    if is_h2 {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(250)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let mut connection = pin!(http2.serve_connection(io, service));
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(|e| e.to_string()),
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.map_err(|e| e.to_string())
    } else {
        let mut http1 = hyper::server::conn::http1::Builder::new();
        http1.timer(TokioTimer::new()).pipeline_flush(true);
        let mut connection = pin!(http1.serve_connection(io, service).with_upgrades());
        tokio::select! {
            ended = connection.as_mut() => return ended.map_err(|e| e.to_string()),
            () = stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await.map_err(|e| e.to_string())
    }
}
