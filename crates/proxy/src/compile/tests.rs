//! Golden rules of small services, and properties of all rules.

use super::*;
use crate::model::{NodeView, PortKey, Protocol};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn service() -> ServicePort {
    ServicePort {
        key: PortKey { namespace: "ns".into(), name: "web".into(), port: "http".into(), protocol: Protocol::Tcp },
        cluster_ips: vec![ip("10.96.0.5")],
        port: 80,
        node_port: 0,
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        affinity_secs: None,
        internal_local: false,
        external_local: false,
        health_port: 0,
    }
}

fn endpoint(text: &str, local: bool) -> Endpoint {
    let (address, port) = text.rsplit_once(':').unwrap();
    Endpoint {
        ip: ip(address),
        port: port.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        local,
        zone_hints: vec![],
        node_hints: vec![],
    }
}

fn snapshot(service: ServicePort, endpoints: Vec<Endpoint>) -> Snapshot {
    Snapshot {
        endpoints: BTreeMap::from([(service.key.clone(), endpoints)]),
        services: vec![service],
        node: NodeView { name: "n1".into(), ips: vec![ip("192.0.2.1")], eligible: true, ..NodeView::default() },
        addresses: vec![],
    }
}

/// What a service adds to the IPv4 table, one line per rule and element, chain names without hashes.
fn rules(snapshot: &Snapshot) -> Vec<String> {
    let settings = Settings { local_traffic: LocalTraffic::Cidrs(vec!["10.244.0.0/16".parse().unwrap()]), ..Settings::default() };
    let table = compile(snapshot, &settings).remove(0);
    let (skeleton, _) = skeleton::skeleton(snapshot, &settings, Family::Ip);
    let mut lines = Vec::new();
    for (name, set) in &table.sets {
        if name.starts_with("affinity-") {
            lines.push(format!("set {name}: {}", set.declaration));
        }
        lines.extend(set.elements.iter().filter(|_| name != "nodeport-ips").map(|(key, value)| format!("{name}: {key} : {value}")));
    }
    for (name, chain) in table.chains.iter().filter(|(name, _)| !skeleton.contains_key(*name)) {
        lines.extend(chain.rules.iter().map(|rule| format!("{name}: {rule}")));
    }
    lines.iter().map(|line| without_hashes(line)).collect()
}

fn without_hashes(line: &str) -> String {
    let words = line.split(' ').map(|word| {
        let mut parts: Vec<&str> = word.split('-').collect();
        parts.retain(|part| !(part.len() == 10 && part.bytes().all(|b| b.is_ascii_hexdigit())));
        parts.join("-").replace("ns/web/tcp/http", "W")
    });
    words.collect::<Vec<_>>().join(" ")
}

fn check(service: ServicePort, endpoints: Vec<Endpoint>, expected: &[&str]) {
    assert_eq!(rules(&snapshot(service, endpoints)), expected);
}

#[test]
fn cluster_ip() {
    check(
        service(),
        vec![endpoint("10.244.0.2:8080", true), endpoint("10.244.1.2:8080", false)],
        &[
            "cluster-ips: 10.96.0.5 : ",
            "service-ips: 10.96.0.5 . tcp . 80 : goto service-W",
            "endpoint-W__10.244.0.2/8080: ip saddr 10.244.0.2 jump mark-for-masquerade",
            "endpoint-W__10.244.0.2/8080: meta l4proto tcp dnat to 10.244.0.2:8080",
            "endpoint-W__10.244.1.2/8080: ip saddr 10.244.1.2 jump mark-for-masquerade",
            "endpoint-W__10.244.1.2/8080: meta l4proto tcp dnat to 10.244.1.2:8080",
            "service-W: ip daddr 10.96.0.5 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade",
            "service-W: numgen random mod 2 vmap { 0 : goto endpoint-W__10.244.0.2/8080, 1 : goto endpoint-W__10.244.1.2/8080 }",
        ],
    );
}

