//! `user`: add, delete, get, list, passwd, grant-role, revoke-role. Passwords come from the command line, a terminal or standard input.

use clap::{ArgMatches, Command};
use etcd::pb::{self, authpb};
use prost::Message;

use crate::exit::{Failure, Outcome};
use crate::flags::{command, group, is_on, string, switch, switch_from, text, texts};
use crate::printer::messages::{Done, Header, headed};
use crate::printer::{Answer, Known, Page, Style, say};
use crate::{Ctl, role, terminal};

pub fn user_command() -> Command {
    let add = command("add", "add <user name or user:password> [options]", "Adds a new user").args([
        switch_from("interactive", "true", "Read password from stdin instead of interactive terminal"),
        text("new-user-password", "", "Supply password from the command line flag"),
        switch("no-password", "Create a user without password (CN based auth only)"),
    ]);
    let get = command("get", "get <user name> [options]", "Gets detailed information of a user");
    let passwd = command("passwd", "passwd <user name> [options]", "Changes password of user");
    let members = vec![
        add,
        command("delete", "delete <user name>", "Deletes a user"),
        get.arg(switch("detail", "Show permissions of roles granted to the user")),
        command("list", "list", "Lists all users"),
        passwd.arg(switch_from("interactive", "true", "If true, read password from stdin instead of interactive terminal")),
        command("grant-role", "grant-role <user name> <role name>", "Grants a role to a user"),
        command("revoke-role", "revoke-role <user name> <role name>", "Revokes a role from a user"),
    ];
    group("user", "user <subcommand>", "User related commands", members)
}

pub async fn run(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    match (name, args.as_slice()) {
        ("add", [user]) => add(ctl, matches, user).await,
        ("delete", [user]) => {
            let request = pb::AuthUserDeleteRequest { name: user.clone() };
            let answer = ctl.within(ctl.connect().await?.auth().user_delete(request)).await?;
            done(ctl, format!("User {user} deleted"), answer.encode_to_vec(), answer.header)
        }
        ("get", [user]) => get(ctl, user, is_on(matches, "detail")).await,
        ("list", []) => ctl.printer.print(&ctl.within(ctl.connect().await?.auth().user_list(pb::AuthUserListRequest {})).await?),
        ("passwd", [user]) => {
            let password = if is_on(matches, "interactive") { new_password(user)? } else { terminal::read_word()? };
            let request = pb::AuthUserChangePasswordRequest { name: user.clone(), password, ..Default::default() };
            let answer = ctl.within(ctl.connect().await?.auth().user_change_password(request)).await?;
            done(ctl, "Password updated".into(), answer.encode_to_vec(), answer.header)
        }
        ("grant-role", [user, role]) => {
            let request = pb::AuthUserGrantRoleRequest { user: user.clone(), role: role.clone() };
            let answer = ctl.within(ctl.connect().await?.auth().user_grant_role(request)).await?;
            done(ctl, format!("Role {role} is granted to user {user}"), answer.encode_to_vec(), answer.header)
        }
        ("revoke-role", [user, role]) => {
            let request = pb::AuthUserRevokeRoleRequest { name: user.clone(), role: role.clone() };
            let answer = ctl.within(ctl.connect().await?.auth().user_revoke_role(request)).await?;
            done(ctl, format!("Role {role} is revoked from user {user}"), answer.encode_to_vec(), answer.header)
        }
        ("list", _) => Err(Failure::bad_args("user list command requires no arguments")),
        ("grant-role", _) => Err(Failure::bad_args("user grant command requires user name and role name as its argument")),
        ("revoke-role", _) => Err(Failure::bad_args("user revoke-role requires user name and role name as its argument")),
        (name, _) => Err(Failure::bad_args(format!("user {name} command requires user name as its argument"))),
    }
}

fn done(ctl: &Ctl, text: String, message: Vec<u8>, header: Header) -> Outcome {
    ctl.printer.print(&Done { text, header, message, in_fields: true })
}

async fn add(ctl: &Ctl, matches: &ArgMatches, argument: &str) -> Outcome {
    let no_password = is_on(matches, "no-password");
    let from_flag = string(matches, "new-user-password");
    let (name, password) = match argument.split_once(':') {
        _ if no_password => (argument, String::new()),
        _ if !from_flag.is_empty() => (argument, from_flag),
        Some(("", _)) => return Err(Failure::bad_args("empty user name is not allowed")),
        Some((name, password)) => (name, password.to_owned()),
        None if is_on(matches, "interactive") => (argument, new_password(argument)?),
        None => (argument, terminal::read_word()?),
    };
    let options = Some(authpb::UserAddOptions { no_password });
    let request = pb::AuthUserAddRequest { name: name.to_owned(), password, options, ..Default::default() };
    let answer = ctl.within(ctl.connect().await?.auth().user_add(request)).await?;
    done(ctl, format!("User {name} created"), answer.encode_to_vec(), answer.header)
}

/// Asked for twice.
fn new_password(user: &str) -> Outcome<String> {
    let first = terminal::ask_password(&format!("Password of {user}: "))?;
    if first.is_empty() {
        return Err(Failure::bad_args("empty password"));
    }
    if first != terminal::ask_password(&format!("Type password of {user} again for confirmation: "))? {
        return Err(Failure::bad_args("given passwords are different"));
    }
    Ok(first)
}

async fn get(ctl: &Ctl, name: &str, detail: bool) -> Outcome {
    let channel = ctl.connect().await?;
    let answer = ctl.within(channel.auth().user_get(pb::AuthUserGetRequest { name: name.to_owned() })).await?;
    if !detail {
        return ctl.printer.print(&User { name: name.to_owned(), answer });
    }
    say(format!("User: {name}\n").as_bytes());
    for name in answer.roles {
        say(b"\n");
        role::show(ctl, &channel, &name).await?;
    }
    Ok(())
}

struct User {
    name: String,
    answer: pb::AuthUserGetResponse,
}

impl Answer for User {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(format!("User: {}", self.name));
        page.line(format!("Roles:{}", self.answer.roles.iter().map(|role| format!(" {role}")).collect::<String>()));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        Some(headed(&self.answer.header).texts("roles", &self.answer.roles).end())
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.answer.encode_to_vec())
    }
}

impl Answer for pb::AuthUserListResponse {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        self.users.iter().for_each(|user| page.line(user));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        Some(headed(&self.header).texts("users", &self.users).end())
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}
