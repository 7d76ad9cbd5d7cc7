//! The listener: TLS with optional client certificates, HTTP/1.1 and HTTP/2, graceful end. Certificates are read again when their files change.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::RwLock;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
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
    #[error("{path}: {cause}")]
    File { path: String, cause: String },
    #[error("--tls-cert-file and --tls-private-key-file are both needed")]
    Missing,
    #[error("TLS: {0}")]
    Config(String),
}

/// The serving certificate, and the configuration around it.
#[derive(Clone)]
pub struct ServerTls {
    config: Arc<rustls::ServerConfig>,
    certificate: Arc<Certificate>,
}

#[derive(Debug)]
struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    loaded: RwLock<(Arc<CertifiedKey>, Option<SystemTime>)>,
}

impl ServerTls {
    pub fn load(options: &Options) -> Result<Self, TlsError> {
        let (Some(cert), Some(key)) = (options.tls_cert_file.clone(), options.tls_private_key_file.clone()) else {
            return Err(TlsError::Missing);
        };
        let loaded = RwLock::new((Arc::new(read_pair(&cert, &key)?), changed_at(&cert)));
        let certificate = Arc::new(Certificate { cert, key, loaded });
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| TlsError::Config(e.to_string()))?
            .with_client_cert_verifier(Arc::new(AskForCertificate { provider }))
            .with_cert_resolver(certificate.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { config: Arc::new(config), certificate })
    }
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|m| m.modified()).ok()
}

fn read_pair(cert: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let failed = |path: &Path, cause: &dyn std::fmt::Display| TlsError::File { path: path.display().to_string(), cause: cause.to_string() };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| failed(cert, &e))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|e| failed(key, &e))?;
    CertifiedKey::from_der(chain, private, &rustls::crypto::ring::default_provider()).map_err(|e| failed(cert, &e))
}

impl Certificate {
    fn reload(&self) {
        let changed = changed_at(&self.cert);
        if self.loaded.read().1 == changed {
            return;
        }
        match read_pair(&self.cert, &self.key) {
            Ok(pair) => {
                tracing::info!(file = %self.cert.display(), "the serving certificate has changed");
                *self.loaded.write() = (Arc::new(pair), changed);
            }
            Err(error) => tracing::warn!(%error, "the changed serving certificate cannot be used, the old one stays"),
        }
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.loaded.read().0.clone())
    }
}

/// Asks every client for a certificate and takes any whose key the client holds: who signed it is the authenticator's question, since there may be
/// several authorities (clients, front proxies).
#[derive(Debug)]
struct AskForCertificate {
    provider: Arc<rustls::crypto::CryptoProvider>,
}

impl rustls::server::danger::ClientCertVerifier for AskForCertificate {
    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: rustls_pki_types::UnixTime,
    ) -> Result<rustls::server::danger::ClientCertVerified, rustls::Error> {
        Ok(rustls::server::danger::ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Takes connections until the tasks stop.
pub async fn accept(listener: TcpListener, tls: ServerTls, core: Arc<Core>, tasks: base::Tasks) {
    let acceptor = TlsAcceptor::from(tls.config.clone());
    let mut reload = tokio::time::interval(RELOAD_EVERY);
    loop {
        tokio::select! {
            () = tasks.stopping() => return,
            _ = reload.tick() => tls.certificate.reload(),
            taken = listener.accept() => match taken {
                Ok((stream, peer)) => {
                    let (acceptor, core) = (acceptor.clone(), core.clone());
                    tasks.spawn("apiserver-connection", async move {
                        if let Err(error) = connection(stream, peer, acceptor, core).await {
                            tracing::debug!(%peer, error, "a connection ended");
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors and the like: give others time to end.
                    tracing::warn!(%error, "a connection cannot be taken");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, acceptor: TlsAcceptor, core: Arc<Core>) -> Result<(), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await;
    let stream = handshake.map_err(|_| "TLS handshake timed out".to_owned())?.map_err(|e| format!("TLS handshake: {e}"))?;
    let session = stream.get_ref().1;
    let certificates: Option<PeerCertificates> =
        session.peer_certificates().map(|chain| PeerCertificates(chain.iter().map(|c| c.clone().into_owned()).collect()));
    let is_h2 = session.alpn_protocol() == Some(b"h2");
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        if let Some(certificates) = &certificates {
            request.extensions_mut().insert(certificates.clone());
        }
        request.extensions_mut().insert(PeerAddress(peer));
        let core = core.clone();
        async move { Ok::<_, Infallible>(pipeline::handle(core, request.map(request_body)).await) }
    });
    let io = TokioIo::new(stream);
    if is_h2 {
        let mut http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .max_concurrent_streams(250)
            .initial_stream_window_size(256 * 1024)
            .initial_connection_window_size(1024 * 1024)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        http2.serve_connection(io, service).await.map_err(|e| e.to_string())
    } else {
        let mut http1 = hyper::server::conn::http1::Builder::new();
        http1.timer(TokioTimer::new()).pipeline_flush(true);
        http1.serve_connection(io, service).with_upgrades().await.map_err(|e| e.to_string())
    }
}
