//! Pods for real: the plugin against the kernel, in network namespaces of its own. Needs root, iproute2, nftables, busybox.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::Duration;

use host::scratch::ScratchNetns;
use network::cni::{self, Env};
use serde_json::{Value, json};

struct Node {
    host: ScratchNetns,
    data: tempfile::TempDir,
}

impl Node {
    fn new(name: &str) -> Self {
        Self { host: ScratchNetns::new(name), data: tempfile::tempdir().unwrap() }
    }

    fn conf(&self, ports: Value) -> String {
        json!({
            "cniVersion": "1.0.0", "name": "oxikube", "type": "oxikube", "bridge": "oxi0", "mtu": 1400,
            "subnets": ["10.244.0.0/24", "fd00:244::/64"], "dataDir": self.data.path(), "runtimeConfig": { "portMappings": ports },
        })
        .to_string()
    }

    fn call(&self, command: &str, id: &str, pod: &ScratchNetns, conf: &str) -> (i32, Value) {
        let env =
            Env { command: command.into(), container_id: id.into(), netns: pod.path.to_string_lossy().into_owned(), ifname: "eth0".into() };
        let (code, output) = self.host.enter(|| cni::main(&env, conf.as_bytes()));
        (code, serde_json::from_str(&output).unwrap_or(Value::String(output)))
    }

    fn add(&self, id: &str, pod: &ScratchNetns, ports: Value) -> (IpAddr, IpAddr) {
        let (code, result) = self.call("ADD", id, pod, &self.conf(ports));
        assert_eq!(code, 0, "{result}");
        let ip = |n: usize| result["ips"][n]["address"].as_str().unwrap().split('/').next().unwrap().parse().unwrap();
        (ip(0), ip(1))
    }
}

/// Answers every connection with `name`, until the process ends.
fn serve(pod: &ScratchNetns, bind: &str, name: &'static str) {
    let listener = pod.enter(|| TcpListener::bind(bind).unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let peer = connection.peer_addr().unwrap().ip();
            connection.write_all(format!("{name} {peer}").as_bytes()).unwrap();
        }
    });
}

fn ask(from: &ScratchNetns, to: &str) -> String {
    let address: SocketAddr = to.parse().unwrap();
    from.enter(|| {
        let mut connection = TcpStream::connect_timeout(&address, Duration::from_secs(3)).map_err(|e| e.to_string())?;
        let mut text = String::new();
        connection.read_to_string(&mut text).map_err(|e| e.to_string())?;
        Ok::<_, String>(text)
    })
    .unwrap_or_else(|e| format!("error: {e}"))
}

#[test]
fn pods_reach_each_other_and_the_node() {
    let node = Node::new("n1");
    let (a, b) = (ScratchNetns::new("n1a"), ScratchNetns::new("n1b"));
    let (a4, a6) = node.add("a", &a, json!([]));
    let (b4, b6) = node.add("b", &b, json!([]));
    assert_eq!((a4.to_string(), b6.to_string()), ("10.244.0.2".into(), "fd00:244::3".into()));
    serve(&b, "[::]:80", "b");
    serve(&node.host, "[::]:80", "node");
    serve(&a, "[::]:80", "a");
    assert_eq!(ask(&a, &format!("{b4}:80")), format!("b ::ffff:{a4}"));
    assert_eq!(ask(&a, &format!("[{b6}]:80")), format!("b {a6}"));
    assert_eq!(ask(&a, "10.244.0.1:80"), format!("node ::ffff:{a4}"));
    assert_eq!(ask(&node.host, &format!("{a4}:80")), "a ::ffff:10.244.0.1");
    assert_eq!(ask(&a, "127.0.0.1:80"), "a ::ffff:127.0.0.1");
    assert!(a.run("ip", &["link", "show", "eth0"]).contains("mtu 1400"));
    assert_eq!(node.call("CHECK", "a", &a, &node.conf(json!([]))), (0, Value::String(String::new())));
    a.run("ip", &["route", "del", "default"]);
    assert_eq!(node.call("CHECK", "a", &a, &node.conf(json!([]))).0, 1);
}

