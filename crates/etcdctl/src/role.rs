//! `role`: add, delete, get, list, grant-permission, revoke-permission. Permissions are kinds of access to ranges of keys.

use clap::{ArgMatches, Command};
use etcd::pb;
use etcd::pb::authpb::{Permission, permission};
use prost::Message;

use crate::connection::Channel;
use crate::exit::{Failure, Outcome};
use crate::flags::{command, group, is_on, switch, texts, words};
use crate::printer::json::Object;
use crate::printer::messages::{Done, Header, headed, header_fields};
use crate::printer::{Answer, Known, Page, Style};
use crate::{Ctl, go, keys};

pub fn role_command() -> Command {
    let grant =
        command("grant-permission", "grant-permission [options] <role name> <permission type> <key> [endkey]", "Grants a key to a role");
    let revoke = command("revoke-permission", "revoke-permission <role name> <key> [endkey]", "Revokes a key from a role");
    let members = vec![
        command("add", "add <role name>", "Adds a new role"),
        command("delete", "delete <role name>", "Deletes a role"),
        command("get", "get <role name>", "Gets detailed information of a role"),
        command("list", "list", "Lists all roles"),
        grant.args([
            switch("prefix", "grant a prefix permission"),
            switch("from-key", "grant a permission of keys that are greater than or equal to the given key using byte compare"),
        ]),
        revoke.args([
            switch("prefix", "revoke a prefix permission"),
            switch("from-key", "revoke a permission of keys that are greater than or equal to the given key using byte compare"),
        ]),
    ];
    group("role", "role <subcommand>", "Role related commands", members)
}

pub async fn run(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    match (name, args.as_slice()) {
        ("add", [role]) => {
            let answer = ctl.within(ctl.connect().await?.auth().role_add(pb::AuthRoleAddRequest { name: role.clone() })).await?;
            done(ctl, format!("Role {role} created"), answer.encode_to_vec(), answer.header)
        }
        ("delete", [role]) => {
            let answer = ctl.within(ctl.connect().await?.auth().role_delete(pb::AuthRoleDeleteRequest { role: role.clone() })).await?;
            done(ctl, format!("Role {role} deleted"), answer.encode_to_vec(), answer.header)
        }
        ("get", [role]) => show(ctl, &ctl.connect().await?, role).await,
        ("list", []) => ctl.printer.print(&ctl.within(ctl.connect().await?.auth().role_list(pb::AuthRoleListRequest {})).await?),
        ("list", _) => Err(Failure::bad_args("role list command requires no arguments")),
        ("grant-permission", [role, kind, _, ..]) => grant(ctl, matches, role, kind).await,
        ("grant-permission", _) => {
            Err(Failure::bad_args("role grant command requires role name, permission type, and key [endkey] as its argument"))
        }
        ("revoke-permission", [role, _, ..]) => revoke(ctl, matches, role).await,
        ("revoke-permission", _) => {
            Err(Failure::bad_args("role revoke-permission command requires role name and key [endkey] as its argument"))
        }
        (name, _) => Err(Failure::bad_args(format!("role {name} command requires role name as its argument"))),
    }
}

/// What a role may do.
pub async fn show(ctl: &Ctl, channel: &Channel, role: &str) -> Outcome {
    let answer = ctl.within(channel.auth().role_get(pb::AuthRoleGetRequest { role: role.to_owned() })).await?;
    ctl.printer.print(&Role { name: role.to_owned(), answer })
}

fn done(ctl: &Ctl, text: String, message: Vec<u8>, header: Header) -> Outcome {
    ctl.printer.print(&Done { text, header, message, in_fields: true })
}

async fn grant(ctl: &Ctl, matches: &ArgMatches, role: &str, kind: &str) -> Outcome {
    let access = permission::Type::from_str_name(&kind.to_uppercase());
    let access = access.ok_or_else(|| Failure::bad_args(format!("invalid permission type: {kind}")))?;
    let (key, range_end) = range(&words(matches)[2..], is_on(matches, "prefix"), is_on(matches, "from-key"))?;
    let perm = Some(Permission { perm_type: access.into(), key: key.into(), range_end: range_end.into() });
    let request = pb::AuthRoleGrantPermissionRequest { name: role.to_owned(), perm };
    let answer = ctl.within(ctl.connect().await?.auth().role_grant_permission(request)).await?;
    done(ctl, format!("Role {role} updated"), answer.encode_to_vec(), answer.header)
}

async fn revoke(ctl: &Ctl, matches: &ArgMatches, role: &str) -> Outcome {
    let (key, end) = range(&words(matches)[1..], is_on(matches, "prefix"), is_on(matches, "from-key"))?;
    let request = pb::AuthRoleRevokePermissionRequest { role: role.to_owned(), key: key.clone().into(), range_end: end.clone().into() };
    let answer = ctl.within(ctl.connect().await?.auth().role_revoke_permission(request)).await?;
    let what = if end.is_empty() { format!("key {}", String::from_utf8_lossy(&key)) } else { format!("range {}", range_text(&key, &end)) };
    done(ctl, format!("Permission of {what} is revoked from role {role}"), answer.encode_to_vec(), answer.header)
}

