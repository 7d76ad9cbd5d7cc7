//! Who a request comes from: in-process callers, the front proxy, client certificates, bearer tokens, nobody; then impersonation.
//! The order is upstream's (pkg/kubeapiserver/authenticator/config.go).

mod bootstrap_token;
mod certificate;
mod front_proxy;
mod impersonation;
mod token_file;

use std::sync::Arc;

use api::StatusError;
use async_trait::async_trait;
use base::clock;
use hashbrown::HashMap;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use http::request::Parts;
use parking_lot::Mutex;

use super::identity::{ANONYMOUS, UNAUTHENTICATED, mark_authenticated, service_account_groups, split_service_account};
use super::service_account::ServiceAccounts;
use super::{AuthError, AuthOptions, Authenticator, Authorizer, PeerCertificates, UserInfo};
use crate::Objects;
use bootstrap_token::BootstrapTokens;
use certificate::Certificates;
use front_proxy::FrontProxy;
use token_file::TokenFile;

/// How long a token that was found good is believed without looking again (upstream: 10 s in config.go).
const TOKEN_CACHE_MS: i64 = 10_000;
const TOKEN_CACHE_SIZE: usize = 4096;

type NameAndGroups = (String, Vec<String>);

/// Everything that makes users of requests.
pub struct Chain {
    front_proxy: Option<FrontProxy>,
    certificates: Option<Certificates>,
    tokens: Arc<Tokens>,
    anonymous: Option<Arc<UserInfo>>,
    authorizer: Arc<dyn Authorizer>,
    in_process: Mutex<HashMap<NameAndGroups, Arc<UserInfo>>>,
}

impl Chain {
    pub fn new(options: &AuthOptions, tokens: Arc<Tokens>, authorizer: Arc<dyn Authorizer>, anonymous: bool) -> Result<Self, AuthError> {
        let nobody = UserInfo { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..UserInfo::default() };
        Ok(Self {
            front_proxy: FrontProxy::new(options)?,
            certificates: options.client_ca_file.as_deref().map(Certificates::new).transpose()?,
            tokens,
            anonymous: anonymous.then(|| Arc::new(nobody)),
            authorizer,
            in_process: Mutex::default(),
        })
    }

    async fn identify(&self, parts: &Parts) -> Result<Arc<UserInfo>, StatusError> {
        if let Some(user) = parts.extensions.get::<client::InProcessUser>() {
            return Ok(self.in_process_user(user));
        }
        if let Some(peer) = parts.extensions.get::<PeerCertificates>()
            && !peer.0.is_empty()
        {
            if let Some(user) = self.front_proxy.as_ref().and_then(|proxy| proxy.user(peer, &parts.headers)) {
                return Ok(Arc::new(user));
            }
            if let Some(user) = self.certificates.as_ref().and_then(|certificates| certificates.user(peer)) {
                return Ok(user);
            }
        }
        if let Some(token) = bearer_token(&parts.headers) {
            return self.tokens.user(token).ok_or_else(StatusError::unauthorized);
        }
        self.anonymous.clone().ok_or_else(StatusError::unauthorized)
    }

    fn in_process_user(&self, user: &client::InProcessUser) -> Arc<UserInfo> {
        let key = (user.name.clone(), user.groups.clone());
        let mut known = self.in_process.lock();
        if known.len() > TOKEN_CACHE_SIZE {
            known.clear();
        }
        known
            .entry(key)
            .or_insert_with(|| {
                let mut info = UserInfo { name: user.name.clone(), groups: user.groups.clone(), ..UserInfo::default() };
                if let Some((namespace, _)) = split_service_account(&user.name).filter(|_| user.groups.is_empty()) {
                    info.groups = service_account_groups(namespace);
                }
                mark_authenticated(&mut info);
                Arc::new(info)
            })
            .clone()
    }
}

#[async_trait]
impl Authenticator for Chain {
    async fn authenticate(&self, parts: &Parts) -> Result<Arc<UserInfo>, StatusError> {
        let user = self.identify(parts).await?;
        match impersonation::wanted(&parts.headers)? {
            Some(wanted) => wanted.apply(&user, self.authorizer.as_ref()).await.map(Arc::new),
            None => Ok(user),
        }
    }
}

/// The token of an `Authorization: Bearer` header; the scheme in any case.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?.trim();
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

struct Cached {
    user: Arc<UserInfo>,
    until_ms: i64,
}

/// Everything that knows bearer tokens.
pub struct Tokens {
    file: Option<TokenFile>,
    pub accounts: Arc<ServiceAccounts>,
    bootstrap: Option<BootstrapTokens>,
    known: Mutex<HashMap<String, Cached>>,
}

impl Tokens {
    pub fn new(options: &AuthOptions, accounts: Arc<ServiceAccounts>, objects: &Objects) -> Result<Self, AuthError> {
        Ok(Self {
            file: options.token_auth_file.as_deref().map(TokenFile::read).transpose()?,
            accounts,
            bootstrap: options.enable_bootstrap_token_auth.then(|| BootstrapTokens::new(objects.clone())),
            known: Mutex::default(),
        })
    }

    /// The user of a token that is meant for this API; in `system:authenticated`.
    pub fn user(&self, token: &str) -> Option<Arc<UserInfo>> {
        let now = clock::unix_ms();
        if let Some(cached) = self.known.lock().get(token)
            && now < cached.until_ms
        {
            return Some(cached.user.clone());
        }
        let (user, _) = self.review(token, &[])?;
        let mut known = self.known.lock();
        if known.len() >= TOKEN_CACHE_SIZE {
            known.retain(|_, cached| now < cached.until_ms);
            if known.len() >= TOKEN_CACHE_SIZE {
                known.clear();
            }
        }
        let user = Arc::new(user);
        known.insert(token.to_owned(), Cached { user: user.clone(), until_ms: now + TOKEN_CACHE_MS });
        Some(user)
    }

    /// The user of a token and the audiences, of those asked for (none: the API's own), that it is good for.
    pub fn review(&self, token: &str, audiences: &[String]) -> Option<(UserInfo, Vec<String>)> {
        let ours: &[String] = if audiences.is_empty() { self.accounts.audiences() } else { audiences };
        // Tokens without audiences of their own are for the API only.
        let plain = || ours.iter().filter(|a| self.accounts.audiences().contains(a)).cloned().collect::<Vec<_>>();
        let (mut user, good_for) = if let Some(user) = self.file.as_ref().and_then(|file| file.user(token)) {
            (user, plain())
        } else if let Some(found) = self.accounts.verify(token, ours) {
            found
        } else {
            (self.bootstrap.as_ref()?.user(token)?, plain())
        };
        if good_for.is_empty() && !ours.is_empty() {
            return None;
        }
        mark_authenticated(&mut user);
        Some((user, good_for))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens_are_found() {
        let check = |value: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().unwrap());
            assert_eq!(bearer_token(&headers), expected, "{value}");
        };
        check("Bearer abc", Some("abc"));
        check("bearer   abc ", Some("abc"));
        check("Basic abc", None);
        check("Bearer ", None);
        check("Bearer", None);
    }
}
