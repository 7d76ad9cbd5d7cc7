//! A certificate authority: makes itself, signs leaf certificates and certificate requests.

use std::net::IpAddr;

use rand::Rng;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;

use crate::{Certificate, Error, PrivateKey, Result};

/// kubeadm's validity (cmd/kubeadm/app/constants): ten years for a CA, one for what it signs.
pub const CA_DAYS: i64 = 3650;
pub const LEAF_DAYS: i64 = 365;
/// Certificates begin an hour early, so that a slightly slow clock elsewhere takes them.
const BACKDATE_SECONDS: i64 = 3600;

#[derive(Debug)]
pub struct Authority {
    pub certificate: Certificate,
    pub certificate_pem: String,
    pub key: PrivateKey,
}

/// What a leaf certificate is for.
#[derive(Clone, Debug, Default)]
pub struct Leaf {
    pub common_name: String,
    /// The group of a client certificate.
    pub organization: Option<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    pub server: bool,
    pub client: bool,
}

impl Leaf {
    pub fn client(common_name: impl Into<String>, organization: Option<&str>) -> Self {
        Self { common_name: common_name.into(), organization: organization.map(str::to_owned), client: true, ..Self::default() }
    }

    pub fn server(common_name: impl Into<String>, dns_names: Vec<String>, ip_addresses: Vec<IpAddr>) -> Self {
        Self { common_name: common_name.into(), dns_names, ip_addresses, server: true, ..Self::default() }
    }
}

fn sign_error(error: rcgen::Error) -> Error {
    Error::Sign(error.to_string())
}

fn validity(params: &mut CertificateParams, now: jiff::Timestamp, seconds: i64) -> Result<()> {
    let at = |second: i64| time::OffsetDateTime::from_unix_timestamp(second).map_err(|e| Error::Sign(e.to_string()));
    params.not_before = at(now.as_second() - BACKDATE_SECONDS)?;
    params.not_after = at(now.as_second() + seconds)?;
    Ok(())
}

/// A positive random serial of 63 bits, as client-go's cert package makes.
fn serial() -> SerialNumber {
    let number = rand::rng().random_range(1..i64::MAX);
    SerialNumber::from_slice(&number.to_be_bytes())
}

fn dns_san(name: &str) -> Result<SanType> {
    Ok(SanType::DnsName(name.try_into().map_err(sign_error)?))
}

impl Authority {
    /// A new self-signed CA.
    pub fn create(common_name: &str, now: jiff::Timestamp) -> Result<Self> {
        let key = PrivateKey::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![dns_san(common_name)?];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        params.serial_number = Some(serial());
        validity(&mut params, now, CA_DAYS * 86_400)?;
        let certificate = params.self_signed(key.pair()).map_err(sign_error)?;
        Ok(Self { certificate: Certificate::from_der(certificate.der().clone())?, certificate_pem: certificate.pem(), key })
    }

    /// An existing CA; its certificate must be one, and belong to the key.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self> {
        let certificate = Certificate::from_pem(certificate_pem)?;
        let key = PrivateKey::from_pem(key_pem)?;
        if certificate.public_der != key.public_der() {
            return Err(Error::Mismatch);
        }
        if !certificate.is_ca {
            return Err(Error::Certificate(format!("{:?} is not a CA", certificate.common_name)));
        }
        Ok(Self { certificate, certificate_pem: certificate_pem.to_owned(), key })
    }

    fn issuer(&self) -> Result<Issuer<'static, &rcgen::KeyPair>> {
        Issuer::from_ca_cert_der(&self.certificate.der, self.key.pair()).map_err(sign_error)
    }

    /// Signs a certificate for a new key; both as PEM.
    pub fn issue(&self, leaf: &Leaf, now: jiff::Timestamp) -> Result<(String, PrivateKey)> {
        let key = PrivateKey::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, leaf.common_name.as_str());
        if let Some(organization) = &leaf.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
        }
        for name in &leaf.dns_names {
            params.subject_alt_names.push(dns_san(name)?);
        }
        params.subject_alt_names.extend(leaf.ip_addresses.iter().copied().map(SanType::IpAddress));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        if leaf.server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if leaf.client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        params.serial_number = Some(serial());
        params.use_authority_key_identifier_extension = true;
        validity(&mut params, now, LEAF_DAYS * 86_400)?;
        let certificate = params.signed_by(key.pair(), &self.issuer()?).map_err(sign_error)?;
        Ok((certificate.pem(), key))
    }

    /// Signs a PKCS#10 request (PEM) as it stands, its signature checked; the caller has approved what it asks for.
    /// `seconds` is how long the certificate holds; it never outlives the CA.
    pub fn sign_request(&self, request_pem: &str, usages: &[String], seconds: i64, now: jiff::Timestamp) -> Result<String> {
        let der = CertificateSigningRequestDer::from_pem_slice(request_pem.as_bytes()).map_err(|e| Error::Sign(e.to_string()))?;
        let mut request = CertificateSigningRequestParams::from_der(&der).map_err(sign_error)?;
        let left = self.certificate.not_after.as_second() - now.as_second();
        validity(&mut request.params, now, seconds.min(left))?;
        request.params.is_ca = IsCa::ExplicitNoCa;
        request.params.serial_number = Some(serial());
        request.params.use_authority_key_identifier_extension = true;
        request.params.key_usages = usages.iter().filter_map(|u| key_usage(u)).collect();
        request.params.extended_key_usages = usages.iter().filter_map(|u| extended_usage(u)).collect();
        Ok(request.signed_by(&self.issuer()?).map_err(sign_error)?.pem())
    }
}

