//! Two nodes and a machine outside, each a network namespace: pods across nodes, hidden sources, cleaning up. Needs root, iproute2, nftables.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use host::LinuxNet;
use host::scratch::ScratchNetns;
use network::agent::{Options, apply, cleanup};
use network::cni::{self, Env};
use network::plan::{NetworkPlan, NodeNetwork, Overlay};

/// All hang on the bridge of one more namespace: nodes at 192.0.2.1 and .2, the outside at .9.
struct Lab {
    nodes: [Node; 2],
    outside: ScratchNetns,
    _switch: ScratchNetns,
}

struct Node {
    host: ScratchNetns,
    pod: ScratchNetns,
    dir: tempfile::TempDir,
    options: Options,
    net: LinuxNet,
    plan: Option<NetworkPlan>,
}

fn ip(netns: &ScratchNetns, args: &str) {
    netns.run("ip", &args.split_whitespace().collect::<Vec<_>>());
}

fn node_network(n: usize) -> NodeNetwork {
    NodeNetwork {
        name: format!("node-{n}"),
        pod_cidrs: vec![format!("10.244.{n}.0/24").parse().unwrap()],
        internal_ips: vec![format!("192.0.2.{}", n + 1).parse().unwrap()],
    }
}

impl Node {
    fn new(name: &str, n: usize, overlay: Overlay) -> Self {
        let host = ScratchNetns::new(&format!("{name}{n}"));
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            node_name: format!("node-{n}"),
            cni_conf_dir: dir.path().join("net.d"),
            cni_data_dir: dir.path().join("data"),
            pod_overlay: overlay,
            pod_network_cidrs: vec![],
            pod_uplink_mtu: 0,
        };
        let net = LinuxNet::in_netns(&host.path).unwrap();
        Self { pod: ScratchNetns::new(&format!("{name}{n}p")), host, dir, options, net, plan: None }
    }

    fn apply(&mut self, nodes: &[usize]) {
        let nodes = nodes.iter().map(|n| node_network(*n)).collect();
        self.plan = apply(&self.options, &self.net, nodes, self.plan.take()).unwrap();
    }

    /// Attaches the pod by the configuration that the agent has written.
    fn add_pod(&self) {
        let list = std::fs::read(self.options.cni_conf_dir.join("10-oxikube.conflist")).unwrap();
        let list: serde_json::Value = serde_json::from_slice(&list).unwrap();
        let mut conf = list["plugins"][0].clone();
        (conf["cniVersion"], conf["name"]) = (list["cniVersion"].clone(), list["name"].clone());
        let netns = self.pod.path.to_string_lossy().into_owned();
        let env = Env { command: "ADD".into(), container_id: "pod".into(), netns, ifname: "eth0".into() };
        let (code, output) = self.host.enter(|| cni::main(&env, conf.to_string().as_bytes()));
        assert_eq!(code, 0, "{output}");
    }
}

impl Lab {
    fn new(name: &str, overlay: Overlay) -> Self {
        let switch = ScratchNetns::new(&format!("{name}s"));
        ip(&switch, "link add lan type bridge");
        ip(&switch, "link set lan up");
        let outside = ScratchNetns::new(&format!("{name}o"));
        let nodes = [Node::new(name, 0, overlay), Node::new(name, 1, overlay)];
        for (peer, address) in [(&nodes[0].host, 1), (&nodes[1].host, 2), (&outside, 9)] {
            ip(&switch, &format!("link add v{address} type veth peer name eth0 netns {}", peer.name));
            ip(&switch, &format!("link set v{address} master lan up"));
            ip(peer, &format!("addr add 192.0.2.{address}/24 dev eth0"));
            ip(peer, "link set eth0 up");
        }
        nodes.iter().for_each(|node| ip(&node.host, "route add default via 192.0.2.9"));
        Self { nodes, outside, _switch: switch }
    }
}

/// Answers every connection with the address that it comes from.
fn serve(netns: &ScratchNetns) {
    let listener = netns.enter(|| TcpListener::bind("0.0.0.0:80").unwrap());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection = connection.unwrap();
            let peer = connection.peer_addr().unwrap().ip().to_string();
            // The client may be gone.
            let _ = connection.write_all(peer.as_bytes());
        }
    });
}

fn ask(from: &ScratchNetns, to: &str) -> String {
    let address: SocketAddr = to.parse().unwrap();
    from.enter(|| {
        let mut text = String::new();
        match TcpStream::connect_timeout(&address, Duration::from_secs(3)) {
            Ok(mut connection) => drop(connection.read_to_string(&mut text).unwrap()),
            Err(error) => text = format!("{:?}", error.kind()),
        }
        text
    })
}

fn pods_across_nodes(name: &str, overlay: Overlay) {
    let mut lab = Lab::new(name, overlay);
    for node in &mut lab.nodes {
        node.apply(&[0, 1]);
        node.add_pod();
    }
    let [a, b] = &mut lab.nodes;
    [&b.pod, &b.host, &lab.outside].into_iter().for_each(serve);
    assert_eq!(ask(&a.pod, "10.244.1.2:80"), "10.244.0.2", "between pods no address is hidden");
    assert_eq!(ask(&a.pod, "192.0.2.9:80"), "192.0.2.1", "outside, the pod's is");
    assert_eq!(ask(&b.host, "10.244.1.2:80"), "10.244.1.1");
    assert!(ask(&a.host, "10.244.1.2:80").starts_with(if overlay == Overlay::None { "192.0.2.1" } else { "10.244.0.0" }));
    // Again changes nothing; a node that goes takes its route along; one that comes back is reached.
    a.apply(&[0, 1]);
    assert_eq!(ask(&a.pod, "10.244.1.2:80"), "10.244.0.2");
    a.apply(&[0]);
    assert!(!a.host.run("ip", &["route"]).contains("10.244.1.0"));
    a.apply(&[0, 1]);
    assert_eq!(ask(&a.pod, "10.244.1.2:80"), "10.244.0.2");

    let errors: Vec<String> = cleanup(&a.net, &a.options, true).iter().map(ToString::to_string).collect();
    assert_eq!(errors, [] as [String; 0]);
    assert_eq!(a.host.run("ip", &["-o", "link"]).lines().count(), 2, "lo and eth0");
    assert!(!a.host.run("nft", &["list", "tables"]).contains("oxikube"));
    assert!(!a.host.run("ip", &["route"]).contains("10.244"));
    assert_eq!(std::fs::read_dir(a.dir.path().join("net.d")).unwrap().count(), 0);
    assert_eq!(cleanup(&a.net, &a.options, true).len(), 0, "a second time");
}

#[test]
fn by_routes() {
    pods_across_nodes("g", Overlay::None);
}

#[test]
fn by_overlay() {
    pods_across_nodes("x", Overlay::Vxlan);
}
