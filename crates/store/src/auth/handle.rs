//! How the server speaks to the store for somebody: an engine with an identity. Whatever is done through it is allowed or refused as his.
//!
//! An engine without one is nobody's: once authentication is on it is refused everything that touches keys, so a caller that forgets whom it serves
//! cannot give anything away.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Auth, AuthCommand, AuthError, AuthRecord, Caller, PasswordHash, Permission, PermissionKind, ROOT, Role, tokens};
use crate::engine::Engine;
use crate::kv::*;
use crate::reply::Reply;
use crate::state::Command;

/// How long a token from the future is waited for: another member may have given it out a moment ago.
const TOKEN_WAIT: Duration = Duration::from_secs(2);
const TOKEN_POLL: Duration = Duration::from_millis(2);
/// How often a request is sent again because users or roles changed on its way.
pub(crate) const ATTEMPTS: u32 = 8;

/// What a request brought along to say whose it is. It is looked at only while authentication is on.
#[derive(Clone, Debug, Default)]
pub enum Identity {
    #[default]
    Anonymous,
    /// The server itself. Never for anything that a client sent.
    Server,
    /// A simple token.
    Token(Arc<str>),
    /// The name of a verified client certificate.
    Named(Arc<str>),
    /// A signed token whose signature is right.
    Signed { user: Arc<str>, revision: u64, expires_unix_ms: i64 },
    /// Something that cannot be right.
    Invalid,
}

impl Identity {
    /// Whether another look may find another caller.
    pub(crate) fn may_change(&self) -> bool {
        matches!(self, Self::Token(_) | Self::Named(_))
    }
}

/// What `auth status` tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthStatus {
    pub enabled: bool,
    pub revision: u64,
}

impl Auth {
    /// Who it is, as far as this member knows. `now_ms` is the clock of the store.
    pub fn resolve(&self, identity: &Identity, now_ms: u64) -> Result<Caller, AuthError> {
        if let Identity::Server = identity {
            return Ok(Caller::Server);
        }
        if !self.is_enabled() {
            return Ok(Caller::Anonymous);
        }
        let revision = self.revision();
        match identity {
            Identity::Anonymous => Ok(Caller::Anonymous),
            Identity::Server => Ok(Caller::Server),
            Identity::Named(name) => Ok(Caller::User { name: name.to_string(), revision }),
            Identity::Token(text) => {
                let name = self.tokens.user(text, now_ms).ok_or(AuthError::InvalidAuthToken)?;
                Ok(Caller::User { name: name.to_owned(), revision })
            }
            Identity::Signed { expires_unix_ms, .. } if *expires_unix_ms <= base::clock::unix_ms() => Err(AuthError::InvalidAuthToken),
            Identity::Signed { user, revision, .. } => Ok(Caller::User { name: user.to_string(), revision: *revision }),
            Identity::Invalid => Err(AuthError::InvalidAuthToken),
        }
    }
}

impl Engine {
    /// The same store, used in somebody's name.
    pub fn acting_as(&self, identity: Identity) -> Self {
        let mut engine = self.clone();
        engine.identity = identity;
        engine
    }

    /// Looks at users and roles together with who asks.
    fn auth<T>(&self, look: impl FnOnce(&Auth, &Caller) -> Result<T, AuthError>) -> Result<T, KvError> {
        let shared = self.shared();
        let state = shared.state.read();
        let caller = state.auth.resolve(&self.identity, shared.now_ms())?;
        Ok(look(&state.auth, &caller)?)
    }

    pub fn is_auth_enabled(&self) -> bool {
        self.shared().state.read().auth.is_enabled()
    }

    /// How often users and roles have changed, as far as this member knows.
    pub fn auth_revision(&self) -> u64 {
        self.shared().state.read().auth.revision()
    }

