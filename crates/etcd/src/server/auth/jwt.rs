//! Signed tokens: `--auth-token jwt,...` (server/auth/jwt.go, options.go). They name a user and the revision of users and roles when they were signed. The
//! method is the configured one: what a token says of its own is never followed, only compared.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pki::PrivateKey;
use pki::jws::{self, SigningKey, VerifyingKey};
use ring::hmac;
use serde_json::{Value, json};
use store::Identity;

/// A token lives so long unless `ttl` says otherwise.
const TTL: Duration = Duration::from_secs(300);

enum Key {
    /// Signs and verifies.
    Pair(Box<SigningKey>),
    /// Only verifies: tokens are signed elsewhere.
    Public(VerifyingKey),
    Secret(hmac::Key, &'static str),
}

pub struct Jwt {
    key: Key,
    ttl: Duration,
}

/// Why a token could not be made.
#[derive(Debug, PartialEq, Eq)]
pub enum SignError {
    VerifyOnly,
    Failed(String),
}

impl Jwt {
    /// From what follows `jwt,`: `sign-method`, `pub-key`, `priv-key` (files), `ttl`.
    pub fn new(options: &[(String, String)]) -> Result<Self, String> {
        let given = |name: &str| options.iter().find(|(known, value)| known == name && !value.is_empty()).map(|(_, value)| value.as_str());
        for (name, _) in options {
            if !matches!(name.as_str(), "sign-method" | "pub-key" | "priv-key" | "ttl") {
                tracing::warn!(name, "--auth-token has an option that is not known and has no effect");
            }
        }
        let ttl = given("ttl").map_or(Ok(TTL), base::duration::parse).map_err(|error| format!("ttl: {error}"))?;
        let read = |name| given(name).map(|path| std::fs::read(path).map_err(|error| format!("{name} {path}: {error}"))).transpose();
        let (public, private) = (read("pub-key")?, read("priv-key")?);
        let method = given("sign-method").ok_or("sign-method is missing: RS256, ES256 and others")?;
        let key = match method {
            "HS256" => Key::secret(hmac::HMAC_SHA256, "HS256", private),
            "HS384" => Key::secret(hmac::HMAC_SHA384, "HS384", private),
            "HS512" => Key::secret(hmac::HMAC_SHA512, "HS512", private),
            method => Key::pair(method, public, private),
        };
        let key = key.map_err(|reason| match given("priv-key").or_else(|| given("pub-key")) {
            Some(path) => format!("{method} with {}: {reason}", Path::new(path).display()),
            None => format!("{method}: {reason}"),
        })?;
        Ok(Self { key, ttl })
    }

    pub fn sign(&self, user: &str, revision: u64, now_ms: i64) -> Result<String, SignError> {
        let ttl_s = i64::try_from(self.ttl.as_secs()).unwrap_or(i64::MAX);
        let claims = json!({ "username": user, "revision": revision, "exp": (now_ms / 1000).saturating_add(ttl_s) }).to_string();
        match &self.key {
            Key::Pair(key) => key.sign(claims.as_bytes()).map_err(|error| SignError::Failed(error.to_string())),
            Key::Public(_) => Err(SignError::VerifyOnly),
            Key::Secret(key, method) => {
                let header = json!({ "alg": method, "typ": "JWT" }).to_string();
                let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
                let signature = URL_SAFE_NO_PAD.encode(hmac::sign(key, message.as_bytes()));
                Ok(format!("{message}.{signature}"))
            }
        }
    }

    /// Whose token it is; `Invalid` where anything is wrong with it.
    pub fn identity(&self, token: &str, now_ms: i64) -> Identity {
        let claims = match &self.key {
            Key::Pair(key) => jws::verify_with(token, &key.public),
            Key::Public(key) => jws::verify_with(token, key),
            Key::Secret(key, method) => verify_secret(token, key, method),
        };
        claims.and_then(|claims| identity(&claims, now_ms)).unwrap_or(Identity::Invalid)
    }
}

impl Key {
    fn secret(algorithm: hmac::Algorithm, method: &'static str, secret: Option<Vec<u8>>) -> Result<Self, String> {
        match secret {
            Some(secret) if !secret.is_empty() => Ok(Self::Secret(hmac::Key::new(algorithm, &secret), method)),
            _ => Err("priv-key is missing or empty".into()),
        }
    }

    fn pair(method: &str, public: Option<Vec<u8>>, private: Option<Vec<u8>>) -> Result<Self, String> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| "a key that is no PEM text".to_owned());
        let public = match public {
            None => None,
            Some(pem) => {
                let keys = VerifyingKey::all_from_pem(&text(pem)?).map_err(|error| format!("pub-key: {error}"))?;
                keys.into_iter().next()
            }
        };
        let private = match private {
            None => None,
            Some(pem) => {
                let key = PrivateKey::from_pem(&text(pem)?).map_err(|error| format!("priv-key: {error}"))?;
                Some(SigningKey::new(&key).map_err(|error| format!("priv-key: {error}"))?)
            }
        };
        match (public, private) {
            (None, None) => Err("pub-key and priv-key are both missing".into()),
            (Some(public), Some(private)) if public.id != private.public.id => Err("pub-key and priv-key do not belong together".into()),
            (_, Some(private)) => private.with_method(method).map(|key| Self::Pair(Box::new(key))).map_err(|error| error.to_string()),
            (Some(public), None) => public.with_method(method).map(Self::Public).map_err(|error| error.to_string()),
        }
    }
}

