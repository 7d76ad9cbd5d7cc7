//! Users, roles and what they may do: etcd's v3 auth (server/auth/store.go) as a section of the state machine. Pure: passwords come in hashed, and whether a
//! password or a signed token is right is found out before.
//!
//! A command says who it comes from (`Caller`); `check` decides when the command is applied, so that a change of permissions and a write are in one order on
//! all members. `handle` is how the rest of the program speaks for somebody.

mod access;
mod check;
mod codec;
mod error;
mod handle;
#[cfg(test)]
mod tests;
mod tokens;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use self::access::Access;
pub(crate) use self::codec::{decode_caller, decode_command, encode_caller, encode_command};
pub use self::error::AuthError;
pub(crate) use self::handle::ATTEMPTS;
pub use self::handle::{AuthStatus, Identity};
use self::tokens::Tokens;
use crate::kv::KeyRange;

/// The user and the role that may do everything and cannot be taken away while authentication is on.
pub const ROOT: &str = "root";

/// Who a command comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// Nobody has said who he is.
    Anonymous,
    /// The server itself: may do everything.
    Server,
    /// A user, known as such when users and roles were at this revision.
    User { name: String, revision: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionKind {
    Read = 0,
    Write = 1,
    ReadWrite = 2,
}

/// What a role allows on a range of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    pub kind: PermissionKind,
    pub range: KeyRange,
}

/// A bcrypt hash in its usual text form; empty: no password is right.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PasswordHash(pub Bytes);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub password: PasswordHash,
    /// Known by certificate or signed token only.
    pub no_password: bool,
    pub roles: BTreeSet<String>,
}

impl User {
    fn is_root(&self) -> bool {
        self.roles.contains(ROOT)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Role {
    /// In the order of their keys; one for each range.
    pub permissions: Vec<Permission>,
}

/// A change of users and roles, or a new token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthCommand {
    Enable,
    Disable,
    /// The password was right at this revision: gives out a token made of `nonce`.
    Authenticate {
        user: String,
        nonce: String,
        revision: u64,
    },
    UserAdd {
        name: String,
        password: PasswordHash,
        no_password: bool,
    },
    UserDelete {
        name: String,
    },
    UserChangePassword {
        name: String,
        password: PasswordHash,
    },
    UserGrantRole {
        user: String,
        role: String,
    },
    UserRevokeRole {
        user: String,
        role: String,
    },
    RoleAdd {
        name: String,
    },
    RoleDelete {
        name: String,
    },
    RoleGrantPermission {
        role: String,
        permission: Permission,
    },
    RoleRevokePermission {
        role: String,
        range: KeyRange,
    },
}

/// Everything of it that is stored: what a checkpoint and a snapshot file hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRecord {
    pub enabled: bool,
    /// Grows with each change; a new store's is 1.
    pub revision: u64,
    pub users: BTreeMap<String, User>,
    pub roles: BTreeMap<String, Role>,
}

