//! JSON Web Signatures (RFC 7515) over ring: of service-account tokens (ES256, ES384, RS256; upstream: pkg/serviceaccount/jwt.go) and, with the other
//! methods of their kinds of keys (RFC 7518), of etcd's tokens. A key has one method: what a token says of its own is only compared with it. Knows
//! signatures and key ids, not claims.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo};
use x509_parser::public_key::PublicKey as Parsed;

use crate::{Certificate, Error, PrivateKey, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Es256,
    Es384,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

impl Algorithm {
    const ALL: [Self; 8] = [Self::Es256, Self::Es384, Self::Rs256, Self::Rs384, Self::Rs512, Self::Ps256, Self::Ps384, Self::Ps512];

    fn name(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
        }
    }

    /// What keys of its kind do unless they are told otherwise.
    fn usual(self) -> Self {
        match self {
            Self::Es256 | Self::Es384 => self,
            _ => Self::Rs256,
        }
    }

    /// The method of this name, for a key that does `self`.
    fn instead(self, name: &str) -> Result<Self> {
        let known = Self::ALL.into_iter().find(|known| known.name() == name);
        known.filter(|known| known.usual() == self.usual()).ok_or_else(|| Error::Key(format!("{name} cannot be done with this key")))
    }

    fn verification(self) -> &'static dyn signature::VerificationAlgorithm {
        match self {
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        }
    }

    /// How RSA keys sign; `None` for the others.
    fn padding(self) -> Option<&'static dyn signature::RsaEncoding> {
        match self {
            Self::Es256 | Self::Es384 => None,
            Self::Rs256 => Some(&signature::RSA_PKCS1_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_SHA256),
            Self::Ps384 => Some(&signature::RSA_PSS_SHA384),
            Self::Ps512 => Some(&signature::RSA_PSS_SHA512),
        }
    }
}

/// A public key that tokens are verified with.
#[derive(Clone, Debug)]
pub struct VerifyingKey {
    algorithm: Algorithm,
    /// The hash of the key, as upstream makes `kid`.
    pub id: String,
    /// A point (ECDSA) or a PKCS#1 key (RSA).
    raw: Vec<u8>,
    /// For JWKS: x and y, or n and e.
    parts: (Vec<u8>, Vec<u8>),
}

impl VerifyingKey {
    /// From SubjectPublicKeyInfo in DER.
    pub fn from_der(spki: &[u8]) -> Result<Self> {
        let (_, info) = SubjectPublicKeyInfo::from_der(spki).map_err(|e| Error::Key(e.to_string()))?;
        let raw = info.subject_public_key.data.to_vec();
        let id = URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, spki));
        let (algorithm, parts) = match info.parsed().map_err(|e| Error::Key(e.to_string()))? {
            Parsed::RSA(rsa) => (Algorithm::Rs256, (unsigned(rsa.modulus), unsigned(rsa.exponent))),
            Parsed::EC(_) if raw.len() == 65 => (Algorithm::Es256, (raw[1..33].to_vec(), raw[33..].to_vec())),
            Parsed::EC(_) if raw.len() == 97 => (Algorithm::Es384, (raw[1..49].to_vec(), raw[49..].to_vec())),
            _ => return Err(Error::Key("service-account keys are RSA, ECDSA P-256 or ECDSA P-384".into())),
        };
        Ok(Self { algorithm, id, raw, parts })
    }

    /// Every key of a PEM text: public keys, private keys or certificates (--service-account-key-file).
    pub fn all_from_pem(pem: &str) -> Result<Vec<Self>> {
        let mut keys = Vec::new();
        for der in SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()) {
            keys.push(Self::from_der(&der.map_err(|e| Error::Key(e.to_string()))?)?);
        }
        if pem.contains("PRIVATE KEY-----") {
            keys.push(Self::from_der(&PrivateKey::from_pem(pem)?.public_der())?);
        }
        if pem.contains("BEGIN CERTIFICATE-----") {
            keys.push(Self::from_der(&Certificate::from_pem(pem)?.public_der)?);
        }
        if keys.is_empty() {
            return Err(Error::Key("no public key, private key or certificate".into()));
        }
        Ok(keys)
    }

    /// The same key with another method (`RS512`, ...) of its kind.
    pub fn with_method(mut self, name: &str) -> Result<Self> {
        self.algorithm = self.algorithm.instead(name)?;
        Ok(self)
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm.verification(), &self.raw).verify(message, signature).is_ok()
    }

    /// The key as a member of a JSON Web Key Set (RFC 7517), as `/openid/v1/jwks` shows it.
    pub fn to_jwk(&self) -> Value {
        let (first, second) = (URL_SAFE_NO_PAD.encode(&self.parts.0), URL_SAFE_NO_PAD.encode(&self.parts.1));
        let (id, alg) = (&self.id, self.algorithm.name());
        match self.algorithm {
            Algorithm::Es256 => json!({"use": "sig", "kty": "EC", "kid": id, "crv": "P-256", "alg": alg, "x": first, "y": second}),
            Algorithm::Es384 => json!({"use": "sig", "kty": "EC", "kid": id, "crv": "P-384", "alg": alg, "x": first, "y": second}),
            _ => json!({"use": "sig", "kty": "RSA", "kid": id, "alg": alg, "n": first, "e": second}),
        }
    }
}