#[test]
fn deleting_is_idempotent_and_gives_all_back() {
    let node = Node::new("n2");
    let pod = ScratchNetns::new("n2a");
    let ports = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    node.add("a", &pod, ports.clone());
    // The same call again, as after a crash in the middle.
    node.add("a", &pod, ports.clone());
    for _ in 0..2 {
        assert_eq!(node.call("DEL", "a", &pod, &node.conf(ports.clone())).0, 0);
    }
    assert!(!node.host.run("ip", &["-o", "link"]).contains("master oxi0"));
    assert!(!node.host.run("nft", &["list", "ruleset"]).contains("8080"));
    assert_eq!(pod.try_run("ip", &["link", "show", "eth0"]).status.code(), Some(1));
    let allocations = std::fs::read_dir(node.data.path().join("oxikube")).unwrap();
    assert!(allocations.map(|e| e.unwrap().file_name()).all(|name| !name.to_string_lossy().contains('@')));
}

#[test]
fn garbage_collection_keeps_what_is_valid() {
    let node = Node::new("n3");
    let (a, b) = (ScratchNetns::new("n3a"), ScratchNetns::new("n3b"));
    node.add("a", &a, json!([]));
    node.add("b", &b, json!([]));
    let mut conf: Value = serde_json::from_str(&node.conf(json!([]))).unwrap();
    conf["cniVersion"] = "1.1.0".into();
    conf["cni.dev/valid-attachments"] = json!([{ "containerID": "b", "ifname": "eth0" }]);
    assert_eq!(node.call("GC", "", &a, &conf.to_string()).0, 0);
    assert_eq!(a.try_run("ip", &["link", "show", "eth0"]).status.code(), Some(1));
    b.run("ip", &["link", "show", "eth0"]);
}

#[test]
fn host_ports_lead_to_the_pod() {
    // With br_netfilter frames between pods pass the packet filter inside the bridge; without it packets are only routed.
    for bridge_filter in ["0", "1"] {
        let node = Node::new("n4");
        for family in ["iptables", "ip6tables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
            node.host.enter(|| Path::new(&path).exists().then(|| std::fs::write(&path, bridge_filter).unwrap()));
        }
        host_ports(&node);
    }
}

fn host_ports(node: &Node) {
    let (a, b) = (ScratchNetns::new("n4a"), ScratchNetns::new("n4b"));
    let ports = json!([
        { "hostPort": 8080, "containerPort": 80, "protocol": "tcp" },
        { "hostPort": 8081, "containerPort": 80, "protocol": "tcp", "hostIP": "10.244.0.1" },
        { "hostPort": 5353, "containerPort": 53, "protocol": "udp" },
    ]);
    let (a4, _) = node.add("a", &a, ports);
    let (b4, _) = node.add("b", &b, json!([]));
    serve(&a, "0.0.0.0:80", "a");
    assert_eq!(ask(&b, "10.244.0.1:8080"), "a 10.244.0.1", "from a pod");
    assert_eq!(ask(&b, "10.244.0.1:8081"), "a 10.244.0.1", "by address");
    assert_eq!(ask(&a, "10.244.0.1:8080"), "a 10.244.0.1", "from itself");
    assert_eq!(ask(&node.host, "10.244.0.1:8080"), "a 10.244.0.1", "from the node");
    assert_eq!(ask(&node.host, "127.0.0.1:8080"), "a 10.244.0.1", "from the node's loopback");
    let socket = a.enter(|| UdpSocket::bind("0.0.0.0:53").unwrap());
    let client = node.host.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    client.send_to(b"hello", "10.244.0.1:5353").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    let mut buffer = [0; 16];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"hello");
    socket.send_to(b"back", from).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    assert_eq!(client.recv_from(&mut buffer).unwrap().1.to_string(), "10.244.0.1:5353");
    // Another pod takes over a port that the first still holds; the first one's end leaves it alone.
    let taken = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    assert_eq!(node.call("DEL", "b", &b, &node.conf(json!([]))).0, 0);
    let (b4_again, _) = node.add("b", &b, taken);
    assert_ne!(b4, b4_again);
    serve(&b, "0.0.0.0:80", "b");
    assert_eq!(ask(&node.host, "10.244.0.1:8080"), "b 10.244.0.1");
    assert_eq!(node.call("DEL", "a", &a, &node.conf(json!([]))).0, 0);
    assert_eq!(ask(&node.host, "10.244.0.1:8080"), "b 10.244.0.1");
    assert_ne!(a4, b4_again);
}
