//! Private keys: new ones are ECDSA P-256; existing ones may also be P-384 or RSA, in PKCS#8, SEC1 or PKCS#1.

use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::{Error, Result};

/// A private key, held as PKCS#8.
pub struct PrivateKey {
    pair: rcgen::KeyPair,
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrivateKey({:?})", self.pair.algorithm())
    }
}

impl PrivateKey {
    pub fn generate() -> Result<Self> {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(|e| Error::Key(e.to_string()))?;
        Ok(Self { pair })
    }

    /// Reads the first private key of a PEM text. Other sections (EC PARAMETERS, certificates) are passed over.
    pub fn from_pem(pem: &str) -> Result<Self> {
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| Error::Key(e.to_string()))?;
        Self::from_der(&der)
    }

    pub fn from_der(der: &PrivateKeyDer<'_>) -> Result<Self> {
        let candidates = match der {
            PrivateKeyDer::Pkcs8(key) => vec![key.secret_pkcs8_der().to_vec()],
            PrivateKeyDer::Sec1(key) => vec![wrap(P256, key.secret_sec1_der()), wrap(P384, key.secret_sec1_der())],
            PrivateKeyDer::Pkcs1(key) => vec![wrap(RSA, key.secret_pkcs1_der())],
            _ => return Err(Error::Key("an unknown format".into())),
        };
        let mut refusal = String::new();
        for pkcs8 in candidates {
            match rcgen::KeyPair::try_from(pkcs8.as_slice()) {
                Ok(pair) => return Ok(Self { pair }),
                Err(error) => refusal = error.to_string(),
            }
        }
        Err(Error::Key(format!("{refusal} (ECDSA P-256 and P-384, RSA of 2048 to 4096 bits and Ed25519 can be used)")))
    }

    /// PKCS#8 PEM.
    pub fn to_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// PKCS#8 DER.
    pub fn to_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.pair.serialize_der().into())
    }

    /// SubjectPublicKeyInfo in PEM: the content of `sa.pub`.
    pub fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn public_der(&self) -> Vec<u8> {
        rcgen::PublicKeyData::subject_public_key_info(&self.pair)
    }

    pub fn pair(&self) -> &rcgen::KeyPair {
        &self.pair
    }

    pub fn is_rsa(&self) -> bool {
        self.pair.algorithm() == &rcgen::PKCS_RSA_SHA256
    }
}

// AlgorithmIdentifiers: an OID and its parameters.
const P256: &[u8] = b"\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
const P384: &[u8] = b"\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22";
const RSA: &[u8] = b"\x30\x0d\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";

/// PKCS#8 (RFC 5208) around a bare key: version 0, algorithm, the key as an octet string.
fn wrap(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let mut body = vec![0x02, 0x01, 0x00];
    body.extend_from_slice(algorithm);
    body.extend(der_item(0x04, key));
    der_item(0x30, &body)
}

fn der_item(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut item = vec![tag];
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().position(|b| *b != 0).unwrap_or(length.len() - 1)..];
    if content.len() < 0x80 {
        item.push(significant[0]);
    } else {
        item.push(0x80 | significant.len() as u8);
        item.extend_from_slice(significant);
    }
    item.extend_from_slice(content);
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    // Throw-away keys made by openssl for this test.
    pub const SEC1: &str = include_str!("../testdata/p256-sec1.pem");
    pub const SEC1_P384: &str = include_str!("../testdata/p384-sec1.pem");
    pub const PKCS1: &str = include_str!("../testdata/rsa-pkcs1.pem");

    #[test]
    fn reads_every_format() {
        assert!(!PrivateKey::from_pem(SEC1).unwrap().is_rsa());
        assert!(!PrivateKey::from_pem(SEC1_P384).unwrap().is_rsa());
        let rsa = PrivateKey::from_pem(PKCS1).unwrap();
        assert!(rsa.is_rsa());
        assert_eq!(PrivateKey::from_pem(&rsa.to_pem()).unwrap().public_der(), rsa.public_der());
    }

    #[test]
    fn refuses_what_is_no_key() {
        assert!(PrivateKey::from_pem("").is_err());
        assert!(PrivateKey::from_pem("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").is_err());
    }
}
