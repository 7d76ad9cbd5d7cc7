//! Messages against another implementation (hickory-proto), and against noise.

use hickory_proto::op::{Message, Query as HickoryQuery};
use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::*;

fn hickory_query(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::query();
    message.add_query(HickoryQuery::query(Name::from_ascii(name).unwrap(), kind));
    message.to_vec().unwrap()
}

fn full_reply(query: &Query) -> Reply {
    let record = |name: &str, data| Record { name: name.into(), ttl: 5, data };
    let mut reply = Reply::new(Rcode::NoError);
    reply.answers = vec![
        record(&query.name, Data::Cname("target.example.com".into())),
        record("target.example.com", Data::A([192, 0, 2, 1].into())),
        record("target.example.com", Data::Aaaa("fd00::1".parse().unwrap())),
        record("x.example.com", Data::Srv { priority: 0, weight: 50, port: 80, target: "target.example.com".into() }),
        record("x.example.com", Data::Ptr("target.example.com".into())),
        record("x.example.com", Data::Txt("1.1.0".into())),
    ];
    let (server, mailbox) = ("ns.example.com".to_owned(), "root.example.com".to_owned());
    let soa = Data::Soa { server, mailbox, serial: 1, refresh: 2, retry: 3, expire: 4, minimum: 5 };
    reply.authority = vec![record("example.com", soa), record("example.com", Data::Ns("ns.example.com".into()))];
    reply
}

#[test]
fn queries_of_another_implementation_are_read() {
    let query = parse(&hickory_query("Web.Default.svc.Cluster.local.", RecordType::AAAA)).unwrap();
    assert_eq!((query.name.as_str(), query.kind, query.class), ("web.default.svc.cluster.local", kind::AAAA, CLASS_IN));
    assert_eq!(parse(&hickory_query(".", RecordType::NS)).unwrap().name, "");
}

#[test]
fn replies_are_read_by_another_implementation() {
    let query = parse(&hickory_query("WWW.example.com.", RecordType::A)).unwrap();
    let reply = full_reply(&query);
    let bytes = reply.encode(&query, 512);
    let message = Message::from_vec(&bytes).unwrap();
    let lines: Vec<String> = message.all_sections().map(|r| format!("{} {} {}", r.name, r.record_type(), r.data)).collect();
    assert_eq!(
        lines,
        [
            "WWW.example.com. CNAME target.example.com.",
            "target.example.com. A 192.0.2.1",
            "target.example.com. AAAA fd00::1",
            "x.example.com. SRV 0 50 80 target.example.com.",
            "x.example.com. PTR target.example.com.",
            "x.example.com. TXT 1.1.0",
            "example.com. SOA ns.example.com. root.example.com. 1 2 3 4 5",
            "example.com. NS ns.example.com.",
        ]
    );
    assert!(bytes.windows(3).any(|w| w == b"WWW"), "the question comes back as it was spelled");
    assert_eq!(answers_of(&bytes).unwrap(), reply.answers[..3]);
}

#[test]
fn what_does_not_fit_is_cut_and_marked() {
    let query = parse(&hickory_query("www.example.com.", RecordType::A)).unwrap();
    let mut reply = Reply::new(Rcode::NoError);
    reply.answers = (0..100).map(|n| Record { name: query.name.clone(), ttl: 5, data: Data::A([10, 0, 0, n].into()) }).collect();
    let bytes = reply.encode(&query, 512);
    assert!(bytes.len() <= 512 && bytes.len() > 480 && is_truncated(&bytes));
    assert_eq!(answers_of(&bytes).unwrap().len(), 29);
    assert!(!is_truncated(&reply.encode(&query, 65535)));
}

#[test]
fn edns_sets_the_limit() {
    let mut query = Query::new(7, "example.com", kind::A).unwrap();
    for (payload, expected) in [(0, 512), (1000, 1000), (4096, 1232)] {
        query.edns = Some(Edns { payload, version: 0, dnssec: false });
        assert_eq!(query.udp_limit(), expected);
    }
    assert_eq!(parse(&query.encode(7)).unwrap().edns.unwrap().payload, 1232);
    let reply = Reply::new(Rcode::BadVers).encode(&query, 512);
    // BADVERS and BADSIG are one number (RFC 6891 and RFC 8945).
    assert_eq!(u16::from(Message::from_vec(&reply).unwrap().metadata.response_code), 16);
}

#[test]
fn bad_messages() {
    let good = Query::new(7, "example.com", kind::A).unwrap().encode(7);
    let check = |change: fn(&mut Vec<u8>), expected: Bad| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let got = parse(&bytes).unwrap_err();
        let same = match (got, expected) {
            (Bad::Reply(a, ..), Bad::Reply(b, ..)) => a == b,
            (a, b) => a == b,
        };
        assert!(same, "{got:?} {expected:?}");
    };
    check(|b| b.truncate(5), Bad::Ignore);
    check(|b| b[2] |= 0x80, Bad::Ignore);
    check(|b| b[2] |= 0x28, Bad::Reply(Rcode::NotImp, 0, 0));
    check(|b| b[5] = 2, Bad::Reply(Rcode::FormErr, 0, 0));
    check(|b| b[12] = 0xc0, Bad::Reply(Rcode::FormErr, 0, 0));
    check(|b| b.truncate(20), Bad::Reply(Rcode::FormErr, 0, 0));
    check(|b| b[11] = 9, Bad::Reply(Rcode::FormErr, 0, 0));
}

#[test]
fn strange_labels_survive() {
    let mut bytes = Query::new(7, "x", kind::A).unwrap().encode(7);
    bytes.splice(12..15, [4, b'a', b'.', 0xff, b'\\', 0]);
    let query = parse(&bytes).unwrap();
    assert_eq!(query.name, "a\\046\\255\\092");
    assert_eq!(Query::new(7, &query.name, kind::A).unwrap().question, query.question);
    assert_eq!(Query::new(7, "a..b", kind::A), None);
    assert_eq!(Query::new(7, &"a".repeat(64), kind::A), None);
}

proptest! {
    #[test]
    fn noise_does_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        let _ = records_of(&bytes);
        let _ = answers_of(&bytes);
    }

    #[test]
    fn damaged_replies_do_no_harm(at in 0usize..300, byte in any::<u8>()) {
        let query = Query::new(7, "www.example.com", kind::A).unwrap();
        let mut bytes = full_reply(&query).encode(&query, 1232);
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = parse(&bytes);
        for record in records_of(&bytes).unwrap_or_default() {
            let _ = soa_ttl(&bytes, &record);
        }
        let _ = answers_of(&bytes);
    }
}
