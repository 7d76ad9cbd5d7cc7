//! Verification of client certificates against a CA bundle.

use std::time::Duration;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use crate::{Certificate, Error, Result, certificate};

/// The CAs whose client certificates are believed.
#[derive(Debug)]
pub struct ClientRoots {
    anchors: Vec<TrustAnchor<'static>>,
}

impl ClientRoots {
    pub fn from_pem(bundle: &str) -> Result<Self> {
        let anchors = certificate::bundle_from_pem(bundle)?
            .iter()
            .map(|der| webpki::anchor_from_trusted_cert(der).map(|a| a.to_owned()))
            .collect::<Result<_, _>>()
            .map_err(|e| Error::Certificate(e.to_string()))?;
        Ok(Self { anchors })
    }

    /// Checks the chain (leaf first), its times and that it is for clients; returns the leaf.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: jiff::Timestamp) -> Result<Certificate> {
        let [leaf, intermediates @ ..] = chain else { return Err(Error::Certificate("no certificate".into())) };
        let facts = Certificate::from_der(leaf.clone().into_owned())?;
        facts.check_time(now)?;
        let end_entity = webpki::EndEntityCert::try_from(leaf).map_err(|e| Error::Certificate(e.to_string()))?;
        let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.as_second()).unwrap_or_default()));
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms.all;
        end_entity
            .verify_for_usage(algorithms, &self.anchors, intermediates, time, webpki::KeyUsage::client_auth(), None, None)
            .map_err(|e| Error::Certificate(format!("{:?}: {e}", facts.common_name)))?;
        Ok(facts)
    }
}

/// Whether `authority`'s key made the signature of `certificate`; says nothing of times or uses.
pub fn is_signed_by(certificate: &Certificate, authority: &Certificate) -> bool {
    use x509_parser::prelude::{FromDer, X509Certificate};
    let (Ok((_, leaf)), Ok((_, ca))) = (X509Certificate::from_der(&certificate.der), X509Certificate::from_der(&authority.der)) else {
        return false;
    };
    leaf.verify_signature(Some(ca.public_key())).is_ok()
}
