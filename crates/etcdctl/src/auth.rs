//! `auth`: enable, disable, status. The rules are the server's.

use clap::{ArgMatches, Command};
use etcd::pb;
use prost::Message;

use crate::Ctl;
use crate::exit::{Failure, Outcome};
use crate::flags::{command, group, texts};
use crate::printer::messages::headed;
use crate::printer::{Answer, Known, Page, Style, say_line};

pub fn auth_command() -> Command {
    let members = vec![
        command("enable", "enable", "Enables authentication"),
        command("disable", "disable", "Disables authentication"),
        command("status", "status", "Returns authentication status"),
    ];
    group("auth", "auth <enable or disable>", "Enable or disable authentication", members)
}

pub async fn run(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    if !texts(matches).is_empty() {
        return Err(Failure::bad_args(format!("auth {name} command does not accept any arguments")));
    }
    match name {
        "enable" => {
            enable(ctl).await?;
            say_line("Authentication Enabled");
            Ok(())
        }
        "disable" => {
            ctl.within(ctl.connect().await?.auth().auth_disable(pb::AuthDisableRequest {})).await?;
            say_line("Authentication Disabled");
            Ok(())
        }
        _ => ctl.printer.print(&ctl.within(ctl.connect().await?.auth().auth_status(pb::AuthStatusRequest {})).await?),
    }
}

/// A root user without the role of that name gets it.
async fn enable(ctl: &Ctl) -> Outcome {
    let channel = ctl.connect().await?;
    match ctl.within(channel.auth().auth_enable(pb::AuthEnableRequest {})).await {
        Err(failure) if failure.text == "etcdserver: root user does not have root role" => {}
        answer => return answer.map(|_| ()),
    }
    let root = || "root".to_owned();
    match ctl.within(channel.auth().role_add(pb::AuthRoleAddRequest { name: root() })).await {
        Err(failure) if failure.text != "etcdserver: role name already exists" => return Err(failure),
        _ => {}
    }
    ctl.within(channel.auth().user_grant_role(pb::AuthUserGrantRoleRequest { user: root(), role: root() })).await?;
    ctl.within(channel.auth().auth_enable(pb::AuthEnableRequest {})).await.map(|_| ())
}

impl Answer for pb::AuthStatusResponse {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(format!("Authentication Status: {}", self.enabled));
        page.line(format!("AuthRevision: {}", self.auth_revision));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        Some(headed(&self.header).flag("enabled", self.enabled).number("authRevision", self.auth_revision).end())
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}