    /// How long a simple token lives unused on this member.
    pub fn set_token_ttl(&self, ttl: Duration) {
        self.shared().state.write().auth.set_token_ttl(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
    }

    /// Whether the identity is somebody, while authentication is on. `UserEmpty`, `InvalidAuthToken`.
    pub fn check_known(&self) -> Result<(), KvError> {
        self.auth(Auth::check_known)
    }

    /// Whether the identity has the root role, while authentication is on. `PermissionDenied` and what `check_known` answers.
    pub fn check_root(&self) -> Result<(), KvError> {
        self.auth(Auth::check_root)
    }

    /// Whether the identity may read these keys, as those of a lease.
    pub fn check_keys(&self, keys: &[Bytes]) -> Result<(), KvError> {
        self.auth(|auth, caller| auth.check_keys(caller, keys))
    }

    /// Waits, not for long, until this member knows a token that another one has given out.
    pub async fn await_token(&self, text: &str) {
        let Some(index) = tokens::index_of(text) else { return };
        let is_ahead = || {
            let state = self.shared().state.read();
            state.auth.is_enabled() && state.applied_index < index
        };
        let started = base::clock::monotonic();
        let mut pause = TOKEN_POLL;
        while is_ahead() && started.elapsed() < TOKEN_WAIT {
            tokio::time::sleep(pause).await;
            // Anybody can send a number: what never comes costs little.
            pause *= 2;
        }
    }

    /// Changes users or roles, which needs the root role. `KvError::Auth`.
    pub async fn change_auth(&self, command: AuthCommand) -> Result<(), KvError> {
        self.propose(Command::Auth(command)).await.map(|_| ())
    }

    /// The hash to compare a password with, and the revision at which it is the right one.
    /// `AuthNotEnabled`, `AuthFailed` where there is no such user, `NoPasswordUser`.
    pub async fn password_of(&self, user: &str) -> Result<(PasswordHash, u64), KvError> {
        self.read_barrier().await?;
        let state = self.shared().state.read();
        let record = state.auth.record();
        if !record.enabled {
            return Err(AuthError::AuthNotEnabled.into());
        }
        match record.users.get(user) {
            Some(user) if user.no_password => Err(AuthError::NoPasswordUser.into()),
            Some(user) => Ok((user.password.clone(), record.revision)),
            None => Err(AuthError::AuthFailed.into()),
        }
    }

    /// Gives out a simple token to a user whose password was right at `revision`; all members know it. `AuthOldRevision` where he must be asked again.
    pub async fn give_token(&self, user: String, nonce: String, revision: u64) -> Result<String, KvError> {
        match self.propose(Command::Auth(AuthCommand::Authenticate { user, nonce, revision })).await? {
            Reply::Token(text) => Ok(text),
            _ => Err(KvError::Internal("a login got another command's answer".into())),
        }
    }

    /// Needs the root role.
    pub async fn auth_status(&self) -> Result<AuthStatus, KvError> {
        self.read_barrier().await?;
        self.auth(|auth, caller| {
            auth.check_root(caller)?;
            Ok(AuthStatus { enabled: auth.is_enabled(), revision: auth.revision() })
        })
    }

    /// A user's roles, in order. Needs the root role or to be the user. `UserNotFound`.
    pub async fn user_roles(&self, name: &str) -> Result<Vec<String>, KvError> {
        self.read_barrier().await?;
        self.auth(|auth, caller| {
            auth.check_about_user(caller, name)?;
            let user = auth.record().users.get(name).ok_or(AuthError::UserNotFound)?;
            Ok(user.roles.iter().cloned().collect())
        })
    }

    /// A role's permissions. Needs the root role or to have the role. `RoleNotFound`.
    pub async fn role_permissions(&self, name: &str) -> Result<Vec<Permission>, KvError> {
        self.read_barrier().await?;
        self.auth(|auth, caller| {
            auth.check_about_role(caller, name)?;
            let Role { permissions } = auth.record().roles.get(name).ok_or(AuthError::RoleNotFound)?;
            if name == ROOT {
                // etcd's way of saying "everything" (rootPerm).
                return Ok(vec![Permission { kind: PermissionKind::ReadWrite, range: KeyRange::between("", "\0") }]);
            }
            Ok(permissions.clone())
        })
    }

    /// Names of all users, in order. Needs the root role.
    pub async fn user_names(&self) -> Result<Vec<String>, KvError> {
        self.names(|record| record.users.keys().cloned().collect()).await
    }

    /// Names of all roles, in order. Needs the root role.
    pub async fn role_names(&self) -> Result<Vec<String>, KvError> {
        self.names(|record| record.roles.keys().cloned().collect()).await
    }

    async fn names(&self, names: impl FnOnce(&AuthRecord) -> Vec<String>) -> Result<Vec<String>, KvError> {
        self.read_barrier().await?;
        self.auth(|auth, caller| {
            auth.check_root(caller)?;
            Ok(names(auth.record()))
        })
    }
}