#[test]
fn no_endpoints_are_refused() {
    check(
        ServicePort { node_port: 30080, external_ips: vec![ip("198.51.100.1")], ..service() },
        vec![Endpoint { ready: false, serving: false, ..endpoint("10.244.0.2:8080", true) }],
        &[
            "cluster-ips: 10.96.0.5 : ",
            "no-endpoint-nodeports: tcp . 30080 : goto reject-chain",
            "no-endpoint-services: 10.96.0.5 . tcp . 80 : goto reject-chain",
            "no-endpoint-services: 198.51.100.1 . tcp . 80 : goto reject-chain",
        ],
    );
}

#[test]
fn node_port_and_load_balancer() {
    check(
        ServicePort {
            node_port: 30080,
            load_balancer_ips: vec![ip("198.51.100.1")],
            source_ranges: vec!["203.0.113.0/24".parse().unwrap()],
            ..service()
        },
        vec![endpoint("10.244.0.2:8080", true)],
        &[
            "cluster-ips: 10.96.0.5 : ",
            "firewall-ips: 198.51.100.1 . tcp . 80 : goto firewall-W",
            "service-ips: 10.96.0.5 . tcp . 80 : goto service-W",
            "service-ips: 198.51.100.1 . tcp . 80 : goto external-W",
            "service-nodeports: tcp . 30080 : goto external-W",
            "endpoint-W__10.244.0.2/8080: ip saddr 10.244.0.2 jump mark-for-masquerade",
            "endpoint-W__10.244.0.2/8080: meta l4proto tcp dnat to 10.244.0.2:8080",
            "external-W: jump mark-for-masquerade",
            "external-W: goto service-W",
            "firewall-W: ip saddr != { 203.0.113.0/24 } drop",
            "service-W: ip daddr 10.96.0.5 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade",
            "service-W: goto endpoint-W__10.244.0.2/8080",
        ],
    );
}

#[test]
fn external_policy_local_keeps_the_client_address() {
    let expected = [
        "cluster-ips: 10.96.0.5 : ",
        "service-ips: 10.96.0.5 . tcp . 80 : goto service-W",
        "service-nodeports: tcp . 30080 : goto external-W",
        "endpoint-W__10.244.0.2/8080: ip saddr 10.244.0.2 jump mark-for-masquerade",
        "endpoint-W__10.244.0.2/8080: meta l4proto tcp dnat to 10.244.0.2:8080",
        "external-W: ip saddr 10.244.0.0/16 goto service-W comment \"short-circuit pod traffic\"",
        "external-W: fib saddr type local jump mark-for-masquerade comment \"masquerade local traffic\"",
        "external-W: fib saddr type local goto service-W comment \"short-circuit local traffic\"",
        "external-W: goto local-W",
        "local-W: goto endpoint-W__10.244.0.2/8080",
        "service-W: ip daddr 10.96.0.5 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade",
        "service-W: goto endpoint-W__10.244.0.2/8080",
    ];
    check(ServicePort { node_port: 30080, external_local: true, ..service() }, vec![endpoint("10.244.0.2:8080", true)], &expected);
}

#[test]
fn external_policy_local_without_local_endpoint_drops() {
    let lines =
        rules(&snapshot(ServicePort { node_port: 30080, external_local: true, ..service() }, vec![endpoint("10.244.1.2:8080", false)]));
    assert!(lines.contains(&"no-endpoint-nodeports: tcp . 30080 : drop".to_owned()), "{lines:#?}");
    assert!(lines.contains(&"service-nodeports: tcp . 30080 : goto external-W".to_owned()), "{lines:#?}");
    assert!(!lines.iter().any(|l| l.contains("goto local-W")), "{lines:#?}");
}

#[test]
fn internal_policy_local() {
    let local = ServicePort { internal_local: true, ..service() };
    check(
        local.clone(),
        vec![endpoint("10.244.1.2:8080", false)],
        &["cluster-ips: 10.96.0.5 : ", "no-endpoint-services: 10.96.0.5 . tcp . 80 : drop"],
    );
    let lines = rules(&snapshot(local, vec![endpoint("10.244.0.2:8080", true), endpoint("10.244.1.2:8080", false)]));
    assert!(lines.contains(&"local-W: goto endpoint-W__10.244.0.2/8080".to_owned()), "{lines:#?}");
    assert!(!lines.iter().any(|l| l.contains("10.244.1.2")), "{lines:#?}");
}

