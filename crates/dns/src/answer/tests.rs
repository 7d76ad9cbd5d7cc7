//! The specification's tables: names and what they answer.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use super::*;
use crate::records::entry;

fn zone() -> Zone {
    Zone { domain: "cluster.local".into(), ttl: 5, serial: 1 }
}

fn add(records: &Records, service: Value, slices: &[Value]) {
    let service: Service = serde_json::from_value(service).unwrap();
    let slices: Vec<_> = slices.iter().map(|s| std::sync::Arc::new(serde_json::from_value::<EndpointSlice>(s.clone()).unwrap())).collect();
    let key = (service.metadata.namespace.clone().unwrap(), service.metadata.name.clone().unwrap());
    records.set(&key, || entry(&service, &slices));
}

fn records() -> Records {
    let records = Records::default();
    records.set_namespace("default", true);
    let meta = |name: &str| json!({"name": name, "namespace": "default"});
    let web = json!({"metadata": meta("web"), "spec": {"clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"],
        "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}]}});
    add(&records, web, &[]);
    let ready =
        |address: &str, hostname: Option<&str>| json!({"addresses": [address], "hostname": hostname, "conditions": {"ready": true}});
    let slice = json!({"metadata": meta("db-1"), "addressType": "IPv4", "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
        "endpoints": [ready("10.244.0.2", Some("db-0")), ready("10.244.0.3", None),
            {"addresses": ["10.244.0.4"], "conditions": {"ready": false}}]});
    add(&records, json!({"metadata": meta("db"), "spec": {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}}), &[slice]);
    add(&records, json!({"metadata": meta("empty"), "spec": {"clusterIP": "None"}}), &[]);
    add(&records, json!({"metadata": meta("ext"), "spec": {"type": "ExternalName", "externalName": "Example.com."}}), &[]);
    add(
        &records,
        json!({"metadata": meta("near"), "spec": {"type": "ExternalName", "externalName": "web.default.svc.cluster.local"}}),
        &[],
    );
    records
}

/// The outcome in one line.
fn ask(name: &str, kind: u16) -> String {
    let records = records();
    let query = Query::new(1, name, kind).unwrap();
    let show = |reply: &Reply| {
        let parts = |records: &[Record]| records.iter().map(|r| show_data(&r.data)).collect::<Vec<_>>().join(" ");
        let mut line = format!("{} {}", reply.rcode.name(), parts(&reply.answers)).trim_end().to_owned();
        for (mark, section) in [("+", &reply.additional), ("!", &reply.authority)] {
            if !section.is_empty() {
                line.push_str(&format!(" {mark} {}", parts(section)));
            }
        }
        line
    };
    match answer(&zone(), &records, &query, 0) {
        Outcome::Reply(reply) => show(&reply),
        Outcome::Alias(reply, target) => format!("{} -> {target}", show(&reply)),
        Outcome::Forward => "forward".into(),
    }
}

fn show_data(data: &Data) -> String {
    match data {
        Data::A(ip) => ip.to_string(),
        Data::Aaaa(ip) => ip.to_string(),
        Data::Cname(name) | Data::Ns(name) | Data::Ptr(name) | Data::Txt(name) => name.clone(),
        Data::Srv { weight, port, target, .. } => format!("{weight}/{port}/{target}"),
        Data::Soa { .. } => "SOA".into(),
    }
}

#[test]
fn services() {
    let check = |name: &str, kind: u16, expected: &str| assert_eq!(ask(&format!("{name}.cluster.local"), kind), expected, "{name}");
    check("web.default.svc", kind::A, "NOERROR 10.96.0.5");
    check("WEB.Default.svc", kind::A, "NOERROR 10.96.0.5");
    check("web.default.svc", kind::AAAA, "NOERROR fd00::5");
    check("web.default.svc", kind::TXT, "NOERROR ! SOA");
    check("_http._tcp.web.default.svc", kind::SRV, "NOERROR 100/80/web.default.svc.cluster.local + 10.96.0.5 fd00::5");
    check("_http._udp.web.default.svc", kind::SRV, "NXDOMAIN ! SOA");
    check("_http._tcp.web.default.svc", kind::A, "NOERROR ! SOA");
    check("_tcp.web.default.svc", kind::A, "NOERROR ! SOA");
    check("none.default.svc", kind::A, "NXDOMAIN ! SOA");
    check("web.other.svc", kind::A, "NXDOMAIN ! SOA");
    check("x.web.default.svc", kind::A, "NXDOMAIN ! SOA");
    check("ext.default.svc", kind::A, "NOERROR example.com -> example.com");
    check("ext.default.svc", kind::CNAME, "NOERROR example.com");
    check("near.default.svc", kind::A, "NOERROR web.default.svc.cluster.local 10.96.0.5");
}

#[test]
fn headless_services() {
    let check =
        |name: &str, kind: u16, expected: &str| assert_eq!(ask(&format!("{name}.default.svc.cluster.local"), kind), expected, "{name}");
    check("db", kind::A, "NOERROR 10.244.0.3 10.244.0.2");
    check("db", kind::AAAA, "NOERROR ! SOA");
    check("db-0.db", kind::A, "NOERROR 10.244.0.2");
    check("10-244-0-3.db", kind::A, "NOERROR 10.244.0.3");
    check("10-244-0-4.db", kind::A, "NXDOMAIN ! SOA");
    check("empty", kind::A, "NXDOMAIN ! SOA");
    let targets = "50/5432/10-244-0-3.db.default.svc.cluster.local 50/5432/db-0.db.default.svc.cluster.local + 10.244.0.3 10.244.0.2";
    check("_sql._tcp.db", kind::SRV, &format!("NOERROR {targets}"));
    check("db-0.db", kind::SRV, "NOERROR 100/5432/db-0.db.default.svc.cluster.local + 10.244.0.2");
}

#[test]
fn pods_and_the_zone_itself() {
    let check = |name: &str, kind: u16, expected: &str| assert_eq!(ask(name, kind), expected, "{name}");
    check("10-244-0-9.default.pod.cluster.local", kind::A, "NOERROR 10.244.0.9");
    check("10-244-0-9.default.pod.cluster.local", kind::AAAA, "NOERROR ! SOA");
    check("fd00--9.default.pod.cluster.local", kind::AAAA, "NOERROR fd00::9");
    check("10-244-0-9.other.pod.cluster.local", kind::A, "NXDOMAIN ! SOA");
    check("a-b-c-d.default.pod.cluster.local", kind::A, "NXDOMAIN ! SOA");
    check("dns-version.cluster.local", kind::TXT, "NOERROR 1.1.0");
    check("cluster.local", kind::SOA, "NOERROR SOA");
    check("cluster.local", kind::NS, "NOERROR ns.dns.cluster.local");
    check("cluster.local", kind::A, "NOERROR ! SOA");
    check("svc.cluster.local", kind::A, "NOERROR ! SOA");
    check("default.svc.cluster.local", kind::A, "NOERROR ! SOA");
    check("other.svc.cluster.local", kind::A, "NXDOMAIN ! SOA");
    check("web.cluster.local", kind::A, "NXDOMAIN ! SOA");
    check("example.com.default.svc.cluster.local", kind::A, "NXDOMAIN ! SOA");
    check("example.com", kind::A, "forward");
    check("notcluster.local", kind::A, "forward");
    check("cluster.local", kind::AXFR, "REFUSED");
}

#[test]
fn addresses_have_names() {
    let check = |name: &str, expected: &str| assert_eq!(ask(name, kind::PTR), expected, "{name}");
    check("5.0.96.10.in-addr.arpa", "NOERROR web.default.svc.cluster.local");
    check("2.0.244.10.in-addr.arpa", "NOERROR db-0.db.default.svc.cluster.local");
    check("3.0.244.10.in-addr.arpa", "forward");
    check("1.1.1.1.in-addr.arpa", "forward");
    check("1.1.in-addr.arpa", "forward");
    let nibbles = format!("5.{}0.0.d.f.ip6.arpa", "0.".repeat(27));
    check(&nibbles, "NOERROR web.default.svc.cluster.local");
}

#[test]
fn answers_take_turns() {
    let records = records();
    let query = Query::new(1, "db.default.svc.cluster.local", kind::A).unwrap();
    let first = |turn| match answer(&zone(), &records, &query, turn) {
        Outcome::Reply(reply) => show_data(&reply.answers[0].data),
        other => panic!("{other:?}"),
    };
    assert_eq!([first(0), first(1), first(2)], ["10.244.0.3", "10.244.0.2", "10.244.0.3"]);
}

#[test]
fn what_is_removed_is_gone() {
    let records = records();
    records.set(&("default".into(), "web".into()), || None);
    assert_eq!(records.names_of(&"10.96.0.5".parse().unwrap()), [] as [String; 0]);
    assert_eq!(records.get("default", "web"), None);
    records.set_namespace("default", false);
    assert!(!records.has_namespace("default"));
}
