//! Compiled rules in a real kernel with real traffic: a node, two pods, a client outside, each a network namespace. Needs root.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use host::scratch::ScratchNetns;
use host::{LinuxNet, Net};
use proxy::compile::{LocalTraffic, NodePorts, Settings, compile};
use proxy::flows;
use proxy::model::{Endpoint, NodeView, PortKey, Protocol, ServicePort, Snapshot};
use proxy::ruleset::{Ruleset, removal, transaction};

/// node 192.0.2.1 -- client 192.0.2.9; pods 10.244.0.2 and 10.244.0.3, each routed by a link of its own.
struct Lab {
    node: ScratchNetns,
    pods: [ScratchNetns; 2],
    client: ScratchNetns,
    net: LinuxNet,
    rules: Option<Ruleset>,
    flows: Option<flows::States>,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

impl Lab {
    fn new(name: &str) -> Self {
        let node = ScratchNetns::new(&format!("{name}n"));
        let pods = [ScratchNetns::new(&format!("{name}a")), ScratchNetns::new(&format!("{name}b"))];
        let client = ScratchNetns::new(&format!("{name}c"));
        let ip = |netns: &ScratchNetns, args: &str| drop(netns.run("ip", &args.split_whitespace().collect::<Vec<_>>()));
        for (n, (peer, at, own)) in
            [(&pods[0], "10.244.0.1", "10.244.0.2"), (&pods[1], "10.244.0.1", "10.244.0.3"), (&client, "192.0.2.1", "192.0.2.9")]
                .iter()
                .enumerate()
        {
            ip(&node, &format!("link add v{n} type veth peer name eth0 netns {}", peer.name));
            ip(&node, &format!("link set v{n} up"));
            ip(&node, &format!("addr add {at}/32 dev v{n}"));
            ip(&node, &format!("route add {own}/32 dev v{n}"));
            ip(peer, &format!("addr add {own}/32 dev eth0"));
            ip(peer, "link set eth0 up");
            ip(peer, &format!("route add {at}/32 dev eth0"));
            ip(peer, &format!("route add default via {at}"));
        }
        ip(&node, "route add default via 192.0.2.9");
        let net = LinuxNet::in_netns(&node.path).unwrap();
        net.set_sysctl("net/ipv4/ip_forward", "1").unwrap();
        // A new namespace has the host's value, which differs once a cluster ran there.
        for peer in pods.iter().chain([&client]) {
            LinuxNet::in_netns(&peer.path).unwrap().set_sysctl("net/ipv4/ip_forward", "0").unwrap();
        }
        Self { node, pods, client, net, rules: None, flows: None }
    }

    fn apply(&mut self, services: &[(ServicePort, Vec<Endpoint>)]) {
        let settings = Settings {
            local_traffic: LocalTraffic::Cidrs(vec!["10.244.0.0/16".parse().unwrap()]),
            node_ports: NodePorts::Primary,
            ..Settings::default()
        };
        let snapshot = Snapshot {
            services: services.iter().map(|(s, _)| s.clone()).collect(),
            endpoints: services.iter().map(|(s, e)| (s.key.clone(), e.clone())).collect::<BTreeMap<_, _>>(),
            node: NodeView { name: "n".into(), ips: vec![ip("192.0.2.1")], eligible: true, ..NodeView::default() },
            addresses: vec![],
        };
        let rules = compile(&snapshot, &settings);
        let script = transaction(self.rules.as_ref(), &rules);
        self.net.nft(&script).unwrap_or_else(|e| panic!("{e}\n{script}"));
        let states = flows::states(&snapshot);
        for flow in flows::stale(self.flows.as_ref(), &states) {
            self.net.forget_flows(&flow).unwrap();
        }
        (self.rules, self.flows) = (Some(rules), Some(states));
    }