/// A big-endian number without its leading zeros.
fn unsigned(bytes: &[u8]) -> Vec<u8> {
    bytes[bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len())..].to_vec()
}

enum Signing {
    Ecdsa(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// The key that new tokens are signed with.
pub struct SigningKey {
    pub public: VerifyingKey,
    key: Signing,
    random: SystemRandom,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public).finish_non_exhaustive()
    }
}

impl SigningKey {
    pub fn new(key: &PrivateKey) -> Result<Self> {
        let public = VerifyingKey::from_der(&key.public_der())?;
        let random = SystemRandom::new();
        let der = key.to_der();
        let refused = |e: ring::error::KeyRejected| Error::Key(e.to_string());
        let key = match public.algorithm {
            Algorithm::Es256 => Signing::Ecdsa(
                EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_der(), &random).map_err(refused)?,
            ),
            Algorithm::Es384 => Signing::Ecdsa(
                EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P384_SHA384_FIXED_SIGNING, der.secret_der(), &random).map_err(refused)?,
            ),
            _ => Signing::Rsa(RsaKeyPair::from_pkcs8(der.secret_der()).map_err(refused)?),
        };
        Ok(Self { public, key, random })
    }

    /// The same key with another method (`RS512`, ...) of its kind.
    pub fn with_method(mut self, name: &str) -> Result<Self> {
        self.public = self.public.with_method(name)?;
        Ok(self)
    }

    /// The compact serialization of `claims` (a JSON object) with its signature.
    pub fn sign(&self, claims: &[u8]) -> Result<String> {
        let header = json!({"alg": self.public.algorithm.name(), "kid": self.public.id}).to_string();
        let mut token = URL_SAFE_NO_PAD.encode(header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let refused = |_| Error::Key("signing failed".into());
        let signature = match &self.key {
            Signing::Ecdsa(key) => key.sign(&self.random, token.as_bytes()).map_err(refused)?.as_ref().to_vec(),
            Signing::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                let padding = self.public.algorithm.padding().ok_or_else(|| Error::Key("an RSA key with another key's method".into()))?;
                key.sign(padding, &self.random, token.as_bytes(), &mut signature).map_err(refused)?;
                signature
            }
        };
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }
}

/// The claims of a compact token, not verified: to see whose token it is before looking for its key. `None`: no such token.
pub fn peek_claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else { return None };
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()
}

/// Verifies a compact token with the key that its header names (or, without `kid`, with any) and returns the claims as they were signed.
pub fn verify(token: &str, keys: &[VerifyingKey]) -> Option<Vec<u8>> {
    let parts = Parts::of(token)?;
    let kid = parts.header.get("kid").and_then(Value::as_str).unwrap_or_default();
    keys.iter().filter(|key| kid.is_empty() || key.id == kid).any(|key| parts.verify(key)).then_some(parts.claims)
}

