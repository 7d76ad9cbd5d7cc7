//! Users, roles and their commands as bytes: in the log and in checkpoints. Decoding never panics.

use std::collections::{BTreeMap, BTreeSet};

use super::{AuthCommand, AuthRecord, Caller, PasswordHash, Permission, PermissionKind, Role, User};
use crate::codec::{DecodeError, Reader, put_bytes, put_range, put_uint};
use crate::kv::KvError;

/// Of the stored section.
const FORMAT: u64 = 1;

pub(crate) fn encode_caller(out: &mut Vec<u8>, caller: &Caller) {
    match caller {
        Caller::Anonymous => out.push(0),
        Caller::Server => out.push(1),
        Caller::User { name, revision } => {
            out.push(2);
            put_text(out, name);
            put_uint(out, *revision);
        }
    }
}

pub(crate) fn decode_caller(reader: &mut Reader<'_>) -> Result<Caller, DecodeError> {
    Ok(match reader.byte()? {
        0 => Caller::Anonymous,
        1 => Caller::Server,
        2 => Caller::User { name: text(reader)?, revision: reader.uint()? },
        _ => return Err(DecodeError("an unknown kind of caller")),
    })
}

pub(crate) fn encode_command(out: &mut Vec<u8>, command: &AuthCommand) {
    match command {
        AuthCommand::Enable => out.push(0),
        AuthCommand::Disable => out.push(1),
        AuthCommand::Authenticate { user, nonce, revision } => {
            put_named(out, 2, user);
            put_text(out, nonce);
            put_uint(out, *revision);
        }
        AuthCommand::UserAdd { name, password, no_password } => {
            put_named(out, 3, name);
            put_bytes(out, &password.0);
            out.push(u8::from(*no_password));
        }
        AuthCommand::UserDelete { name } => put_named(out, 4, name),
        AuthCommand::UserChangePassword { name, password } => {
            put_named(out, 5, name);
            put_bytes(out, &password.0);
        }
        AuthCommand::UserGrantRole { user, role } => {
            put_named(out, 6, user);
            put_text(out, role);
        }
        AuthCommand::UserRevokeRole { user, role } => {
            put_named(out, 7, user);
            put_text(out, role);
        }
        AuthCommand::RoleAdd { name } => put_named(out, 8, name),
        AuthCommand::RoleDelete { name } => put_named(out, 9, name),
        AuthCommand::RoleGrantPermission { role, permission } => {
            put_named(out, 10, role);
            put_permission(out, permission);
        }
        AuthCommand::RoleRevokePermission { role, range } => {
            put_named(out, 11, role);
            put_range(out, range);
        }
    }
}

pub(crate) fn decode_command(reader: &mut Reader<'_>) -> Result<AuthCommand, DecodeError> {
    Ok(match reader.byte()? {
        0 => AuthCommand::Enable,
        1 => AuthCommand::Disable,
        2 => AuthCommand::Authenticate { user: text(reader)?, nonce: text(reader)?, revision: reader.uint()? },
        3 => AuthCommand::UserAdd { name: text(reader)?, password: PasswordHash(reader.bytes()?), no_password: flag(reader)? },
        4 => AuthCommand::UserDelete { name: text(reader)? },
        5 => AuthCommand::UserChangePassword { name: text(reader)?, password: PasswordHash(reader.bytes()?) },
        6 => AuthCommand::UserGrantRole { user: text(reader)?, role: text(reader)? },
        7 => AuthCommand::UserRevokeRole { user: text(reader)?, role: text(reader)? },
        8 => AuthCommand::RoleAdd { name: text(reader)? },
        9 => AuthCommand::RoleDelete { name: text(reader)? },
        10 => AuthCommand::RoleGrantPermission { role: text(reader)?, permission: permission(reader)? },
        11 => AuthCommand::RoleRevokePermission { role: text(reader)?, range: reader.range()? },
        _ => return Err(DecodeError("an unknown command about users and roles")),
    })
}

