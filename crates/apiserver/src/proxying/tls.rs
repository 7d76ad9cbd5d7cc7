//! TLS towards kubelets (our certificate, their authority) and towards pods and services (nothing verified: a proxy cannot know their authorities).

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::ProxyingError;
use super::options::KubeletClientOptions;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn fault(what: &str, path: &Path, error: impl std::fmt::Display) -> ProxyingError {
    ProxyingError(format!("{what} {}: {error}", path.display()))
}

fn certificates(what: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, ProxyingError> {
    CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| fault(what, path, error))
}

/// The configuration for kubelets.
pub fn kubelet(options: &KubeletClientOptions) -> Result<ClientConfig, ProxyingError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| ProxyingError(format!("TLS versions: {error}")))?;
    let builder = match &options.kubelet_certificate_authority {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates("--kubelet-certificate-authority", path)? {
                roots.add(certificate).map_err(|error| fault("--kubelet-certificate-authority", path, error))?;
            }
            builder.with_root_certificates(roots)
        }
        None => builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider()))),
    };
    match (&options.kubelet_client_certificate, &options.kubelet_client_key) {
        (Some(certificate), Some(key)) => {
            let chain = certificates("--kubelet-client-certificate", certificate)?;
            let key_der = PrivateKeyDer::from_pem_file(key).map_err(|error| fault("--kubelet-client-key", key, error))?;
            builder.with_client_auth_cert(chain, key_der).map_err(|error| fault("--kubelet-client-certificate", certificate, error))
        }
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(ProxyingError("--kubelet-client-certificate and --kubelet-client-key go together".into())),
    }
}

/// The configuration for pods and services.
pub fn unverified() -> Result<ClientConfig, ProxyingError> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| ProxyingError(format!("TLS versions: {error}")))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider()))).with_no_client_auth())
}

/// Takes any certificate, but checks that the peer has its key.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
