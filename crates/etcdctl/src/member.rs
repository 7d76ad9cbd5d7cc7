//! `member`: add, remove, update, promote, list. Decides nothing about a cluster.

use clap::{ArgMatches, Command};
use etcd::pb;
use prost::Message;

use crate::connection::Channel;
use crate::exit::{Failure, Outcome};
use crate::flags::{command, group, is_on, string, switch, text, texts};
use crate::printer::json::Object;
use crate::printer::messages::{Header, member_header_json, members_json, one_member_json};
use crate::printer::{Answer, Format, Known, Page, Style, say};
use crate::{Ctl, go};

pub fn member_command() -> Command {
    let members = vec![
        command("add", "add <memberName> [options]", "Adds a member into the cluster").args([
            text("peer-urls", "", "comma separated peer URLs for the new member."),
            switch("learner", "indicates if the new member is raft learner"),
        ]),
        command("remove", "remove <memberID>", "Removes a member from the cluster"),
        command("update", "update <memberID> [options]", "Updates a member in the cluster").arg(text(
            "peer-urls",
            "",
            "comma separated peer URLs for the updated member.",
        )),
        command("list", "list", "Lists all members in the cluster").long_about(
            "When --write-out is set to simple, this command prints out comma-separated member lists for each endpoint.\n\
             The items in the lists are ID, Status, Name, Peer Addrs, Client Addrs, Is Learner.",
        ),
        command("promote", "promote <memberID>", "Promotes a non-voting member in the cluster")
            .long_about("Promotes a non-voting learner member to a voting one in the cluster."),
    ];
    group("member", "member <subcommand>", "Membership related commands", members)
}

pub async fn run(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    match name {
        "add" => add(ctl, matches, &args).await,
        "remove" => {
            let id = id_of(&args)?;
            let answer = ctl.within(ctl.connect().await?.cluster().member_remove(pb::MemberRemoveRequest { id })).await?;
            let message = answer.encode_to_vec();
            ctl.printer.print(&Changed { id, verb: "removed from", member: None, header: answer.header, members: answer.members, message })
        }
        "update" => {
            let id = id_of(&args)?;
            let peer_ur_ls = peer_urls(matches)?;
            let request = pb::MemberUpdateRequest { id, peer_ur_ls };
            let answer = ctl.within(ctl.connect().await?.cluster().member_update(request)).await?;
            let message = answer.encode_to_vec();
            ctl.printer.print(&Changed { id, verb: "updated in", member: None, header: answer.header, members: answer.members, message })
        }
        "promote" => {
            let id = id_of(&args)?;
            let answer = ctl.within(ctl.connect().await?.cluster().member_promote(pb::MemberPromoteRequest { id })).await?;
            let message = answer.encode_to_vec();
            ctl.printer.print(&Changed { id, verb: "promoted in", member: None, header: answer.header, members: answer.members, message })
        }
        _ => ctl.printer.print(&list(ctl, &ctl.connect().await?).await?),
    }
}

pub async fn list(ctl: &Ctl, channel: &Channel) -> Outcome<pb::MemberListResponse> {
    let call = || {
        let mut client = channel.cluster();
        async move { client.member_list(pb::MemberListRequest { linearizable: true }).await }
    };
    ctl.read(channel, call).await
}

fn id_of(args: &[String]) -> Outcome<u64> {
    let [id] = args else { return Err(Failure::bad_args("member ID is not provided")) };
    go::parse_uint(id, 16).map_err(|error| Failure::bad_args(format!("bad member ID arg ({error}), expecting ID in Hex")))
}

fn peer_urls(matches: &ArgMatches) -> Outcome<Vec<String>> {
    match string(matches, "peer-urls").as_str() {
        "" => Err(Failure::bad_args("member peer urls not provided")),
        urls => Ok(urls.split(',').map(str::to_owned).collect()),
    }
}

