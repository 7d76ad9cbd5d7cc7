//! How messages look in each format; the expected texts are what etcd's own etcdctl prints for them.

use etcd::pb::{self, Event, KeyValue, ResponseHeader, response_op};

use super::*;

fn header() -> Option<ResponseHeader> {
    Some(ResponseHeader { cluster_id: 324_952_591_200_643_719, member_id: 3_319_814_642_761_637_952, revision: 9, raft_term: 2 })
}

fn pair() -> KeyValue {
    KeyValue { key: "a".into(), value: "x<&>\"é".into(), create_revision: 8, mod_revision: 9, version: 2, lease: 0 }
}

const HEADER_JSON: &str = r#"{"cluster_id":324952591200643719,"member_id":3319814642761637952,"revision":9,"raft_term":2}"#;
const PAIR_JSON: &str = r#"{"key":"YQ==","create_revision":8,"mod_revision":9,"version":2,"value":"eDwmPiLDqQ=="}"#;
const HEADER_FIELDS: &str = "\"ClusterID\" : 324952591200643719\n\"MemberID\" : 3319814642761637952\n\"Revision\" : 9\n\"RaftTerm\" : 2\n";
const PAIR_FIELDS: &str =
    "\"Key\" : \"a\"\n\"CreateRevision\" : 8\n\"ModRevision\" : 9\n\"Version\" : 2\n\"Value\" : \"x<&>\\\"é\"\n\"Lease\" : 0\n";

fn render(format: Format, style: Style, answer: &dyn Answer) -> String {
    match (Printer { format, style }).render(answer) {
        Ok(text) => String::from_utf8(text).unwrap(),
        Err(failure) => format!("{} {}", failure.code, failure.text),
    }
}

/// `None`: the format is not supported.
fn check(answer: &dyn Answer, simple: &str, json: &str, fields: Option<&str>, table: Option<&str>) {
    let of = |format| render(format, Style::default(), answer);
    let or_refused =
        |text: Option<&str>, name: &str| text.map_or_else(|| format!("4 {name} not supported as output format"), str::to_owned);
    assert_eq!(of(Format::Simple), simple);
    assert_eq!(of(Format::Json), format!("{json}\n"));
    assert_eq!(of(Format::Fields), or_refused(fields, "fields"));
    assert_eq!(of(Format::Table), or_refused(table, "table"));
}