/// certificates.k8s.io/v1 KeyUsage words (pkg/apis/certificates/types.go).
fn key_usage(word: &str) -> Option<KeyUsagePurpose> {
    Some(match word {
        "signing" | "digital signature" => KeyUsagePurpose::DigitalSignature,
        "content commitment" => KeyUsagePurpose::ContentCommitment,
        "key encipherment" => KeyUsagePurpose::KeyEncipherment,
        "key agreement" => KeyUsagePurpose::KeyAgreement,
        "data encipherment" => KeyUsagePurpose::DataEncipherment,
        "encipher only" => KeyUsagePurpose::EncipherOnly,
        "decipher only" => KeyUsagePurpose::DecipherOnly,
        _ => return None,
    })
}

fn extended_usage(word: &str) -> Option<ExtendedKeyUsagePurpose> {
    Some(match word {
        "any" => ExtendedKeyUsagePurpose::Any,
        "server auth" => ExtendedKeyUsagePurpose::ServerAuth,
        "client auth" => ExtendedKeyUsagePurpose::ClientAuth,
        "code signing" => ExtendedKeyUsagePurpose::CodeSigning,
        "email protection" | "s/mime" => ExtendedKeyUsagePurpose::EmailProtection,
        "timestamping" => ExtendedKeyUsagePurpose::TimeStamping,
        "ocsp signing" => ExtendedKeyUsagePurpose::OcspSigning,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::ClientRoots;

    fn now() -> jiff::Timestamp {
        "2026-11-21T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn signs_what_verifies() {
        let ca = Authority::create("kubernetes", now()).unwrap();
        assert!(ca.certificate.is_ca);
        let (pem, _) = ca.issue(&Leaf::client("alice", Some("devs")), now()).unwrap();
        let certificate = Certificate::from_pem(&pem).unwrap();
        assert_eq!((certificate.common_name.as_str(), certificate.organizations.as_slice()), ("alice", &["devs".to_owned()][..]));
        let roots = ClientRoots::from_pem(&ca.certificate_pem).unwrap();
        assert_eq!(roots.verify(std::slice::from_ref(&certificate.der), now()).unwrap().common_name, "alice");
        let stranger = Authority::create("kubernetes", now()).unwrap();
        let other = ClientRoots::from_pem(&stranger.certificate_pem).unwrap();
        assert!(other.verify(std::slice::from_ref(&certificate.der), now()).is_err());
        let (server, _) = ca.issue(&Leaf::server("alice", vec!["a.b".into()], vec![]), now()).unwrap();
        assert!(roots.verify(&[Certificate::from_pem(&server).unwrap().der], now()).is_err(), "not for clients");
    }

    #[test]
    fn names_both_times_when_the_clock_is_off() {
        let ca = Authority::create("kubernetes", now()).unwrap();
        let early = "2020-01-01T00:00:00Z".parse().unwrap();
        let text = ca.certificate.check_time(early).unwrap_err().to_string();
        assert!(text.contains("2026-11-20T23:00:00Z") && text.contains("2020-01-01T00:00:00Z"), "{text}");
        let late = "2046-01-01T00:00:00Z".parse().unwrap();
        assert!(matches!(ca.certificate.check_time(late), Err(Error::Expired { .. })));
    }

    #[test]
    fn signs_requests_and_never_outlives_itself() {
        let ca = Authority::create("kubernetes", now()).unwrap();
        let key = PrivateKey::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "system:node:a");
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        let request = params.serialize_request(key.pair()).unwrap().pem().unwrap();
        let usages = ["client auth".to_owned(), "digital signature".to_owned()];
        let signed = Certificate::from_pem(&ca.sign_request(&request, &usages, i64::from(u32::MAX), now()).unwrap()).unwrap();
        assert_eq!(signed.common_name, "system:node:a");
        assert_eq!(signed.not_after, ca.certificate.not_after);
        assert!(!signed.is_ca);
        assert!(ca.sign_request("garbage", &usages, 1, now()).is_err());
    }

    #[test]
    fn a_foreign_key_is_refused() {
        let ca = Authority::create("kubernetes", now()).unwrap();
        let other = PrivateKey::generate().unwrap();
        assert!(matches!(Authority::load(&ca.certificate_pem, &other.to_pem()), Err(Error::Mismatch)));
        assert!(Authority::load(&ca.certificate_pem, &ca.key.to_pem()).is_ok());
    }
}
