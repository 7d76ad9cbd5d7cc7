//! `lease`: grant, revoke, timetolive, list, keep-alive, and how their answers look: upstream prints the client library's types, not the messages.

use std::time::Duration;

use clap::{ArgMatches, Command};
use etcd::pb::{self, ResponseHeader};
use futures::StreamExt;
use prost::Message;

use crate::connection::Channel;
use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, group, is_on, switch, texts};
use crate::printer::json::{self, Object};
use crate::printer::messages::{Header, headed, header_fields, header_into, only_header};
use crate::printer::{Answer, Format, Known, Page, Style, say_line};
use crate::{Ctl, go};

pub fn lease_command() -> Command {
    let timetolive = command("timetolive", "timetolive <leaseID> [options]", "Get lease information");
    let keep_alive = command("keep-alive", "keep-alive [options] <leaseID>", "Keeps leases alive (renew)");
    let members = vec![
        command("grant", "grant <ttl>", "Creates leases"),
        command("revoke", "revoke <leaseID>", "Revokes leases"),
        timetolive.arg(switch("keys", "Get keys attached to this lease")),
        command("list", "list", "List all active leases"),
        keep_alive.arg(switch("once", "Resets the keep-alive time to its original value and cobrautl.Exits immediately")),
    ];
    group("lease", "lease <subcommand>", "Lease related commands", members)
}

pub async fn run(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    let args = texts(matches);
    match name {
        "grant" => grant(ctl, &args).await,
        "revoke" => {
            let id = id_of(&args, "lease revoke command needs 1 argument")?;
            let answer = ctl.within(ctl.connect().await?.lease().lease_revoke(pb::LeaseRevokeRequest { id })).await;
            let header = answer.map_err(|failure| told("revoke", &failure))?.header;
            ctl.printer.print(&Revoked { id, header })
        }
        "timetolive" => {
            let id = id_of(&args, "lease timetolive command needs lease ID as argument")?;
            let keys = is_on(matches, "keys");
            let request = pb::LeaseTimeToLiveRequest { id, keys };
            let answer = ctl.within(ctl.connect().await?.lease().lease_time_to_live(request)).await;
            ctl.printer.print(&TimeToLive { answer: answer.map_err(|failure| failure.with_code(exit::BAD_CONNECTION))?, keys })
        }
        "list" => {
            let answer = ctl.within(ctl.connect().await?.lease().lease_leases(pb::LeaseLeasesRequest {})).await;
            ctl.printer.print(&answer.map_err(|failure| failure.with_code(exit::BAD_CONNECTION))?)
        }
        _ => keep_alive(ctl, id_of(&args, "lease keep-alive command needs lease ID as argument")?, is_on(matches, "once")).await,
    }
}

fn id_of(args: &[String], missing: &str) -> Outcome<i64> {
    let [id] = args else { return Err(Failure::bad_args(missing)) };
    go::parse_int(id, 16).map_err(|error| Failure::bad_args(format!("bad lease ID arg ({error}), expecting ID in Hex")))
}

fn told(what: &str, failure: &Failure) -> Failure {
    Failure::error(format!("failed to {what} lease ({})", failure.text))
}

async fn grant(ctl: &Ctl, args: &[String]) -> Outcome {
    let [ttl] = args else { return Err(Failure::bad_args("lease grant command needs TTL argument")) };
    let ttl = go::parse_int(ttl, 10).map_err(|error| Failure::bad_args(format!("bad TTL ({error})")))?;
    let answer = ctl.within(ctl.connect().await?.lease().lease_grant(pb::LeaseGrantRequest { ttl, id: 0 })).await;
    ctl.printer.print(&answer.map_err(|failure| told("grant", &failure))?)
}

async fn keep_alive(ctl: &Ctl, id: i64, once: bool) -> Outcome {
    let channel = ctl.connect().await?;
    if once {
        let answer = ctl.within(renew(&channel, id)).await.map_err(|failure| failure.with_code(exit::BAD_CONNECTION))?;
        if answer.ttl <= 0 {
            return Err(Failure::new(exit::BAD_CONNECTION, "etcdserver: requested lease not found"));
        }
        return ctl.printer.print(&answer);
    }
    loop {
        match renew(&channel, id).await {
            Ok(answer) if answer.get_ref().ttl <= 0 => break,
            Ok(answer) => {
                ctl.printer.print(answer.get_ref())?;
                tokio::time::sleep(third(answer.get_ref().ttl)).await;
            }
            // The lease may live on while no server answers.
            Err(status) if status.code() == tonic::Code::Unavailable => tokio::time::sleep(Duration::from_millis(500)).await,
            Err(status) => return Err(Failure::from(status).with_code(exit::BAD_CONNECTION)),
        }
    }
    if ctl.printer.format == Format::Simple {
        say_line(&format!("lease {id:016x} expired or revoked."));
    }
    Ok(())
}

