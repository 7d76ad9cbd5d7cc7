//! `alarm`, `move-leader`, `downgrade`: what an operator tells a cluster. The cluster decides.

use clap::{ArgMatches, Command};
use etcd::pb::{self, alarm_request::AlarmAction, downgrade_request::DowngradeAction};
use prost::Message;

use crate::exit::{Failure, Outcome};
use crate::flags::{command, group, texts};
use crate::printer::json::Object;
use crate::printer::messages::{Done, headed};
use crate::printer::{Answer, Known, Page, Style};
use crate::{Ctl, go};

pub fn alarm_command() -> Command {
    let members = vec![command("disarm", "disarm", "Disarms all alarms"), command("list", "list", "Lists all alarms")];
    group("alarm", "alarm <subcommand>", "Alarm related commands", members)
}

pub fn move_leader_command() -> Command {
    command("move-leader", "move-leader <transferee-member-id>", "Transfers leadership to another etcd cluster member.")
}

pub fn downgrade_command() -> Command {
    let members = vec![
        command("validate", "validate <TARGET_VERSION>", "Validate downgrade capability before starting downgrade"),
        command("enable", "enable <TARGET_VERSION>", "Start a downgrade action to cluster"),
        command("cancel", "cancel", "Cancel the ongoing downgrade action to cluster"),
    ];
    group("downgrade", "downgrade <TARGET_VERSION>", "Downgrade related commands", members)
}

pub async fn alarm(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    if !texts(matches).is_empty() {
        return Err(Failure::bad_args(format!("alarm {name} command accepts no arguments")));
    }
    let channel = ctl.connect().await?;
    let request = pb::AlarmRequest { action: AlarmAction::Get.into(), ..Default::default() };
    let list = ctl.within(channel.maintenance().alarm(request)).await?;
    if name == "list" {
        return ctl.printer.print(&list);
    }
    let mut disarmed = pb::AlarmResponse::default();
    for alarm in list.alarms {
        let request = pb::AlarmRequest { action: AlarmAction::Deactivate.into(), member_id: alarm.member_id, alarm: alarm.alarm };
        disarmed.alarms.extend(ctl.within(channel.maintenance().alarm(request)).await?.alarms);
    }
    ctl.printer.print(&disarmed)
}

/// Only the leader hands its office on, so it is looked for among the endpoints.
pub async fn move_leader(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    let [target] = &args[..] else { return Err(Failure::bad_args("move-leader command needs 1 argument")) };
    let target_id = go::parse_uint(target, 16).map_err(Failure::bad_args)?;
    for endpoint in &ctl.global.endpoints {
        let channel = ctl.connect_to(endpoint).await?;
        let status = ctl.within(channel.maintenance().status(pb::StatusRequest {})).await?;
        let leader = status.leader;
        if status.header.is_some_and(|header| header.member_id == leader) {
            let answer = ctl.within(channel.maintenance().move_leader(pb::MoveLeaderRequest { target_id })).await?;
            let text = format!("Leadership transferred from {leader:x} to {target_id:x}");
            let message = answer.encode_to_vec();
            return ctl.printer.print(&Done { text, header: answer.header, message, in_fields: false });
        }
    }
    Err(Failure::bad_args(format!("no leader endpoint given at [{}]", ctl.global.endpoints.join(" "))))
}

pub async fn downgrade(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    let mut args = texts(matches).into_iter();
    let (action, version) = match (name, args.next()) {
        ("cancel", _) => (DowngradeAction::Cancel, String::new()),
        (_, None) => return Err(Failure::bad_args("TARGET_VERSION not provided")),
        (_, Some(_)) if args.next().is_some() => return Err(Failure::bad_args("too many arguments")),
        (_, Some(version)) if version.is_empty() => return Err(Failure::bad_args("target version not provided")),
        ("validate", Some(version)) => (DowngradeAction::Validate, version),
        (_, Some(version)) => (DowngradeAction::Enable, version),
    };
    let request = pb::DowngradeRequest { action: action.into(), version };
    let answer = ctl.within(ctl.connect().await?.maintenance().downgrade(request)).await?;
    ctl.printer.print(&Downgraded { verb: name.to_owned(), answer })
}

struct Downgraded {
    verb: String,
    answer: pb::DowngradeResponse,
}

impl Answer for Downgraded {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(format!("Downgrade {} success, cluster version {}", self.verb, self.answer.version));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let object: Object = headed(&self.answer.header);
        Some(object.text("version", &self.answer.version).end())
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.answer.encode_to_vec())
    }
}
