//! How etcd's messages look in each format (etcdctl/ctlv3/command/printer*.go). Where upstream prints the client library's own type instead of the
//! message, so does this. Asks no server anything.

use etcd::pb::{self, Event, KeyValue, ResponseHeader, compare, mvccpb, response_op};
use prost::Message;

use super::json::{self, Object};
use super::{Answer, Known, Page, Style, Table};
use crate::go;

/// `header` of a message, for all formats. Upstream's `fields` breaks down where there is none; here nothing is printed of it.
pub type Header = Option<ResponseHeader>;

pub fn header_fields(header: &Header, page: &mut Page) {
    if let Some(header) = header {
        page.line(format!("\"ClusterID\" : {}", header.cluster_id));
        page.line(format!("\"MemberID\" : {}", header.member_id));
        page.line(format!("\"Revision\" : {}", header.revision));
        page.line(format!("\"RaftTerm\" : {}", header.raft_term));
    }
}

/// The fields of a header, into an object that may have more.
pub fn header_into(object: Object, header: &Header) -> Object {
    let Some(header) = header else { return object };
    let object = object.number("cluster_id", header.cluster_id).number("member_id", header.member_id);
    object.number("revision", header.revision).number("raft_term", header.raft_term)
}

pub fn header_json(header: &Header) -> Option<String> {
    header.as_ref().map(|_| header_into(Object::new(), header).end())
}

/// With `--hex`, the messages about members show ids as hexadecimal text.
pub fn member_header_json(header: &Header, style: Style) -> Option<String> {
    let (true, Some(known)) = (style.hex, header) else { return header_json(header) };
    let object = Object::new();
    let object = object.raw("cluster_id", &format!("\"{:x}\"", known.cluster_id)).raw("member_id", &format!("\"{:x}\"", known.member_id));
    Some(object.number("revision", known.revision).number("raft_term", known.raft_term).end())
}

/// An object that starts with a header.
pub fn headed(header: &Header) -> Object {
    Object::new().optional("header", header_json(header))
}

/// A message of which only the header has content.
pub fn only_header(header: &Header, page: &mut Page) -> Known {
    header_fields(header, page);
    true
}

pub fn pair_json(pair: &KeyValue) -> String {
    let object = Object::new().bytes("key", &pair.key).number("create_revision", pair.create_revision);
    let object = object.number("mod_revision", pair.mod_revision).number("version", pair.version);
    object.bytes("value", &pair.value).number("lease", pair.lease).end()
}

fn pairs_json(pairs: &[KeyValue]) -> Vec<String> {
    pairs.iter().map(pair_json).collect()
}

fn pair_fields(prefix: &str, pair: &KeyValue, page: &mut Page) {
    page.line(format!("\"{prefix}Key\" : {}", go::quote(&pair.key)));
    page.line(format!("\"{prefix}CreateRevision\" : {}", pair.create_revision));
    page.line(format!("\"{prefix}ModRevision\" : {}", pair.mod_revision));
    page.line(format!("\"{prefix}Version\" : {}", pair.version));
    page.line(format!("\"{prefix}Value\" : {}", go::quote(&pair.value)));
    page.line(format!("\"{prefix}Lease\" : {}", pair.lease));
}

fn pair_simple(pair: &KeyValue, style: Style, page: &mut Page) {
    let mut show = |bytes: &[u8]| match style.hex {
        true => page.line(bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>()),
        false => page.line(bytes),
    };
    if !style.value_only {
        show(&pair.key);
    }
    show(&pair.value);
}