/// A lease is renewed after a third of its time.
pub fn third(ttl_s: i64) -> Duration {
    Duration::from_millis(u64::try_from(ttl_s).unwrap_or(1).saturating_mul(1000) / 3)
}

pub async fn renew(channel: &Channel, id: i64) -> Result<tonic::Response<pb::LeaseKeepAliveResponse>, tonic::Status> {
    // The server answers as long as the request stream is open.
    let requests = tokio_stream::once(pb::LeaseKeepAliveRequest { id }).chain(futures::stream::pending());
    let mut answers = channel.lease().lease_keep_alive(requests).await?.into_inner();
    let answer = answers.message().await?;
    answer.map(tonic::Response::new).ok_or_else(|| tonic::Status::unavailable("the server ended a keep-alive without an answer"))
}

/// In `protobuf`, upstream's types are their headers.
fn header_message(header: &Header) -> Result<Vec<u8>, Option<String>> {
    Ok(header.as_ref().map(ResponseHeader::encode_to_vec).unwrap_or_default())
}

fn id_and_ttl(header: &Header, id: i64, ttl: i64, page: &mut Page) -> Known {
    header_fields(header, page);
    page.line(format!("\"ID\" : {id}"));
    page.line(format!("\"TTL\" : {ttl}"));
    true
}

impl Answer for pb::LeaseGrantResponse {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(format!("lease {:016x} granted with TTL({}s)", self.id, self.ttl));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let object = header_into(Object::new(), &self.header).raw("ID", &self.id.to_string()).raw("TTL", &self.ttl.to_string());
        Some(object.raw("Error", &json::string(&self.error)).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        id_and_ttl(&self.header, self.id, self.ttl, page)
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        header_message(&self.header)
    }
}

impl Answer for pb::LeaseKeepAliveResponse {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(format!("lease {:016x} keepalived with TTL({})", self.id, self.ttl));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let object = header_into(Object::new(), &self.header).raw("ID", &self.id.to_string());
        Some(object.raw("TTL", &self.ttl.to_string()).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        id_and_ttl(&self.header, self.id, self.ttl, page)
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        header_message(&self.header)
    }
}

struct Revoked {
    id: i64,
    header: Header,
}

impl Answer for Revoked {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(format!("lease {:016x} revoked", self.id));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        Some(headed(&self.header).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        only_header(&self.header, page)
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        let header = self.header.unwrap_or_default();
        let shown = format!(
            "cluster_id:{} member_id:{} revision:{} raft_term:{} ",
            header.cluster_id, header.member_id, header.revision, header.raft_term
        );
        Err(Some(format!("marshal unsupported for type clientv3.LeaseRevokeResponse ({{{shown}}})")))
    }
}

struct TimeToLive {
    answer: pb::LeaseTimeToLiveResponse,
    /// Whether the keys were asked for.
    keys: bool,
}

impl Answer for TimeToLive {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        let answer = &self.answer;
        if answer.granted_ttl == 0 && answer.ttl == -1 {
            page.line(format!("lease {:016x} already expired", answer.id));
            return true;
        }
        let mut text =
            format!("lease {:016x} granted with TTL({}s), remaining({}s)", answer.id, answer.granted_ttl, answer.ttl).into_bytes();
        if self.keys {
            text.extend_from_slice(b", attached keys([");
            text.extend_from_slice(&answer.keys.join(&b' '));
            text.extend_from_slice(b"])");
        }
        page.line(text);
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let answer = &self.answer;
        let object = header_into(Object::new(), &answer.header).raw("id", &answer.id.to_string()).raw("ttl", &answer.ttl.to_string());
        let keys: Vec<String> = answer.keys.iter().map(|key| json::base64(key)).collect();
        let keys = if keys.is_empty() { "null".to_owned() } else { json::array(&keys) };
        Some(object.raw("granted-ttl", &answer.granted_ttl.to_string()).raw("keys", &keys).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        let answer = &self.answer;
        id_and_ttl(&answer.header, answer.id, answer.ttl, page);
        page.line(format!("\"GrantedTTL\" : {}", answer.granted_ttl));
        answer.keys.iter().for_each(|key| page.line(format!("\"Key\" : {}", go::quote(key))));
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        header_message(&self.answer.header)
    }
}

impl Answer for pb::LeaseLeasesResponse {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(format!("found {} leases", self.leases.len()));
        self.leases.iter().for_each(|lease| page.line(format!("{:016x}", lease.id)));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let leases: Vec<String> = self.leases.iter().map(|lease| Object::new().raw("id", &lease.id.to_string()).end()).collect();
        Some(header_into(Object::new(), &self.header).raw("leases", &json::array(&leases)).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        self.leases.iter().for_each(|lease| page.line(format!("\"ID\" : {}", lease.id)));
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        header_message(&self.header)
    }
}