fn verify_secret(token: &str, key: &hmac::Key, method: &str) -> Option<Vec<u8>> {
    let (message, signature) = token.rsplit_once('.')?;
    let (header, claims) = message.split_once('.')?;
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
    if header.get("alg").and_then(Value::as_str) != Some(method) {
        return None;
    }
    hmac::verify(key, message.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).ok()?).ok()?;
    URL_SAFE_NO_PAD.decode(claims).ok()
}

/// What verified claims say. A time without which a token is valid for ever may be missing, but not be something else than a time.
fn identity(claims: &[u8], now_ms: i64) -> Option<Identity> {
    let claims: Value = serde_json::from_slice(claims).ok()?;
    let time_ms = |name: &str| match claims.get(name) {
        None => Some(None),
        // Rounded towards the past or the future by less than a second; far times stay far.
        Some(time) => time.as_f64().map(|seconds| Some((seconds * 1000.0) as i64)),
    };
    let (expires, not_before) = (time_ms("exp")?, time_ms("nbf")?);
    if not_before.is_some_and(|time| now_ms < time) || expires.is_some_and(|time| time <= now_ms) {
        return None;
    }
    let revision = claims.get("revision")?;
    let revision = revision.as_u64().or_else(|| revision.as_f64().map(|number| number as u64))?;
    let user = claims.get("username")?.as_str()?.into();
    Some(Identity::Signed { user, revision, expires_unix_ms: expires.unwrap_or(i64::MAX) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000;

    struct Keys {
        dir: tempfile::TempDir,
    }

    impl Keys {
        /// A P-256 pair, another one, and a secret.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
            for name in ["a", "b"] {
                let key = PrivateKey::generate().unwrap();
                write(&format!("{name}.key"), &key.to_pem());
                write(&format!("{name}.pub"), &key.public_pem());
            }
            write("rsa.key", RSA);
            write("rsa.pub", &PrivateKey::from_pem(RSA).unwrap().public_pem());
            write("secret", "it is a secret");
            write("empty", "");
            Self { dir }
        }

        /// `name=value` pairs; `@file` is a file of these.
        fn jwt(&self, options: &str) -> Result<Jwt, String> {
            let value = |text: &str| match text.strip_prefix('@') {
                Some(file) => self.dir.path().join(file).to_str().unwrap().to_owned(),
                None => text.to_owned(),
            };
            let pair = |pair: &str| pair.split_once('=').map(|(name, text)| (name.to_owned(), value(text))).unwrap();
            Jwt::new(&options.split(' ').map(pair).collect::<Vec<_>>())
        }
    }

    const RSA: &str = include_str!("../../../../pki/testdata/rsa-pkcs1.pem");

    fn user(identity: &Identity) -> Option<(String, u64, i64)> {
        match identity {
            Identity::Signed { user, revision, expires_unix_ms } => Some((user.to_string(), *revision, *expires_unix_ms)),
            Identity::Invalid => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tokens_of_every_method() {
        let keys = Keys::new();
        let methods = [
            ("ES256", "@a.key"),
            ("RS256", "@rsa.key"),
            ("RS384", "@rsa.key"),
            ("RS512", "@rsa.key"),
            ("PS256", "@rsa.key"),
            ("PS384", "@rsa.key"),
            ("PS512", "@rsa.key"),
            ("HS256", "@secret"),
            ("HS384", "@secret"),
            ("HS512", "@secret"),
        ];
        let all: Vec<_> =
            methods.iter().map(|(method, key)| keys.jwt(&format!("sign-method={method} priv-key={key} ttl=10m")).unwrap()).collect();
        for (n, jwt) in all.iter().enumerate() {
            let token = jwt.sign("ann", 7, NOW).unwrap();
            for (m, other) in all.iter().enumerate() {
                let expected = (n == m).then(|| ("ann".to_owned(), 7, NOW + 600_000));
                assert_eq!(user(&other.identity(&token, NOW)), expected, "{:?} with {:?}", methods[n], methods[m]);
            }
            assert!(user(&jwt.identity(&token, NOW + 599_999)).is_some());
            assert_eq!(user(&jwt.identity(&token, NOW + 600_000)), None, "it is over");
        }
    }

    #[test]
    fn options_that_cannot_be() {
        let keys = Keys::new();
        let check = |options: &str, expected: &str| {
            let reason = keys.jwt(options).err().expect(options);
            assert!(reason.contains(expected), "{options}: {reason}");
        };
        check("priv-key=@a.key", "sign-method is missing");
        check("sign-method=ES256", "both missing");
        check("sign-method=none priv-key=@a.key", "none");
        check("sign-method=ES512 priv-key=@a.key", "ES512");
        check("sign-method=RS256 priv-key=@a.key", "RS256");
        check("sign-method=ES256 priv-key=@rsa.key", "ES256");
        check("sign-method=ES256 priv-key=@a.key pub-key=@b.pub", "do not belong together");
        check("sign-method=ES256 priv-key=@a.key ttl=soon", "ttl");
        check("sign-method=ES256 priv-key=@absent", "priv-key");
        check("sign-method=ES256 priv-key=@secret", "priv-key");
        check("sign-method=HS256", "missing or empty");
        check("sign-method=HS256 priv-key=@empty", "missing or empty");
        check("sign-method=HS256 pub-key=@a.pub", "missing or empty");
        assert!(keys.jwt("sign-method=ES256 priv-key=@a.key pub-key=@a.pub other=1").is_ok());
    }

    #[test]
    fn a_public_key_only_verifies() {
        let keys = Keys::new();
        let token = keys.jwt("sign-method=ES256 priv-key=@a.key").unwrap().sign("ann", 7, NOW).unwrap();
        let public = keys.jwt("sign-method=ES256 pub-key=@a.pub").unwrap();
        assert_eq!(user(&public.identity(&token, NOW)).unwrap().0, "ann");
        assert_eq!(public.sign("ann", 7, NOW), Err(SignError::VerifyOnly));
        let other = keys.jwt("sign-method=ES256 pub-key=@b.pub").unwrap();
        assert_eq!(user(&other.identity(&token, NOW)), None);
    }

    #[test]
    fn forged_tokens() {
        let keys = Keys::new();
        let jwt = keys.jwt("sign-method=RS256 pub-key=@rsa.pub").unwrap();
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = part(json!({ "username": "root", "revision": 1_000, "exp": NOW }));
        // Without a signature, however it is written.
        for alg in ["none", "None", "NONE", "", "RS256"] {
            let header = part(json!({ "alg": alg, "typ": "JWT" }));
            for token in [format!("{header}.{claims}."), format!("{header}.{claims}")] {
                assert_eq!(user(&jwt.identity(&token, NOW)), None, "{alg}");
            }
        }
        // The public key, which everybody knows, as a secret.
        let public = std::fs::read(keys.dir.path().join("rsa.pub")).unwrap();
        let message = format!("{}.{claims}", part(json!({ "alg": "HS256" })));
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &public), message.as_bytes());
        let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(user(&jwt.identity(&token, NOW)), None);
        // Another's claims with a right signature.
        let good = keys.jwt("sign-method=RS256 priv-key=@rsa.key").unwrap().sign("ann", 7, NOW).unwrap();
        let mut parts: Vec<_> = good.split('.').collect();
        assert!(user(&jwt.identity(&good, NOW)).is_some());
        parts[1] = &claims;
        assert_eq!(user(&jwt.identity(&parts.join("."), NOW)), None);
        for garbage in ["", ".", "..", "a.b.c", "nonce.12", "\u{0}.\u{0}.\u{0}", &"x".repeat(10_000)] {
            assert_eq!(user(&jwt.identity(garbage, NOW)), None);
        }
    }

    #[test]
    fn claims() {
        let check = |claims: Value, expected: Option<(&str, u64, i64)>| {
            let found = identity(claims.to_string().as_bytes(), NOW);
            let expected = expected.map(|(user, revision, expires)| (user.to_owned(), revision, expires));
            assert_eq!(found.as_ref().and_then(user), expected, "{claims}");
        };
        let later = NOW / 1000 + 10;
        check(json!({ "username": "a", "revision": 3, "exp": later }), Some(("a", 3, later * 1000)));
        check(json!({ "username": "a", "revision": 3.0, "exp": later as f64 + 0.5 }), Some(("a", 3, later * 1000 + 500)));
        check(json!({ "username": "a", "revision": 3 }), Some(("a", 3, i64::MAX)));
        check(json!({ "username": "a", "revision": 3, "exp": 1e300 }), Some(("a", 3, i64::MAX)));
        check(json!({ "username": "a", "revision": 3, "exp": NOW / 1000 }), None);
        check(json!({ "username": "a", "revision": 3, "exp": "never" }), None);
        check(json!({ "username": "a", "revision": 3, "exp": null }), None);
        check(json!({ "username": "a", "revision": 3, "nbf": later }), None);
        check(json!({ "username": "a", "revision": 3, "nbf": NOW / 1000 }), Some(("a", 3, i64::MAX)));
        check(json!({ "username": "a", "revision": "3" }), None);
        check(json!({ "username": "a", "revision": -5 }), Some(("a", 0, i64::MAX)));
        check(json!({ "username": 1, "revision": 3 }), None);
        check(json!({ "username": "a" }), None);
        check(json!({ "revision": 3 }), None);
        check(json!([]), None);
        assert!(identity(b"{", NOW).is_none());
    }
}