    /// Each pod answers with its name and the address that it sees.
    fn serve(&self) {
        for (pod, name) in self.pods.iter().zip(["a", "b"]) {
            let listener = pod.enter(|| TcpListener::bind("0.0.0.0:8080").unwrap());
            std::thread::spawn(move || {
                for connection in listener.incoming() {
                    let mut connection = connection.unwrap();
                    let peer = connection.peer_addr().unwrap().ip();
                    // The client may be gone.
                    let _ = connection.write_all(format!("{name} {peer}").as_bytes());
                }
            });
            let socket = pod.enter(|| UdpSocket::bind("0.0.0.0:53").unwrap());
            std::thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(name.as_bytes(), from);
                }
            });
        }
    }
}

fn ask(from: &ScratchNetns, to: &str) -> String {
    let address: SocketAddr = to.parse().unwrap();
    from.enter(|| {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_millis(1500)).map_err(|e| format!("{:?}", e.kind()))?;
        let mut text = String::new();
        connection.read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok::<_, String>(text)
    })
    .unwrap_or_else(|e| e)
}

fn service(name: &str, cluster_ip: &str) -> ServicePort {
    ServicePort {
        key: PortKey { namespace: "default".into(), name: name.into(), port: String::new(), protocol: Protocol::Tcp },
        cluster_ips: vec![ip(cluster_ip)],
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

fn endpoint(address: &str, port: u16) -> Endpoint {
    Endpoint { ip: ip(address), port, ready: true, serving: true, terminating: false, local: true, zone_hints: vec![], node_hints: vec![] }
}

fn a() -> Endpoint {
    endpoint("10.244.0.2", 8080)
}

fn b() -> Endpoint {
    endpoint("10.244.0.3", 8080)
}

#[test]
fn services_are_reached_from_everywhere() {
    let mut lab = Lab::new("p1");
    lab.serve();
    let public = ServicePort {
        node_port: 30080,
        external_ips: vec![ip("198.51.100.1")],
        load_balancer_ips: vec![ip("198.51.100.2")],
        source_ranges: vec!["203.0.113.0/24".parse().unwrap()],
        ..service("public", "10.96.0.6")
    };
    let kept = ServicePort { node_port: 30081, external_local: true, ..service("kept", "10.96.0.7") };
    let gone = ServicePort { node_port: 30082, ..service("gone", "10.96.0.8") };
    lab.apply(&[(service("web", "10.96.0.5"), vec![a(), b()]), (public, vec![a()]), (kept, vec![b()]), (gone, vec![])]);

    let both: std::collections::BTreeSet<String> = (0..40).map(|_| ask(&lab.pods[0], "10.96.0.5:80")).collect();
    assert!(both.contains("b 10.244.0.2"), "a pod keeps its address: {both:?}");
    assert!(both.iter().any(|line| line.starts_with("a 10.244.0.1")), "a pod reaches itself, hidden: {both:?}");
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(ask(&lab.node, "10.96.0.5:80").ends_with("10.244.0.1"), "from the node");
    assert_eq!(ask(&lab.client, "192.0.2.1:30080"), "a 10.244.0.1", "node port");
    assert_eq!(ask(&lab.node, "192.0.2.1:30080"), "a 10.244.0.1", "node port from the node");
    assert_eq!(ask(&lab.pods[1], "192.0.2.1:30080"), "a 10.244.0.1", "node port from a pod");
    assert_eq!(ask(&lab.client, "198.51.100.1:80"), "a 10.244.0.1", "external address");
    assert_eq!(ask(&lab.client, "198.51.100.2:80"), "TimedOut", "source range");
    assert_eq!(ask(&lab.client, "192.0.2.1:30081"), "b 192.0.2.9", "policy Local keeps the client's address");
    assert_eq!(ask(&lab.client, "10.96.0.5:80").split(' ').nth(1), Some("10.244.0.1"), "a cluster IP from outside");
    for refused in ["10.96.0.8:80", "192.0.2.1:30082", "10.96.0.5:81"] {
        assert_eq!(ask(&lab.client, refused), "ConnectionRefused", "{refused}");
        assert_eq!(ask(&lab.node, refused), "ConnectionRefused", "{refused}");
    }
}

#[test]
fn changes_are_written_as_differences() {
    let mut lab = Lab::new("p2");
    lab.serve();
    let web = || service("web", "10.96.0.5");
    type Step = (Vec<(ServicePort, Vec<Endpoint>)>, &'static str);
    let steps: [Step; 6] = [
        (vec![], "TimedOut"),
        (vec![(web(), vec![])], "ConnectionRefused"),
        (vec![(web(), vec![a()])], "a"),
        (vec![(ServicePort { affinity_secs: Some(60), ..web() }, vec![b()])], "b"),
        (vec![(ServicePort { affinity_secs: Some(90), ..web() }, vec![b()]), (service("other", "10.96.0.9"), vec![a()])], "b"),
        (vec![(service("other", "10.96.0.5"), vec![a()])], "a"),
    ];
    // What no rule knows leaves by the default route and dies at the client.
    for (services, expected) in steps {
        lab.apply(&services);
        let answer = ask(&lab.pods[1], "10.96.0.5:80");
        assert_eq!(answer.split(' ').next(), Some(expected), "{services:#?}");
    }
    lab.net.nft(&removal()).unwrap();
    assert_eq!(lab.node.run("nft", &["list", "tables"]), "");
    lab.net.nft(&removal()).unwrap();
}

#[test]
fn affinity_keeps_a_client_on_its_endpoint() {
    let mut lab = Lab::new("p3");
    lab.serve();
    lab.apply(&[(ServicePort { affinity_secs: Some(100), ..service("web", "10.96.0.5") }, vec![a(), b()])]);
    let answers: std::collections::BTreeSet<String> = (0..20).map(|_| ask(&lab.client, "10.96.0.5:80")).collect();
    assert_eq!(answers.len(), 1, "{answers:?}");
}

#[test]
fn udp_clients_leave_an_endpoint_that_is_gone() {
    let mut lab = Lab::new("p4");
    lab.serve();
    let mut dns = service("dns", "10.96.0.10");
    dns.key.protocol = Protocol::Udp;
    dns.port = 53;
    let at = |address: &str| endpoint(address, 53);
    lab.apply(&[(dns.clone(), vec![at("10.244.0.2")])]);
    // One socket throughout, so that all is one tracked connection.
    let socket = lab.client.enter(|| UdpSocket::bind("192.0.2.9:5000").unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let ask = || {
        socket.send_to(b"?", "10.96.0.10:53").unwrap();
        let mut buffer = [0; 8];
        socket.recv_from(&mut buffer).map(|(length, _)| String::from_utf8_lossy(&buffer[..length]).into_owned()).map_err(|e| e.kind())
    };
    assert_eq!(ask(), Ok("a".into()));
    lab.apply(&[(dns.clone(), vec![at("10.244.0.3")])]);
    assert_eq!(ask(), Ok("b".into()));
    lab.apply(&[(dns, vec![at("10.244.0.2"), at("10.244.0.3")])]);
    assert_eq!(ask(), Ok("b".into()), "a connection that works stays");
}

#[test]
fn thousands_of_services_load() {
    let mut lab = Lab::new("p5");
    let many: Vec<_> = (0..2000u32)
        .map(|n| {
            let name = format!("service-with-a-name-{n}");
            let cluster_ip = format!("10.97.{}.{}", n / 250, n % 250 + 1);
            (ServicePort { node_port: 20000 + n as u16, ..service(&name, &cluster_ip) }, vec![a(), b()])
        })
        .collect();
    lab.apply(&many);
    lab.serve();
    assert_eq!(ask(&lab.client, "192.0.2.1:21999").split(' ').nth(1), Some("10.244.0.1"));
    lab.apply(&many[..1999]);
    assert_eq!(ask(&lab.client, "192.0.2.1:21999"), "ConnectionRefused");
}
