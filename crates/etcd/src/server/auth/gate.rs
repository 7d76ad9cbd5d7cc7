//! The one way into the services: finds out who a request comes from and asks what `needs` says of him. Services get an engine that acts in his name
//! (`Core::engine_for`); the plain one is nobody's, which is refused while authentication is on.

use std::sync::Arc;
use std::time::Duration;

use http::{Extensions, HeaderMap, Request};
use rand::Rng;
use store::{AuthError, Engine, Identity, KvError};
use tonic::Status;

use super::Refusal;
use super::jwt::{Jwt, SignError};
use super::needs::{self, Need};
use super::password::Passwords;
use crate::errors;
use crate::options::{AuthOptions, OptionsError};

/// Where clients put their token (api/v3rpc/rpctypes/metadatafields.go).
const TOKEN: &str = "token";
const AUTHORIZATION: &str = "authorization";
/// A request from a gateway outside of this process, whose certificate names the gateway and not the client.
const GATEWAY: &str = "grpcgateway-accept";
/// A simple token is so many letters, then the place in the log.
const NONCE_LETTERS: usize = 16;
const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
/// etcd's simpleTokenTTLDefault.
const DEFAULT_TTL_S: u64 = 300;
/// How often a login starts again because users changed meanwhile.
const ATTEMPTS: u32 = 8;

/// The common name of the verified certificate with which a connection was opened: an extension of its requests.
#[derive(Clone, Debug)]
pub struct PeerName(pub Arc<str>);

enum Tokens {
    /// No token is good.
    Off,
    Simple,
    Signed(Box<Jwt>),
}

pub struct Gate {
    tokens: Tokens,
    pub passwords: Passwords,
    /// Whether a client's certificate says who he is: --client-cert-auth.
    trusts_names: bool,
}

impl Gate {
    pub fn new(options: &AuthOptions, trusts_names: bool) -> Result<Self, OptionsError> {
        let tokens = tokens(&options.auth_token).map_err(|reason| OptionsError::Flag { flag: "auth-token", reason })?;
        Ok(Self { tokens, passwords: Passwords::new(options.bcrypt_cost), trusts_names })
    }

    /// Lets a request in or says why not. The services find who it is in its extensions.
    pub async fn admit<B>(&self, engine: &Engine, service: &str, method: &str, request: &mut Request<B>) -> Result<(), Status> {
        let identity = self.identify(engine, request.headers(), request.extensions());
        let need = needs::of(service, method);
        if need != Need::Nothing {
            if let Identity::Token(text) = &identity {
                engine.await_token(text).await;
            }
            let acting = engine.acting_as(identity.clone());
            let checked = match need {
                Need::Nothing | Need::Store => Ok(()),
                Need::Somebody => acting.check_known(),
                Need::Root => acting.check_root(),
            };
            checked.map_err(errors::to_status)?;
        }
        if !matches!(identity, Identity::Anonymous) {
            request.extensions_mut().insert(identity);
        }
        Ok(())
    }

    /// etcd's order: a token, else a certificate (AuthInfoFromCtx in server/etcdserver/v3_server.go).
    fn identify(&self, engine: &Engine, headers: &HeaderMap, extensions: &Extensions) -> Identity {
        if let Some(token) = headers.get(TOKEN).or_else(|| headers.get(AUTHORIZATION)) {
            return match (&self.tokens, token.to_str()) {
                (Tokens::Simple, Ok(text)) => Identity::Token(text.into()),
                // To verify takes time, which nobody should have to spend for nothing.
                (Tokens::Signed(jwt), Ok(text)) if engine.is_auth_enabled() => jwt.identity(text, base::clock::unix_ms()),
                (Tokens::Off | Tokens::Simple | Tokens::Signed(_), _) => Identity::Invalid,
            };
        }
        match extensions.get::<PeerName>() {
            Some(PeerName(name)) if self.trusts_names && !headers.contains_key(GATEWAY) && !name.is_empty() => {
                Identity::Named(name.clone())
            }
            _ => Identity::Anonymous,
        }
    }

    /// Gives a user a token for his password.
    pub(super) async fn log_in(&self, engine: &Engine, name: String, password: String) -> Result<String, Refusal> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            match self.try_log_in(engine, &name, &password).await {
                Err(Refusal::Store(KvError::Auth(AuthError::AuthOldRevision))) if attempts > 0 => {}
                answer => return answer,
            }
        }
    }

    async fn try_log_in(&self, engine: &Engine, name: &str, password: &str) -> Result<String, Refusal> {
        let known = match engine.password_of(name).await {
            Ok(known) => Some(known),
            Err(KvError::Auth(AuthError::AuthFailed)) => None,
            Err(error) => return Err(error.into()),
        };
        let hash = known.as_ref().map(|(hash, _)| hash.clone());
        let is_right = self.passwords.is_right(password.to_owned(), hash).await;
        let is_right = is_right.map_err(|status| KvError::Internal(status.message().to_owned()))?;
        let Some((_, revision)) = known.filter(|_| is_right) else {
            tracing::warn!(user = name, "somebody tried to log in with a wrong name or password");
            return Err(KvError::from(AuthError::AuthFailed).into());
        };
        match &self.tokens {
            Tokens::Off => Err(KvError::from(AuthError::AuthFailed).into()),
            Tokens::Simple => Ok(engine.give_token(name.to_owned(), nonce(), revision).await?),
            Tokens::Signed(jwt) => jwt.sign(name, revision, base::clock::unix_ms()).map_err(|error| match error {
                SignError::VerifyOnly => Refusal::CannotSign,
                SignError::Failed(reason) => KvError::Internal(reason).into(),
            }),
        }
    }
}