impl AuthRecord {
    /// The section as checkpoints hold it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_uint(&mut out, FORMAT);
        out.push(u8::from(self.enabled));
        put_uint(&mut out, self.revision);
        put_uint(&mut out, self.users.len() as u64);
        for (name, user) in &self.users {
            put_text(&mut out, name);
            put_bytes(&mut out, &user.password.0);
            out.push(u8::from(user.no_password));
            put_uint(&mut out, user.roles.len() as u64);
            for role in &user.roles {
                put_text(&mut out, role);
            }
        }
        put_uint(&mut out, self.roles.len() as u64);
        for (name, role) in &self.roles {
            put_text(&mut out, name);
            put_uint(&mut out, role.permissions.len() as u64);
            for permission in &role.permissions {
                put_permission(&mut out, permission);
            }
        }
        out
    }

    /// `Corrupt` for what `to_bytes` has not made.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KvError> {
        decode_record(bytes).map_err(|error| KvError::Corrupt(format!("users and roles cannot be understood: {error}")))
    }
}

fn decode_record(bytes: &[u8]) -> Result<AuthRecord, DecodeError> {
    let mut reader = Reader(bytes);
    if reader.uint()? > FORMAT {
        return Err(DecodeError("a newer version wrote them, use that version"));
    }
    let (enabled, revision) = (flag(&mut reader)?, reader.uint()?);
    let users: BTreeMap<_, _> = reader.list(|reader| Ok((text(reader)?, user(reader)?)))?.into_iter().collect();
    let roles: BTreeMap<_, _> = reader.list(|reader| Ok((text(reader)?, role(reader)?)))?.into_iter().collect();
    reader.end()?;
    Ok(AuthRecord { enabled, revision, users, roles })
}

fn user(reader: &mut Reader<'_>) -> Result<User, DecodeError> {
    let (password, no_password) = (PasswordHash(reader.bytes()?), flag(reader)?);
    let roles: BTreeSet<_> = reader.list(text)?.into_iter().collect();
    Ok(User { password, no_password, roles })
}

fn role(reader: &mut Reader<'_>) -> Result<Role, DecodeError> {
    Ok(Role { permissions: reader.list(permission)? })
}

fn permission(reader: &mut Reader<'_>) -> Result<Permission, DecodeError> {
    let kind = match reader.byte()? {
        0 => PermissionKind::Read,
        1 => PermissionKind::Write,
        2 => PermissionKind::ReadWrite,
        _ => return Err(DecodeError("an unknown kind of permission")),
    };
    Ok(Permission { kind, range: reader.range()? })
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError("an unknown flag")),
    }
}

fn text(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
    std::str::from_utf8(reader.slice()?).map(str::to_owned).map_err(|_| DecodeError("a name that is no UTF-8"))
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

fn put_named(out: &mut Vec<u8>, tag: u8, name: &str) {
    out.push(tag);
    put_text(out, name);
}

fn put_permission(out: &mut Vec<u8>, permission: &Permission) {
    out.push(permission.kind as u8);
    put_range(out, &permission.range);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kv::KeyRange;

    fn record() -> AuthRecord {
        let permission = |kind, range| Permission { kind, range };
        let role = Role {
            permissions: vec![
                permission(PermissionKind::Read, KeyRange::one("k")),
                permission(PermissionKind::ReadWrite, KeyRange::between("k", "\0")),
            ],
        };
        let user = User { password: PasswordHash("$2a$".into()), no_password: false, roles: ["r".to_owned(), "root".to_owned()].into() };
        let other = User { no_password: true, ..User::default() };
        AuthRecord {
            enabled: true,
            revision: 300,
            users: [("root".to_owned(), user), ("ä".to_owned(), other)].into(),
            roles: [("r".to_owned(), role)].into(),
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = AuthRecord::from_bytes(&bytes);
        }

        /// Whatever is read can be written and read again.
        #[test]
        fn damaged_sections_are_read_or_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut bytes = record().to_bytes();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            if let Ok(read) = AuthRecord::from_bytes(&bytes) {
                prop_assert_eq!(AuthRecord::from_bytes(&read.to_bytes()).unwrap(), read);
            }
        }
    }
}
