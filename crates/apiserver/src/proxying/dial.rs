//! Connections to kubelets, pods and services.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::StatusError;
use api::core::v1::Node;
use rustls::ClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::options::Options;

const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const KUBELET_PORT: u16 = 10250;

pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where a request goes on to.
#[derive(Clone)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub tls: Option<Arc<ClientConfig>>,
}

impl Target {
    /// `host:port`, for the Host header and messages.
    pub fn authority(&self) -> String {
        if self.host.contains(':') { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    pub async fn dial(&self) -> Result<Box<dyn Io>, StatusError> {
        let failed =
            |cause: &dyn std::fmt::Display| StatusError::internal(format!("error dialing backend: dial tcp {}: {cause}", self.authority()));
        let connect = TcpStream::connect((self.host.as_str(), self.port));
        let stream = tokio::time::timeout(DIAL_TIMEOUT, connect).await.map_err(|_| failed(&"i/o timeout"))?.map_err(|e| failed(&e))?;
        stream.set_nodelay(true).map_err(|e| failed(&e))?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from(self.host.clone()).map_err(|e| failed(&e))?;
        let handshake = tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream);
        let stream =
            tokio::time::timeout(DIAL_TIMEOUT, handshake).await.map_err(|_| failed(&"TLS handshake timeout"))?.map_err(|e| failed(&e))?;
        Ok(Box::new(stream))
    }
}

/// How kubelets are reached.
pub struct Kubelets {
    tls: Arc<ClientConfig>,
    /// For proxies to `https:` ports of pods and services: nothing is verified, as upstream.
    pub unverified: Arc<ClientConfig>,
    address_types: Vec<String>,
}

impl Kubelets {
    pub fn new(options: &Options) -> Result<Self, String> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|cause| format!("{}: {cause}", path.display()));
        let identity = match (&options.kubelet_client_certificate, &options.kubelet_client_key) {
            (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
            (None, None) => None,
            _ => return Err("--kubelet-client-certificate and --kubelet-client-key go together".into()),
        };
        let identity = identity.as_ref().map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        let tls = match &options.kubelet_certificate_authority {
            Some(ca) => pki::tls::client_config(&read(ca)?, identity).map_err(|e| format!("--kubelet-certificate-authority: {e}"))?,
            None => unverified(identity).map_err(|e| format!("--kubelet-client-certificate: {e}"))?,
        };
        let unverified = unverified(None).map_err(|e| e.to_string())?;
        Ok(Self { tls: Arc::new(tls), unverified: Arc::new(unverified), address_types: options.kubelet_preferred_address_types.clone() })
    }

    /// The kubelet of a node.
    pub fn target(&self, node: &Node) -> Result<Target, StatusError> {
        let status = node.status.as_ref();
        let port = status
            .and_then(|s| s.daemon_endpoints.as_ref())
            .and_then(|d| d.kubelet_endpoint.as_ref())
            .and_then(|e| u16::try_from(e.port).ok())
            .filter(|port| *port > 0);
        Ok(Target { host: self.address(node)?, port: port.unwrap_or(KUBELET_PORT), tls: Some(self.tls.clone()) })
    }

    /// The node's address of the first preferred type that it has.
    pub fn address(&self, node: &Node) -> Result<String, StatusError> {
        let addresses = node.status.as_ref().and_then(|s| s.addresses.as_deref()).unwrap_or_default();
        let found = self.address_types.iter().find_map(|wanted| addresses.iter().find(|a| a.type_ == *wanted));
        found.map(|a| a.address.clone()).ok_or_else(|| {
            let name = node.metadata.name.as_deref().unwrap_or_default();
            StatusError::internal(format!("no preferred addresses found for node {name}; known addresses: {}", addresses.len()))
        })
    }
}

fn unverified(identity: Option<(&str, &str)>) -> Result<ClientConfig, pki::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(NoVerification(provider.clone()));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let key = pki::PrivateKey::from_pem(key)?.to_der();
            builder.with_client_auth_cert(pki::certificate::bundle_from_pem(certificate)?, key)?
        }
    })
}

/// Upstream's default without --kubelet-certificate-authority: kubelets serve with certificates that they signed themselves.
#[derive(Debug)]
struct NoVerification(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for NoVerification {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