/// The empty key stands for all keys, which a permission names by their first.
fn range(args: &[Vec<u8>], prefix: bool, from_key: bool) -> Outcome<(Vec<u8>, Vec<u8>)> {
    if prefix && from_key {
        return Err(Failure::bad_args("--from-key and --prefix flags are mutually exclusive"));
    }
    let key = &args[0];
    match args.get(1) {
        _ if key.is_empty() => Ok((keys::OPEN_END.to_vec(), if prefix || from_key { keys::OPEN_END.to_vec() } else { Vec::new() })),
        None => Ok(keys::range(key, prefix, from_key)),
        Some(_) if prefix => Err(Failure::bad_args("unexpected endkey argument with --prefix flag")),
        Some(_) if from_key => Err(Failure::bad_args("unexpected endkey argument with --from-key flag")),
        Some(end) => Ok((key.clone(), end.clone())),
    }
}

fn range_text(key: &[u8], end: &[u8]) -> String {
    let (key, shown) = (String::from_utf8_lossy(key), String::from_utf8_lossy(end));
    if end == keys::OPEN_END { format!("[{key}, <open ended>") } else { format!("[{key}, {shown})") }
}

struct Role {
    name: String,
    answer: pb::AuthRoleGetResponse,
}

impl Answer for Role {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(format!("Role {}", self.name));
        for (title, access) in [("KV Read:", permission::Type::Read), ("KV Write:", permission::Type::Write)] {
            page.line(title);
            let allowed = |permission: &&Permission| [access, permission::Type::Readwrite].contains(&permission.perm_type());
            self.answer.perm.iter().filter(allowed).for_each(|permission| page.line(permission_line(permission)));
        }
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let permissions = self.answer.perm.iter().map(|permission| {
            let object = Object::new().number("permType", permission.perm_type).bytes("key", &permission.key);
            object.bytes("range_end", &permission.range_end).end()
        });
        Some(headed(&self.answer.header).list("perm", &permissions.collect::<Vec<_>>()).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.answer.header, page);
        for permission in &self.answer.perm {
            page.line(format!("\"PermType\" :  {}", permission.perm_type().as_str_name()));
            page.line(format!("\"Key\" : {}", go::quote(&permission.key)));
            page.line(format!("\"RangeEnd\" : {}", go::quote(&permission.range_end)));
        }
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.answer.encode_to_vec())
    }
}

fn permission_line(permission: &Permission) -> String {
    let key = String::from_utf8_lossy(&permission.key);
    if permission.range_end.is_empty() {
        return format!("\t{key}");
    }
    let range = range_text(&permission.key, &permission.range_end);
    let is_prefix = keys::prefix_end(&permission.key) == permission.range_end;
    if is_prefix { format!("\t{range} (prefix {key})") } else { format!("\t{range}") }
}

impl Answer for pb::AuthRoleListResponse {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        self.roles.iter().for_each(|role| page.line(role));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        Some(headed(&self.header).texts("roles", &self.roles).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        page.line(format!("\"Roles\" :{}", self.roles.iter().map(|role| format!(" {}", go::quote(role.as_bytes()))).collect::<String>()));
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_permissions() {
        let check = |args: &[&str], prefix, from_key, expected: Result<(&str, &str), &str>| {
            let args: Vec<Vec<u8>> = args.iter().map(|arg| arg.as_bytes().to_vec()).collect();
            let expected = expected.map(|(key, end)| (key.as_bytes().to_vec(), end.as_bytes().to_vec())).map_err(Failure::bad_args);
            assert_eq!(range(&args, prefix, from_key), expected, "{args:?}");
        };
        check(&["a"], false, false, Ok(("a", "")));
        check(&["a", "b"], false, false, Ok(("a", "b")));
        check(&["a"], true, false, Ok(("a", "b")));
        check(&["a"], false, true, Ok(("a", "\0")));
        check(&[""], false, false, Ok(("\0", "")));
        check(&[""], true, false, Ok(("\0", "\0")));
        check(&["a", "b"], true, false, Err("unexpected endkey argument with --prefix flag"));
        check(&["a"], true, true, Err("--from-key and --prefix flags are mutually exclusive"));
    }

    #[test]
    fn lines_of_permissions() {
        let check = |key: &str, end: &str, expected: &str| {
            let permission = Permission { perm_type: 2, key: key.to_owned().into(), range_end: end.to_owned().into() };
            assert_eq!(permission_line(&permission), expected);
        };
        check("x", "", "\tx");
        check("a", "c", "\t[a, c)");
        check("a", "b", "\t[a, b) (prefix a)");
        check("q", "\0", "\t[q, <open ended>");
    }
}