#[test]
fn ranges() {
    let answer = pb::RangeResponse { header: header(), kvs: vec![pair()], more: true, count: 3 };
    let json = format!(r#"{{"header":{HEADER_JSON},"kvs":[{PAIR_JSON}],"more":true,"count":3}}"#);
    let fields = format!("{HEADER_FIELDS}{PAIR_FIELDS}\"More\" : true\n\"Count\" : 3\n");
    check(&answer, "a\nx<&>\"é\n", &json, Some(&fields), None);
    let nothing = pb::RangeResponse { header: header(), ..Default::default() };
    let fields = format!("{HEADER_FIELDS}\"More\" : false\n\"Count\" : 0\n");
    check(&nothing, "", &format!(r#"{{"header":{HEADER_JSON}}}"#), Some(&fields), None);
    let style = Style { hex: true, value_only: false };
    assert_eq!(render(Format::Simple, style, &answer), "\\x61\n\\x78\\x3c\\x26\\x3e\\x22\\xc3\\xa9\n");
    let style = Style { hex: false, value_only: true };
    assert_eq!(render(Format::Simple, style, &answer), "x<&>\"é\n");
}

#[test]
fn puts_and_deletes() {
    let put = pb::PutResponse { header: header(), prev_kv: Some(pair()) };
    let prev_fields = PAIR_FIELDS.lines().map(|line| format!("\"Prev{}\n", &line[1..])).collect::<String>();
    let json = format!(r#"{{"header":{HEADER_JSON},"prev_kv":{PAIR_JSON}}}"#);
    check(&put, "OK\na\nx<&>\"é\n", &json, Some(&format!("{HEADER_FIELDS}{prev_fields}")), None);
    let delete = pb::DeleteRangeResponse { header: header(), deleted: 1, prev_kvs: vec![pair()] };
    let json = format!(r#"{{"header":{HEADER_JSON},"deleted":1,"prev_kvs":[{PAIR_JSON}]}}"#);
    check(&delete, "1\na\nx<&>\"é\n", &json, Some(&format!("{HEADER_FIELDS}\"Deleted\" : 1\n{prev_fields}")), None);
}

#[test]
fn transactions() {
    let part = |response| pb::ResponseOp { response: Some(response) };
    let answer = pb::TxnResponse {
        header: header(),
        succeeded: true,
        responses: vec![
            part(response_op::Response::ResponsePut(pb::PutResponse::default())),
            part(response_op::Response::ResponseRange(pb::RangeResponse { kvs: vec![pair()], count: 1, ..Default::default() })),
            part(response_op::Response::ResponseDeleteRange(pb::DeleteRangeResponse::default())),
        ],
    };
    let json = format!(
        r#"{{"header":{HEADER_JSON},"succeeded":true,"responses":[{{"Response":{{"response_put":{{}}}}}},{{"Response":{{"response_range":{{"kvs":[{PAIR_JSON}],"count":1}}}}}},{{"Response":{{"response_delete_range":{{}}}}}}]}}"#
    );
    let fields = format!("{HEADER_FIELDS}\"Succeeded\" : true\n{PAIR_FIELDS}\"More\" : false\n\"Count\" : 1\n\"Deleted\" : 0\n");
    check(&answer, "SUCCESS\n\nOK\n\na\nx<&>\"é\n\n0\n", &json, Some(&fields), None);
}

#[test]
fn events() {
    let deleted = KeyValue { key: "a".into(), mod_revision: 9, ..Default::default() };
    let answer = pb::WatchResponse {
        header: header(),
        watch_id: 7,
        events: vec![Event { r#type: 1, kv: Some(deleted), prev_kv: Some(pair()) }],
        ..Default::default()
    };
    let json = format!(
        r#"{{"Header":{HEADER_JSON},"Events":[{{"type":1,"kv":{{"key":"YQ==","mod_revision":9}},"prev_kv":{PAIR_JSON}}}],"CompactRevision":0,"Canceled":false,"Created":false}}"#
    );
    let prev_fields = PAIR_FIELDS.lines().map(|line| format!("\"Prev{}\n", &line[1..])).collect::<String>();
    let fields = format!(
        "{HEADER_FIELDS}\"Type\" : DELETE\n{prev_fields}\"Key\" : \"a\"\n\"CreateRevision\" : 0\n\"ModRevision\" : 9\n\"Version\" : 0\n\"Value\" : \"\"\n\"Lease\" : 0\n"
    );
    check(&answer, "DELETE\na\nx<&>\"é\na\n\n", &json, Some(&fields), None);
}

#[test]
fn members() {
    let member = |id, name: &str| pb::Member {
        id,
        name: name.into(),
        peer_ur_ls: vec!["http://h:1".into(), "http://h:2".into()],
        client_ur_ls: Vec::new(),
        is_learner: name.is_empty(),
    };
    let answer = pb::MemberListResponse { header: header(), members: vec![member(0x2e12, "m1"), member(0xd755, "")] };
    let simple = "2e12, started, m1, http://h:1,http://h:2, , false\nd755, unstarted, , http://h:1,http://h:2, , true\n";
    let json = format!(
        r#"{{"header":{HEADER_JSON},"members":[{{"ID":11794,"name":"m1","peerURLs":["http://h:1","http://h:2"]}},{{"ID":55125,"peerURLs":["http://h:1","http://h:2"],"isLearner":true}}]}}"#
    );
    let urls = "\"PeerURL\" : \"http://h:1\"\n\"PeerURL\" : \"http://h:2\"\n";
    let fields = format!(
        "{HEADER_FIELDS}\"ID\" : 11794\n\"Name\" : \"m1\"\n{urls}\"IsLearner\" : false\n\n\"ID\" : 55125\n\"Name\" : \"\"\n{urls}\"IsLearner\" : true\n\n"
    );
    let table = "\
        +------+-----------+------+-----------------------+--------------+------------+\n\
        |  ID  |  STATUS   | NAME |      PEER ADDRS       | CLIENT ADDRS | IS LEARNER |\n\
        +------+-----------+------+-----------------------+--------------+------------+\n\
        | 2e12 |   started |   m1 | http://h:1,http://h:2 |              |      false |\n\
        | d755 | unstarted |      | http://h:1,http://h:2 |              |       true |\n\
        +------+-----------+------+-----------------------+--------------+------------+\n";
    check(&answer, simple, &json, Some(&fields), Some(table));
    let hex = render(Format::Json, Style { hex: true, value_only: false }, &answer);
    assert!(hex.starts_with(r#"{"header":{"cluster_id":"48276a8f75b6a87","member_id":"2e1259d415f2a040","revision":9"#), "{hex}");
    assert!(hex.contains(r#"{"ID":"2e12","name":"m1""#), "{hex}");
}

#[test]
fn alarms() {
    let alarms = vec![pb::AlarmMember { member_id: 5, alarm: 1 }, pb::AlarmMember { member_id: 0, alarm: 2 }];
    let answer = pb::AlarmResponse { header: header(), alarms };
    let json = format!(r#"{{"header":{HEADER_JSON},"alarms":[{{"memberID":5,"alarm":1}},{{"alarm":2}}]}}"#);
    let fields = format!("{HEADER_FIELDS}\"MemberID\" : 5\n\"AlarmType\" : NOSPACE\n\n\"MemberID\" : 0\n\"AlarmType\" : CORRUPT\n\n");
    check(&answer, "memberID:5 alarm:NOSPACE \nalarm:CORRUPT \n", &json, Some(&fields), None);
    check(&pb::AlarmResponse::default(), "", "{}", Some(""), None);
}

#[test]
fn protobuf_is_the_message() {
    use prost::Message;
    let answer = pb::PutResponse { header: header(), prev_kv: Some(pair()) };
    let printer = Printer { format: Format::Protobuf, style: Style::default() };
    assert_eq!(printer.render(&answer).unwrap(), answer.encode_to_vec());
    let watched = pb::WatchResponse { watch_id: 7, cancel_reason: "x".into(), canceled: true, ..Default::default() };
    let shown = pb::WatchResponse { canceled: true, ..Default::default() };
    assert_eq!(printer.render(&watched).unwrap(), shown.encode_to_vec());
}

#[test]
fn formats_by_name() {
    assert_eq!(Format::parse("fields"), Ok(Format::Fields));
    assert_eq!(Format::parse("xml"), Err(Failure::new(exit::BAD_FEATURE, "unsupported output format")));
}