/// Verifies a compact token with this key, whatever key its header names, and returns the claims as they were signed.
pub fn verify_with(token: &str, key: &VerifyingKey) -> Option<Vec<u8>> {
    let parts = Parts::of(token)?;
    parts.verify(key).then_some(parts.claims)
}

struct Parts<'a> {
    /// What was signed.
    message: &'a str,
    header: Value,
    claims: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        let (message, signature) = token.rsplit_once('.')?;
        let (header, claims) = message.split_once('.')?;
        Some(Self {
            message,
            header: serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?,
            claims: URL_SAFE_NO_PAD.decode(claims).ok()?,
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    fn verify(&self, key: &VerifyingKey) -> bool {
        let is_its_method = self.header.get("alg").and_then(Value::as_str) == Some(key.algorithm.name());
        is_its_method && key.verify(self.message.as_bytes(), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(pem: &str, alg: &str) {
        let key = SigningKey::new(&PrivateKey::from_pem(pem).unwrap()).unwrap();
        let token = key.sign(br#"{"sub":"a"}"#).unwrap();
        let keys = [key.public.clone()];
        assert_eq!(verify(&token, &keys).unwrap(), br#"{"sub":"a"}"#);
        assert_eq!(peek_claims(&token).unwrap()["sub"], "a");
        assert_eq!(key.public.to_jwk()["alg"], alg);
        let stranger = SigningKey::new(&PrivateKey::generate().unwrap()).unwrap();
        assert!(verify(&token, &[stranger.public]).is_none());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (header, _) = message.split_once('.').unwrap();
        assert_eq!(verify_with(&token, &keys[0]).unwrap(), br#"{"sub":"a"}"#);
        let forged = format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"sub":"b"}"#));
        assert!(verify(&forged, &keys).is_none());
    }

    #[test]
    fn signs_and_verifies() {
        round_trip(include_str!("../testdata/p256-sec1.pem"), "ES256");
        round_trip(include_str!("../testdata/p384-sec1.pem"), "ES384");
        round_trip(include_str!("../testdata/rsa-pkcs1.pem"), "RS256");
    }

    #[test]
    fn a_key_has_one_method() {
        let rsa = || SigningKey::new(&PrivateKey::from_pem(include_str!("../testdata/rsa-pkcs1.pem")).unwrap()).unwrap();
        for method in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
            let key = rsa().with_method(method).unwrap();
            let token = key.sign(b"{}").unwrap();
            for other in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
                let verifier = key.public.clone().with_method(other).unwrap();
                assert_eq!(verify_with(&token, &verifier).is_some(), method == other, "{method} {other}");
            }
        }
        for wrong in ["ES256", "HS256", "none", "", "rs256"] {
            assert!(rsa().with_method(wrong).is_err(), "{wrong}");
        }
        let ecdsa = SigningKey::new(&PrivateKey::generate().unwrap()).unwrap();
        assert!(ecdsa.public.clone().with_method("ES256").is_ok());
        assert!(ecdsa.public.with_method("ES384").is_err());
    }

    #[test]
    fn garbage_is_no_token() {
        let key = SigningKey::new(&PrivateKey::generate().unwrap()).unwrap();
        for token in ["", ".", "..", "a.b.c", "e30.e30.", "e30.e30.e30.e30"] {
            assert!(verify(token, std::slice::from_ref(&key.public)).is_none(), "{token}");
        }
        let none = format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), URL_SAFE_NO_PAD.encode("{}"));
        assert!(verify(&none, std::slice::from_ref(&key.public)).is_none());
    }

    #[test]
    fn reads_public_keys_from_every_kind_of_file() {
        let key = PrivateKey::generate().unwrap();
        let id = VerifyingKey::from_der(&key.public_der()).unwrap().id;
        for pem in [key.to_pem(), key.public_pem()] {
            assert_eq!(VerifyingKey::all_from_pem(&pem).unwrap()[0].id, id);
        }
        assert!(VerifyingKey::all_from_pem("none").is_err());
    }
}