#[test]
fn client_affinity() {
    check(
        ServicePort { affinity_secs: Some(60), ..service() },
        vec![endpoint("10.244.0.2:8080", true)],
        &[
            "set affinity-W__10.244.0.2/8080: type ipv4_addr ; flags dynamic,timeout ; timeout 60s ;",
            "cluster-ips: 10.96.0.5 : ",
            "service-ips: 10.96.0.5 . tcp . 80 : goto service-W",
            "endpoint-W__10.244.0.2/8080: ip saddr 10.244.0.2 jump mark-for-masquerade",
            "endpoint-W__10.244.0.2/8080: update @affinity-W__10.244.0.2/8080 { ip saddr }",
            "endpoint-W__10.244.0.2/8080: meta l4proto tcp dnat to 10.244.0.2:8080",
            "service-W: ip daddr 10.96.0.5 tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade",
            "service-W: ip saddr @affinity-W__10.244.0.2/8080 goto endpoint-W__10.244.0.2/8080",
            "service-W: goto endpoint-W__10.244.0.2/8080",
        ],
    );
}

#[test]
fn terminating_endpoints_serve_when_no_other_does() {
    let terminating = || Endpoint { ready: false, serving: true, terminating: true, ..endpoint("10.244.0.3:8080", true) };
    let uses = |endpoints: Vec<Endpoint>| rules(&snapshot(service(), endpoints)).iter().any(|l| l.contains("10.244.0.3"));
    assert!(uses(vec![terminating()]));
    assert!(!uses(vec![terminating(), endpoint("10.244.0.2:8080", true)]));
}

#[test]
fn hints_count_only_if_all_endpoints_have_them() {
    let hinted = |text: &str, zone: &str| Endpoint { zone_hints: vec![zone.into()], ..endpoint(text, false) };
    let count = |endpoints: Vec<Endpoint>| {
        let mut snapshot = snapshot(service(), endpoints);
        snapshot.node.zone = "a".into();
        rules(&snapshot).iter().filter(|l| l.contains("dnat to")).count()
    };
    assert_eq!(count(vec![hinted("10.244.0.2:80", "a"), hinted("10.244.0.3:80", "b")]), 1);
    assert_eq!(count(vec![hinted("10.244.0.2:80", "b"), hinted("10.244.0.3:80", "b")]), 2);
    assert_eq!(count(vec![hinted("10.244.0.2:80", "a"), endpoint("10.244.0.3:80", false)]), 2);
}

#[test]
fn names_are_nfts_and_unique_when_cut() {
    let long = |port: &str| {
        let mut service = service();
        service.key.namespace = "n".repeat(63);
        service.key.name = "s".repeat(63);
        service.key.port = port.into();
        chain_name(&service)
    };
    assert_ne!(long("a"), long("b"));
    assert!(long("a").len() < 120);
    let v6 = endpoint_name(&service(), &Endpoint { ip: ip("fd00::1"), ..endpoint("10.0.0.1:1", true) });
    assert!(!v6.contains(':'), "{v6}");
}

#[test]
fn every_jump_has_a_target() {
    let services = [
        service(),
        ServicePort { node_port: 30080, external_local: true, internal_local: true, ..service() },
        ServicePort { node_port: 30080, affinity_secs: Some(1), ..service() },
        ServicePort { external_local: true, load_balancer_ips: vec![ip("198.51.100.1")], ..service() },
    ];
    let endpoints = [vec![], vec![endpoint("10.244.0.2:80", true)], vec![endpoint("10.244.1.2:80", false)], {
        vec![endpoint("10.244.0.2:80", true), endpoint("10.244.1.2:80", false)]
    }];
    for (service, endpoints) in services.iter().flat_map(|s| endpoints.iter().map(move |e| (s.clone(), e.clone()))) {
        for table in compile(&snapshot(service, endpoints), &Settings::default()) {
            let rules = table.chains.values().flat_map(|c| c.rules.iter()).chain(table.sets.values().flat_map(|s| s.elements.values()));
            for rule in rules {
                let words: Vec<&str> = rule.split([' ', ',']).collect();
                for pair in words.windows(2).filter(|w| w[0] == "goto" || w[0] == "jump") {
                    assert!(table.chains.contains_key(pair[1]), "{rule}");
                }
            }
        }
    }
}