async fn add(ctl: &Ctl, matches: &ArgMatches, args: &[String]) -> Outcome {
    let name = args.first().ok_or_else(|| Failure::bad_args("member name not provided"))?;
    if args.len() > 1 {
        let hints = args.iter().filter(|arg| arg.to_lowercase().starts_with("http"));
        let hints: String = hints.map(|arg| format!(", did you mean --peer-urls={arg}")).collect();
        return Err(Failure::bad_args(format!("too many arguments{hints}")));
    }
    let peer_ur_ls = peer_urls(matches)?;
    let request = pb::MemberAddRequest { peer_ur_ls: peer_ur_ls.clone(), is_learner: is_on(matches, "learner") };
    let answer = ctl.within(ctl.connect().await?.cluster().member_add(request)).await?;
    let message = answer.encode_to_vec();
    let id = answer.member.as_ref().map_or(0, |member| member.id);
    let added = Changed { id, verb: "added to", member: answer.member, header: answer.header, members: answer.members, message };
    ctl.printer.print(&added)?;
    if ctl.printer.format == Format::Simple {
        say(start_of(name, &peer_ur_ls, &added).as_bytes());
    }
    Ok(())
}

/// The variables that the new member is to be started with.
fn start_of(name: &str, peer_urls: &[String], added: &Changed) -> String {
    let cluster = added.members.iter().flat_map(|member| {
        let name = if member.id == added.id { name } else { &member.name };
        member.peer_ur_ls.iter().map(move |url| format!("{name}={url}"))
    });
    let quote = |text: &str| go::quote(text.as_bytes());
    format!(
        "\nETCD_NAME={}\nETCD_INITIAL_CLUSTER={}\nETCD_INITIAL_ADVERTISE_PEER_URLS={}\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n",
        quote(name),
        quote(&cluster.collect::<Vec<_>>().join(",")),
        quote(&peer_urls.join(","))
    )
}

/// A change of one member.
struct Changed {
    id: u64,
    verb: &'static str,
    member: Option<pb::Member>,
    header: Header,
    members: Vec<pb::Member>,
    /// As the server sent it.
    message: Vec<u8>,
}

impl Answer for Changed {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        let cluster = self.header.as_ref().map_or(0, |header| header.cluster_id);
        page.line(format!("Member {:16x} {} cluster {cluster:16x}", self.id, self.verb));
        true
    }

    fn json(&self, style: Style) -> Option<String> {
        let object = Object::new().optional("header", member_header_json(&self.header, style));
        Some(members_json(one_member_json(object, self.member.as_ref(), style), &self.members, style))
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.message.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added() -> Changed {
        let member = |id, name: &str, url: &str| pb::Member { id, name: name.into(), peer_ur_ls: vec![url.into()], ..Default::default() };
        let members = vec![member(0x10, "m1", "http://a:1"), member(0xd7, "", "http://b:1")];
        let header = Some(pb::ResponseHeader { cluster_id: 0x48, ..Default::default() });
        Changed { id: 0xd7, verb: "added to", member: Some(members[1].clone()), header, members, message: Vec::new() }
    }

    #[test]
    fn a_new_member_is_told_how_to_start() {
        let expected = "\nETCD_NAME=\"x\"\nETCD_INITIAL_CLUSTER=\"m1=http://a:1,x=http://b:1\"\n\
                        ETCD_INITIAL_ADVERTISE_PEER_URLS=\"http://b:1\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\"\n";
        assert_eq!(start_of("x", &["http://b:1".into()], &added()), expected);
    }

    #[test]
    fn formats() {
        let mut page = Page::default();
        assert!(added().simple(Style::default(), &mut page));
        assert_eq!(String::from_utf8(page.0).unwrap(), "Member               d7 added to cluster               48\n");
        let json = added().json(Style { hex: true, value_only: false }).unwrap();
        assert!(
            json.starts_with(r#"{"header":{"cluster_id":"48","member_id":"0"},"member":{"ID":"d7","peerURLs":["http://b:1"]},"members":["#),
            "{json}"
        );
    }
}