impl Default for AuthRecord {
    fn default() -> Self {
        Self { enabled: false, revision: 1, users: BTreeMap::new(), roles: BTreeMap::new() }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Auth {
    record: AuthRecord,
    /// What each user may touch: follows from the record.
    access: HashMap<String, Access>,
    tokens: Tokens,
}

impl Auth {
    /// Takes over what was stored. Tokens are not: their users log in again.
    pub fn restore(&mut self, record: AuthRecord) {
        self.record = record;
        self.tokens.forget_all();
        self.access.clear();
        for name in self.record.users.keys().cloned().collect::<Vec<_>>() {
            self.refresh(&name);
        }
    }

    pub fn record(&self) -> &AuthRecord {
        &self.record
    }

    pub fn is_enabled(&self) -> bool {
        self.record.enabled
    }

    pub fn revision(&self) -> u64 {
        self.record.revision
    }

    /// How long a token lives unused; this member's own affair.
    pub fn set_token_ttl(&mut self, ttl_ms: u64) {
        self.tokens.set_ttl(ttl_ms);
    }

    /// Goes on with what is this member's own affair, after the state of another one was taken over. Who was logged in logs in again.
    pub fn keep_settings(&mut self, before: &Self) {
        self.tokens.keep_settings(&before.tokens);
    }

    /// After a start: the tokens of entries up to `index`, which an earlier life had already, are no longer good here.
    pub fn forget_tokens(&mut self, index: u64) {
        self.tokens.forget_earlier_life(index);
    }

    /// Carries out a command that was checked; the token, if it gives out one. `index` is its place in the log.
    pub fn apply(&mut self, index: u64, command: AuthCommand, now_ms: u64) -> Result<Option<String>, AuthError> {
        match command {
            AuthCommand::Enable => self.enable()?,
            AuthCommand::Disable => self.disable(),
            AuthCommand::Authenticate { user, nonce, revision } => {
                return self.authenticate(user, &nonce, revision, index, now_ms).map(Some);
            }
            AuthCommand::UserAdd { name, password, no_password } => self.user_add(name, password, no_password)?,
            AuthCommand::UserDelete { name } => self.user_delete(&name)?,
            AuthCommand::UserChangePassword { name, password } => self.user_change_password(&name, password)?,
            AuthCommand::UserGrantRole { user, role } => self.user_grant_role(&user, role)?,
            AuthCommand::UserRevokeRole { user, role } => self.user_revoke_role(&user, &role)?,
            AuthCommand::RoleAdd { name } => self.role_add(name)?,
            AuthCommand::RoleDelete { name } => self.role_delete(&name)?,
            AuthCommand::RoleGrantPermission { role, permission } => self.role_grant(&role, permission)?,
            AuthCommand::RoleRevokePermission { role, range } => self.role_revoke(&role, &range)?,
        }
        Ok(None)
    }

    fn enable(&mut self) -> Result<(), AuthError> {
        let root = self.record.users.get(ROOT).ok_or(AuthError::RootUserNotExist)?;
        if !root.is_root() {
            return Err(AuthError::RootRoleNotExist);
        }
        self.record.enabled = true;
        Ok(())
    }

    fn disable(&mut self) {
        if self.record.enabled {
            self.record.enabled = false;
            self.tokens.forget_all();
            self.changed();
        }
    }

    fn authenticate(&mut self, name: String, nonce: &str, revision: u64, index: u64, now_ms: u64) -> Result<String, AuthError> {
        if !self.record.enabled {
            return Err(AuthError::AuthNotEnabled);
        }
        if self.record.users.get(&name).is_none_or(|user| user.no_password) {
            return Err(AuthError::AuthFailed);
        }
        // The password that was right may have been changed since.
        if revision != self.record.revision {
            return Err(AuthError::AuthOldRevision);
        }
        let text = format!("{nonce}.{index}");
        self.tokens.assign(text.clone(), name, index, now_ms);
        Ok(text)
    }

    fn user_add(&mut self, name: String, password: PasswordHash, no_password: bool) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.record.users.contains_key(&name) {
            return Err(AuthError::UserAlreadyExist);
        }
        let password = if no_password { PasswordHash::default() } else { password };
        self.record.users.insert(name.clone(), User { password, no_password, roles: BTreeSet::new() });
        self.refresh(&name);
        self.changed();
        Ok(())
    }

    fn user_delete(&mut self, name: &str) -> Result<(), AuthError> {
        if self.record.enabled && name == ROOT {
            return Err(AuthError::InvalidAuthMgmt);
        }
        self.record.users.remove(name).ok_or(AuthError::UserNotFound)?;
        self.access.remove(name);
        self.tokens.forget_user(name);
        self.changed();
        Ok(())
    }

    fn user_change_password(&mut self, name: &str, password: PasswordHash) -> Result<(), AuthError> {
        let user = self.record.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        if !user.no_password {
            user.password = password;
        }
        self.tokens.forget_user(name);
        self.changed();
        Ok(())
    }

    fn user_grant_role(&mut self, name: &str, role: String) -> Result<(), AuthError> {
        let user = self.record.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        // The root role need not exist to be given.
        if role != ROOT && !self.record.roles.contains_key(&role) {
            return Err(AuthError::RoleNotFound);
        }
        if user.roles.insert(role) {
            self.refresh(name);
            self.changed();
        }
        Ok(())
    }

    fn user_revoke_role(&mut self, name: &str, role: &str) -> Result<(), AuthError> {
        if self.record.enabled && name == ROOT && role == ROOT {
            return Err(AuthError::InvalidAuthMgmt);
        }
        let user = self.record.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
        if !user.roles.remove(role) {
            return Err(AuthError::RoleNotGranted);
        }
        self.refresh(name);
        self.changed();
        Ok(())
    }

    fn role_add(&mut self, name: String) -> Result<(), AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.record.roles.contains_key(&name) {
            return Err(AuthError::RoleAlreadyExist);
        }
        self.record.roles.insert(name, Role::default());
        self.changed();
        Ok(())
    }

    fn role_delete(&mut self, name: &str) -> Result<(), AuthError> {
        if self.record.enabled && name == ROOT {
            return Err(AuthError::InvalidAuthMgmt);
        }
        self.record.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
        for user in self.users_with(name) {
            if let Some(user) = self.record.users.get_mut(&user) {
                user.roles.remove(name);
            }
            self.refresh(&user);
        }
        self.changed();
        Ok(())
    }

    fn role_grant(&mut self, name: &str, permission: Permission) -> Result<(), AuthError> {
        if !is_range(&permission.range) {
            return Err(AuthError::InvalidAuthMgmt);
        }
        let role = self.record.roles.get_mut(name).ok_or(AuthError::RoleNotFound)?;
        match role.permissions.iter_mut().find(|known| known.range == permission.range) {
            Some(known) => known.kind = permission.kind,
            None => {
                let place = role.permissions.partition_point(|known| known.range.key <= permission.range.key);
                role.permissions.insert(place, permission);
            }
        }
        self.role_changed(name);
        Ok(())
    }

    fn role_revoke(&mut self, name: &str, range: &KeyRange) -> Result<(), AuthError> {
        let role = self.record.roles.get_mut(name).ok_or(AuthError::RoleNotFound)?;
        let before = role.permissions.len();
        role.permissions.retain(|permission| permission.range != *range);
        if role.permissions.len() == before {
            return Err(AuthError::PermissionNotGranted);
        }
        self.role_changed(name);
        Ok(())
    }

    fn role_changed(&mut self, name: &str) {
        for user in self.users_with(name) {
            self.refresh(&user);
        }
        self.changed();
    }

    fn users_with(&self, role: &str) -> Vec<String> {
        self.record.users.iter().filter(|(_, user)| user.roles.contains(role)).map(|(name, _)| name.clone()).collect()
    }

    /// Who was known before must be looked at again.
    fn changed(&mut self) {
        self.record.revision += 1;
    }

    fn refresh(&mut self, name: &str) {
        if let Some(user) = self.record.users.get(name) {
            let roles = user.roles.iter().filter_map(|role| self.record.roles.get(role));
            let access = Access::of(roles.flat_map(|role| &role.permissions));
            self.access.insert(name.to_owned(), access);
        }
    }
}

/// Whether a permission can be given on it (isValidPermissionRange in range_perm_cache.go).
fn is_range(range: &KeyRange) -> bool {
    let is_open = |end: &Bytes| end.as_ref() == b"\0";
    !range.key.is_empty() && range.end.as_ref().is_none_or(|end| is_open(end) || range.key < *end)
}
