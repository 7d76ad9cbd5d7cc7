//! What a certificate says, and whether it holds now.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::net::IpAddr;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate, X509Name};

use crate::{Error, Result};

/// The facts of one X.509 certificate.
#[derive(Clone, Debug)]
pub struct Certificate {
    pub der: CertificateDer<'static>,
    pub common_name: String,
    /// The `O` values of the subject: groups, for a client certificate.
    pub organizations: Vec<String>,
    /// The UID attribute of the subject (1.3.6.1.4.1.57683.2, KEP-5284's certificate user id).
    pub uid: Option<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub is_ca: bool,
    pub not_before: jiff::Timestamp,
    pub not_after: jiff::Timestamp,
    /// The subject with every attribute in the certificate's own encoding; equal to the issuer field of what it signed.
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    pub serial: String,
    /// SubjectPublicKeyInfo in DER.
    pub public_der: Vec<u8>,
}

/// Upstream: staging/src/k8s.io/apiserver/pkg/authentication/request/x509/x509.go, `uidOID`.
const UID_ATTRIBUTE: &str = "1.3.6.1.4.1.57683.2";

impl Certificate {
    /// The first certificate of a PEM text.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::Certificate(e.to_string()))?;
        Self::from_der(der)
    }

    pub fn from_der(der: CertificateDer<'static>) -> Result<Self> {
        let (_, parsed) = X509Certificate::from_der(&der).map_err(|e| Error::Certificate(e.to_string()))?;
        let time = |seconds: i64| jiff::Timestamp::from_second(seconds).map_err(|e| Error::Certificate(e.to_string()));
        let mut dns_names = Vec::new();
        let mut ip_addresses = Vec::new();
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => ip_addresses.extend(ip_address(bytes)),
                    _ => {}
                }
            }
        }
        let facts = Self {
            common_name: attribute(parsed.subject().iter_common_name()).into_iter().next().unwrap_or_default(),
            organizations: attribute(parsed.subject().iter_organization()),
            uid: user_id(parsed.subject()),
            dns_names,
            ip_addresses,
            is_ca: parsed.is_ca(),
            not_before: time(parsed.validity().not_before.timestamp())?,
            not_after: time(parsed.validity().not_after.timestamp())?,
            subject: parsed.subject().as_raw().to_vec(),
            issuer: parsed.issuer().as_raw().to_vec(),
            serial: parsed.raw_serial_as_string(),
            public_der: parsed.public_key().raw.to_vec(),
            der: CertificateDer::from(Vec::new()),
        };
        Ok(Self { der, ..facts })
    }

    /// An error that names both times when the certificate does not hold at `now`.
    pub fn check_time(&self, now: jiff::Timestamp) -> Result<()> {
        let subject = self.common_name.clone();
        if now < self.not_before {
            return Err(Error::NotYetValid { subject, not_before: self.not_before, now });
        }
        if now > self.not_after {
            return Err(Error::Expired { subject, not_after: self.not_after, now });
        }
        Ok(())
    }

    /// Whether the certificate's last `days` have begun.
    pub fn expires_within(&self, days: i64, now: jiff::Timestamp) -> bool {
        self.not_after.as_second() - now.as_second() < days * 86_400
    }

    pub fn covers(&self, dns_names: &[String], ip_addresses: &[IpAddr]) -> bool {
        dns_names.iter().all(|n| self.dns_names.contains(n)) && ip_addresses.iter().all(|a| self.ip_addresses.contains(a))
    }

    /// `X509SHA256=` and the hash of the certificate: the credential id of a client certificate.
    pub fn credential_id(&self) -> String {
        use std::fmt::Write;
        let digest = ring::digest::digest(&ring::digest::SHA256, &self.der);
        let mut id = String::from("X509SHA256=");
        for byte in digest.as_ref() {
            write!(id, "{byte:02x}").expect("a String takes everything");
        }
        id
    }
}

/// Every certificate of a PEM text (a CA bundle); an error when there is none.
pub fn bundle_from_pem(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let list: Vec<_> =
        CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|e| Error::Certificate(e.to_string()))?;
    if list.is_empty() {
        return Err(Error::Certificate("no CERTIFICATE section".into()));
    }
    Ok(list)
}

fn attribute<'a>(values: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>) -> Vec<String> {
    values.filter_map(|value| value.as_str().ok()).map(str::to_owned).collect()
}

fn user_id(subject: &X509Name<'_>) -> Option<String> {
    subject.iter_attributes().find(|a| a.attr_type().to_id_string() == UID_ATTRIBUTE)?.as_str().ok().map(str::to_owned)
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}