impl Answer for pb::RangeResponse {
    fn simple(&self, style: Style, page: &mut Page) -> Known {
        self.kvs.iter().for_each(|pair| pair_simple(pair, style, page));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let object = headed(&self.header).list("kvs", &pairs_json(&self.kvs)).flag("more", self.more);
        Some(object.number("count", self.count).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        self.kvs.iter().for_each(|pair| pair_fields("", pair, page));
        page.line(format!("\"More\" : {}", self.more));
        page.line(format!("\"Count\" : {}", self.count));
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}

impl Answer for pb::PutResponse {
    fn simple(&self, style: Style, page: &mut Page) -> Known {
        page.line("OK");
        self.prev_kv.iter().for_each(|pair| pair_simple(pair, style, page));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        Some(headed(&self.header).optional("prev_kv", self.prev_kv.as_ref().map(pair_json)).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        self.prev_kv.iter().for_each(|pair| pair_fields("Prev", pair, page));
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}

impl Answer for pb::DeleteRangeResponse {
    fn simple(&self, style: Style, page: &mut Page) -> Known {
        page.line(self.deleted.to_string());
        self.prev_kvs.iter().for_each(|pair| pair_simple(pair, style, page));
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        Some(headed(&self.header).number("deleted", self.deleted).list("prev_kvs", &pairs_json(&self.prev_kvs)).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        page.line(format!("\"Deleted\" : {}", self.deleted));
        self.prev_kvs.iter().for_each(|pair| pair_fields("Prev", pair, page));
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}

impl Answer for pb::TxnResponse {
    fn simple(&self, style: Style, page: &mut Page) -> Known {
        page.line(if self.succeeded { "SUCCESS" } else { "FAILURE" });
        for part in parts(self) {
            page.line("");
            part.simple(style, page);
        }
        true
    }

    fn json(&self, style: Style) -> Option<String> {
        let responses: Vec<String> =
            self.responses.iter().filter_map(|response| response.response.as_ref()).map(|r| op_json(r, style)).collect();
        Some(headed(&self.header).flag("succeeded", self.succeeded).list("responses", &responses).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        page.line(format!("\"Succeeded\" : {}", self.succeeded));
        for part in parts(self) {
            part.fields(page);
        }
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}

fn parts(txn: &pb::TxnResponse) -> impl Iterator<Item = &dyn Answer> {
    txn.responses.iter().filter_map(|response| response.response.as_ref()).map(part)
}

fn part(response: &response_op::Response) -> &dyn Answer {
    match response {
        response_op::Response::ResponseRange(range) => range,
        response_op::Response::ResponsePut(put) => put,
        response_op::Response::ResponseDeleteRange(delete) => delete,
        response_op::Response::ResponseTxn(txn) => txn,
    }
}

/// `oneof` in Go is a struct in a struct: `{"Response":{"response_put":{..}}}`.
fn op_json(response: &response_op::Response, style: Style) -> String {
    let name = match response {
        response_op::Response::ResponseRange(_) => "response_range",
        response_op::Response::ResponsePut(_) => "response_put",
        response_op::Response::ResponseDeleteRange(_) => "response_delete_range",
        response_op::Response::ResponseTxn(_) => "response_txn",
    };
    Object::new().raw("Response", &Object::new().optional(name, part(response).json(style)).end()).end()
}

impl Answer for pb::WatchResponse {
    fn simple(&self, style: Style, page: &mut Page) -> Known {
        for event in &self.events {
            page.line(event_name(event));
            event.prev_kv.iter().chain(&event.kv).for_each(|pair| pair_simple(pair, style, page));
        }
        true
    }

    /// The client library's struct, whose fields have no other names and are never left out.
    fn json(&self, _style: Style) -> Option<String> {
        let events: Vec<String> = self.events.iter().map(event_json).collect();
        let object = Object::new().raw("Header", &header_into(Object::new(), &self.header).end());
        let object = object.raw("Events", &json::array(&events)).raw("CompactRevision", &self.compact_revision.to_string());
        Some(object.raw("Canceled", &self.canceled.to_string()).raw("Created", &self.created.to_string()).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        for event in &self.events {
            page.line(format!("\"Type\" : {}", event_name(event)));
            event.prev_kv.iter().for_each(|pair| pair_fields("Prev", pair, page));
            event.kv.iter().for_each(|pair| pair_fields("", pair, page));
        }
        true
    }

    /// Without the id of the watch, which the client library does not show.
    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(Self { watch_id: 0, cancel_reason: String::new(), fragment: false, ..self.clone() }.encode_to_vec())
    }
}

pub fn event_name(event: &Event) -> &'static str {
    match event.r#type() {
        mvccpb::event::EventType::Put => "PUT",
        mvccpb::event::EventType::Delete => "DELETE",
    }
}

fn event_json(event: &Event) -> String {
    let object = Object::new().number("type", event.r#type).optional("kv", event.kv.as_ref().map(pair_json));
    object.optional("prev_kv", event.prev_kv.as_ref().map(pair_json)).end()
}

impl Answer for pb::AlarmResponse {
    /// As Go prints the message.
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        for alarm in &self.alarms {
            let mut text = String::new();
            if alarm.member_id != 0 {
                text.push_str(&format!("memberID:{} ", alarm.member_id));
            }
            if alarm.alarm != 0 {
                text.push_str(&format!("alarm:{} ", alarm.alarm().as_str_name()));
            }
            page.line(text);
        }
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let alarms = self.alarms.iter().map(|alarm| Object::new().number("memberID", alarm.member_id).number("alarm", alarm.alarm).end());
        Some(headed(&self.header).list("alarms", &alarms.collect::<Vec<_>>()).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        for alarm in &self.alarms {
            page.line(format!("\"MemberID\" : {}", alarm.member_id));
            page.line(format!("\"AlarmType\" : {}", alarm.alarm().as_str_name()));
            page.line("");
        }
        true
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}

fn member_json(member: &pb::Member, style: Style) -> String {
    let object = Object::new();
    let object = if style.hex { object.raw("ID", &format!("\"{:x}\"", member.id)) } else { object.number("ID", member.id) };
    let object = object.text("name", &member.name).texts("peerURLs", &member.peer_ur_ls).texts("clientURLs", &member.client_ur_ls);
    object.flag("isLearner", member.is_learner).end()
}

/// The list of a message about members, after its header and what stands before the list.
pub fn members_json(object: Object, members: &[pb::Member], style: Style) -> String {
    let members: Vec<String> = members.iter().map(|member| member_json(member, style)).collect();
    // Upstream's struct for `--hex` never leaves the list out.
    if style.hex { object.raw("members", &json::array(&members)).end() } else { object.list("members", &members).end() }
}

pub fn one_member_json(object: Object, member: Option<&pb::Member>, style: Style) -> Object {
    object.optional("member", member.map(|member| member_json(member, style)))
}

impl Answer for pb::MemberListResponse {
    fn json(&self, style: Style) -> Option<String> {
        Some(members_json(Object::new().optional("header", member_header_json(&self.header, style)), &self.members, style))
    }

    fn fields(&self, page: &mut Page) -> Known {
        header_fields(&self.header, page);
        for member in &self.members {
            page.line(format!("\"ID\" : {}", member.id));
            page.line(format!("\"Name\" : {}", go::quote(member.name.as_bytes())));
            member.peer_ur_ls.iter().for_each(|url| page.line(format!("\"PeerURL\" : {}", go::quote(url.as_bytes()))));
            member.client_ur_ls.iter().for_each(|url| page.line(format!("\"ClientURL\" : {}", go::quote(url.as_bytes()))));
            page.line(format!("\"IsLearner\" : {}", member.is_learner));
            page.line("");
        }
        true
    }

    fn table(&self) -> Option<Table> {
        let rows = self.members.iter().map(|member| {
            vec![
                format!("{:x}", member.id),
                if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
                member.name.clone(),
                member.peer_ur_ls.join(","),
                member.client_ur_ls.join(","),
                member.is_learner.to_string(),
            ]
        });
        Some(Table { titles: &["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"], rows: rows.collect() })
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.encode_to_vec())
    }
}

/// What a command has done, of which the message tells only a header.
pub struct Done {
    /// A line for `simple`.
    pub text: String,
    pub header: Header,
    /// As the server sent it.
    pub message: Vec<u8>,
    /// Whether upstream has it in `fields`.
    pub in_fields: bool,
}

impl Answer for Done {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        page.line(&self.text);
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        Some(headed(&self.header).end())
    }

    fn fields(&self, page: &mut Page) -> Known {
        if self.in_fields {
            header_fields(&self.header, page);
        }
        self.in_fields
    }

    fn protobuf(&self) -> Result<Vec<u8>, Option<String>> {
        Ok(self.message.clone())
    }
}

/// The operator of a comparison as `txn` writes it.
pub fn comparison(operator: &str) -> Option<compare::CompareResult> {
    Some(match operator {
        "=" => compare::CompareResult::Equal,
        "!=" => compare::CompareResult::NotEqual,
        ">" => compare::CompareResult::Greater,
        "<" => compare::CompareResult::Less,
        _ => return None,
    })
}