/// From the text of --auth-token: a kind, then options of it.
fn tokens(text: &str) -> Result<Tokens, String> {
    let mut parts = text.split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options: Vec<(String, String)> = Vec::new();
    for part in parts {
        let pair = part.split_once('=').filter(|(_, value)| !value.contains('='));
        let (name, value) = pair.ok_or_else(|| format!("{part:?} is not NAME=VALUE"))?;
        if options.iter().any(|(known, _)| known == name) {
            return Err(format!("{name} is given twice"));
        }
        options.push((name.to_owned(), value.to_owned()));
    }
    match kind {
        "" => Ok(Tokens::Off),
        "simple" => Ok(Tokens::Simple),
        "jwt" => Jwt::new(&options).map(|jwt| Tokens::Signed(Box::new(jwt))),
        other => Err(format!("{other:?} is neither \"simple\" nor \"jwt\"")),
    }
}

/// The part of a simple token that nobody can guess: 91 bits from the generator for secrets.
fn nonce() -> String {
    let mut random = rand::rng();
    (0..NONCE_LETTERS).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

/// How long a simple token lives unused; 0 stands for the default, as in etcd.
pub fn token_ttl(options: &AuthOptions) -> Duration {
    let seconds = if options.auth_token_ttl == 0 { DEFAULT_TTL_S } else { options.auth_token_ttl };
    Duration::from_secs(seconds)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn gate(auth_token: &str, trusts_names: bool) -> Gate {
        let options = AuthOptions { auth_token: auth_token.into(), bcrypt_cost: 4, ..AuthOptions::default() };
        Gate::new(&options, trusts_names).unwrap()
    }

    #[test]
    fn kinds_of_tokens() {
        let check = |text: &str, expected: Result<(), &str>| match (tokens(text).map(|_| ()), expected) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
            (found, expected) => panic!("{text}: {found:?} instead of {expected:?}"),
        };
        check("simple", Ok(()));
        check("", Ok(()));
        check("Simple", Err("neither"));
        check("jwt", Err("sign-method is missing"));
        check("jwt,sign-method", Err("is not NAME=VALUE"));
        check("jwt,sign-method=a=b", Err("is not NAME=VALUE"));
        check("jwt,ttl=1m,ttl=2m", Err("given twice"));
    }

    #[test]
    fn nonces_differ() {
        let (one, other) = (nonce(), nonce());
        assert!(one.len() == NONCE_LETTERS && one.bytes().all(|byte| byte.is_ascii_alphabetic()) && one != other);
    }

    #[tokio::test]
    async fn who_it_is() {
        let engine = Engine::in_memory(store::EngineOptions::default(), &base::Tasks::new());
        let check = |gate: &Gate, headers: &[(&'static str, &'static [u8])], name: Option<&str>, expected: &str| {
            let mut request = Request::new(());
            for (header, value) in headers {
                request.headers_mut().append(*header, HeaderValue::from_bytes(value).unwrap());
            }
            if let Some(name) = name {
                request.extensions_mut().insert(PeerName(name.into()));
            }
            let found = gate.identify(&engine, request.headers(), request.extensions());
            assert_eq!(format!("{found:?}"), expected, "{headers:?} {name:?}");
        };
        let simple = gate("simple", true);
        check(&simple, &[], None, "Anonymous");
        check(&simple, &[("token", b"a.1")], None, "Token(\"a.1\")");
        check(&simple, &[("authorization", b"a.1")], None, "Token(\"a.1\")");
        check(&simple, &[("authorization", b"b.2"), ("token", b"a.1")], Some("ann"), "Token(\"a.1\")");
        check(&simple, &[("token", b"\xff")], Some("ann"), "Invalid");
        check(&simple, &[], Some("ann"), "Named(\"ann\")");
        check(&simple, &[], Some(""), "Anonymous");
        check(&simple, &[("grpcgateway-accept", b"*/*")], Some("ann"), "Anonymous");
        check(&gate("simple", false), &[], Some("ann"), "Anonymous");
        check(&gate("", true), &[("token", b"a.1")], Some("ann"), "Invalid");
    }
}
