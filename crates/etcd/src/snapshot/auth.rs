//! Users and roles as etcd keeps them in its database (server/storage/schema/auth.go, auth_users.go, auth_roles.go), both ways. Pure.

use bytes::Bytes;
use prost::Message;
use store::{AuthRecord, AuthRole, AuthUser, PasswordHash, Permission, PermissionKind};

use super::schema;
use crate::convert::{key_range, range_end};
use crate::pb::authpb;
use authpb::permission::Type;

pub type Entries = Vec<(Bytes, Bytes)>;

/// The entries of the three buckets.
#[derive(Debug, Default)]
pub struct Buckets {
    pub auth: Entries,
    pub users: Entries,
    pub roles: Entries,
}

/// A bucket, an entry of it, and what is wrong there.
pub type Fault = (&'static [u8], Bytes, &'static str);

impl Buckets {
    pub fn of(record: &AuthRecord) -> Self {
        let users = record.users.iter().map(|(name, user)| {
            let user = authpb::User {
                name: name.clone().into(),
                password: user.password.0.clone(),
                roles: user.roles.iter().cloned().collect(),
                options: Some(authpb::UserAddOptions { no_password: user.no_password }),
            };
            (Bytes::from(name.clone()), user.encode_to_vec().into())
        });
        let roles = record.roles.iter().map(|(name, role)| {
            let key_permission = role.permissions.iter().map(permission_to_pb).collect();
            (Bytes::from(name.clone()), authpb::Role { name: name.clone().into(), key_permission }.encode_to_vec().into())
        });
        let auth = vec![
            (Bytes::from_static(schema::AUTH_ENABLED), Bytes::copy_from_slice(&[u8::from(record.enabled)])),
            (Bytes::from_static(schema::AUTH_REVISION), Bytes::copy_from_slice(&record.revision.to_be_bytes())),
        ];
        Self { users: users.collect(), roles: roles.collect(), auth }
    }

    pub fn to_record(&self) -> Result<AuthRecord, Fault> {
        let mut record = AuthRecord::default();
        for (key, value) in &self.auth {
            let wrong = |reason| (schema::AUTH, key.clone(), reason);
            match &key[..] {
                schema::AUTH_ENABLED => record.enabled = value[..] == [1],
                schema::AUTH_REVISION => {
                    record.revision = u64::from_be_bytes(value[..].try_into().map_err(|_| wrong("its value is no number"))?);
                }
                _ => return Err(wrong("a newer version of etcd wrote it")),
            }
        }
        for (key, value) in &self.users {
            let (name, user) = user(key, value).map_err(|reason| (schema::AUTH_USERS, key.clone(), reason))?;
            record.users.insert(name, user);
        }
        for (key, value) in &self.roles {
            let (name, role) = role(key, value).map_err(|reason| (schema::AUTH_ROLES, key.clone(), reason))?;
            record.roles.insert(name, role);
        }
        Ok(record)
    }
}

fn text(key: &Bytes, name: &Bytes) -> Result<String, &'static str> {
    if key != name {
        return Err("its value has another name");
    }
    String::from_utf8(name.to_vec()).map_err(|_| "its name is no UTF-8")
}

fn user(key: &Bytes, value: &Bytes) -> Result<(String, AuthUser), &'static str> {
    let user = authpb::User::decode(value.clone()).map_err(|_| "its value is no user")?;
    let no_password = user.options.is_some_and(|options| options.no_password);
    let name = text(key, &user.name)?;
    Ok((name, AuthUser { password: PasswordHash(user.password), no_password, roles: user.roles.into_iter().collect() }))
}

fn role(key: &Bytes, value: &Bytes) -> Result<(String, AuthRole), &'static str> {
    let role = authpb::Role::decode(value.clone()).map_err(|_| "its value is no role")?;
    let permissions = role.key_permission.into_iter().map(permission_from_pb).collect::<Result<Vec<_>, _>>()?;
    Ok((text(key, &role.name)?, AuthRole { permissions }))
}

fn permission_to_pb(permission: &Permission) -> authpb::Permission {
    let kind = match permission.kind {
        PermissionKind::Read => Type::Read,
        PermissionKind::Write => Type::Write,
        PermissionKind::ReadWrite => Type::Readwrite,
    };
    let (key, range_end) = range_end(permission.range.clone());
    authpb::Permission { perm_type: kind.into(), key, range_end }
}

fn permission_from_pb(permission: authpb::Permission) -> Result<Permission, &'static str> {
    let kind = match permission.perm_type() {
        Type::Read => PermissionKind::Read,
        Type::Write => PermissionKind::Write,
        Type::Readwrite => PermissionKind::ReadWrite,
    };
    if Type::try_from(permission.perm_type).is_err() {
        return Err("it permits something that is not known");
    }
    Ok(Permission { kind, range: key_range(permission.key, permission.range_end) })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use store::KeyRange;

    use super::*;

    fn record() -> AuthRecord {
        let permission = |kind, range| Permission { kind, range };
        let user = AuthUser { password: PasswordHash("$2a$10$x".into()), no_password: false, roles: ["root".to_owned()].into() };
        let guest = AuthUser { password: PasswordHash::default(), no_password: true, roles: ["r".to_owned()].into() };
        let role = AuthRole {
            permissions: vec![
                permission(PermissionKind::Read, KeyRange::one("a")),
                permission(PermissionKind::Write, KeyRange::between("b", "\0")),
                permission(PermissionKind::ReadWrite, KeyRange::between("c", "d")),
            ],
        };
        AuthRecord {
            enabled: true,
            revision: 9,
            users: BTreeMap::from([("root".into(), user), ("guest".into(), guest)]),
            roles: BTreeMap::from([("r".into(), role), ("root".into(), AuthRole::default())]),
        }
    }

    #[test]
    fn records_go_both_ways() {
        for record in [AuthRecord::default(), record()] {
            assert_eq!(Buckets::of(&record).to_record().unwrap(), record);
        }
        // As Debian's etcd writes a user without a password.
        let buckets = Buckets::of(&record());
        assert_eq!(&buckets.users[0].1[..], b"\x0a\x05guest\x1a\x01r\x22\x02\x08\x01");
        assert_eq!(&buckets.auth[0].1[..], b"\x01");
    }

    #[test]
    fn entries_that_are_none() {
        let entry = |key: &'static str, value: &'static [u8]| vec![(Bytes::from(key), Bytes::from_static(value))];
        let check = |buckets: Buckets, expected: &str| assert_eq!(buckets.to_record().unwrap_err().2, expected);
        check(Buckets { auth: entry("authRevision", b"\x01"), ..Buckets::default() }, "its value is no number");
        check(Buckets { auth: entry("other", b"\x01"), ..Buckets::default() }, "a newer version of etcd wrote it");
        check(Buckets { users: entry("u", b"\xff"), ..Buckets::default() }, "its value is no user");
        check(Buckets { users: entry("u", b"\x0a\x01v"), ..Buckets::default() }, "its value has another name");
        check(Buckets { roles: entry("u", b"\xff"), ..Buckets::default() }, "its value is no role");
        check(Buckets { roles: entry("r", b"\x0a\x01r\x12\x02\x08\x07"), ..Buckets::default() }, "it permits something that is not known");
    }
}
