//! TLS configurations of servers and clients (rustls over ring).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WantsClientCert};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ConfigBuilder, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{Error, PrivateKey, Result, certificate, files};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A certificate chain with its key, checked to belong together.
pub fn certified_key(certificate_pem: &str, key_pem: &str) -> Result<CertifiedKey> {
    let chain = certificate::bundle_from_pem(certificate_pem)?;
    let key = PrivateKey::from_pem(key_pem)?;
    let signing = rustls::crypto::ring::sign::any_supported_type(&key.to_der())?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(|_| Error::Mismatch)?;
    Ok(certified)
}

/// The certificate of a server, or of one that is also a client of its like, from two files that may be renewed while it runs.
#[derive(Debug)]
pub struct ServingCertificate {
    certificate: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

impl ServingCertificate {
    pub fn load(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Arc<Self>> {
        let (certificate, key) = (certificate.into(), key.into());
        let current = RwLock::new(Arc::new(Self::read(&certificate, &key)?));
        Ok(Arc::new(Self { certificate, key, current }))
    }

    fn read(certificate: &Path, key: &Path) -> Result<CertifiedKey> {
        certified_key(&files::read_required(certificate)?, &files::read_required(key)?).map_err(|e| e.in_file(certificate))
    }

    /// Reads the files again; new connections get what they now hold. On an error the old certificate stays.
    pub fn reload(&self) -> Result<()> {
        let fresh = Self::read(&self.certificate, &self.key)?;
        *self.current.write() = Arc::new(fresh);
        Ok(())
    }
}

impl ResolvesServerCert for ServingCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }
}

impl ResolvesClientCert for ServingCertificate {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.current.read().clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Which client certificates the handshake lets through.
#[derive(Clone, Copy, Debug)]
pub enum ClientAuth<'a> {
    None,
    /// Asks for a certificate and checks only that the client holds its key. Whether its issuer is believed is decided by
    /// authentication, which then answers 401 instead of failing the handshake (upstream: `tls.RequestClientCert`).
    Request,
    /// A certificate is demanded, and must come from this PEM bundle.
    Require(&'a str),
}

/// HTTP/2 and HTTP/1.1 by ALPN.
pub fn server_config(certificate: Arc<dyn ResolvesServerCert>, clients: ClientAuth<'_>) -> Result<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let builder = match clients {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Request => builder.with_client_cert_verifier(Arc::new(RequestOnly { provider: provider() })),
        ClientAuth::Require(bundle) => {
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots(bundle)?), provider())
                .build()
                .map_err(|e| Error::Certificate(e.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// A client that believes `ca_pem` and shows `identity` (certificate PEM, key PEM) when it has one. ALPN is the caller's.
pub fn client_config(ca_pem: &str, identity: Option<(&str, &str)>) -> Result<ClientConfig> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?.with_root_certificates(roots(ca_pem)?);
    identified(builder, identity)
}

/// A client that believes every server: only for a person who asked for that. ALPN is the caller's.
pub fn unverified_client_config(identity: Option<(&str, &str)>) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let verifier = Arc::new(AnyServer { provider: provider() });
    identified(builder.dangerous().with_custom_certificate_verifier(verifier), identity)
}

fn identified(builder: ConfigBuilder<ClientConfig, WantsClientCert>, identity: Option<(&str, &str)>) -> Result<ClientConfig> {
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            builder.with_client_auth_cert(certificate::bundle_from_pem(certificate)?, PrivateKey::from_pem(key)?.to_der())?
        }
    })
}

/// A client that believes `ca_pem` and shows what `certificate` holds at the time. ALPN is the caller's.
pub fn renewed_client_config(ca_pem: &str, certificate: Arc<dyn ResolvesClientCert>) -> Result<ClientConfig> {
    let builder =
        ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?.with_root_certificates(roots(ca_pem)?);
    Ok(builder.with_client_cert_resolver(certificate))
}

fn roots(bundle: &str) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    for certificate in certificate::bundle_from_pem(bundle)? {
        store.add(certificate)?;
    }
    Ok(store)
}

#[derive(Debug)]
struct RequestOnly {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for RequestOnly {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[derive(Debug)]
struct AnyServer {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
