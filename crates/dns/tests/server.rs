//! The server over real sockets: UDP, TCP, other servers, objects of a scripted API.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::Duration;

use base::Tasks;
use dns::wire::{self, Data, Query, Rcode, Record, Reply, kind};
use dns::{Dns, Options};
use hickory_proto::op::Message;
use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

/// An API that has what it has: lists by streaming, then silence.
fn api(objects: Vec<Value>) -> client::Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let (version, kind) = match request.uri().path().rsplit('/').next() {
            Some("namespaces") => ("v1", "Namespace"),
            Some("services") => ("v1", "Service"),
            Some("endpointslices") => ("discovery.k8s.io/v1", "EndpointSlice"),
            other => panic!("cluster DNS asked for {other:?}"),
        };
        let event = |type_: &str, mut object: Value| {
            object["apiVersion"] = version.into();
            format!("{}\n", json!({"type": type_, "object": object}))
        };
        let mut lines: String =
            objects.iter().filter(|object| object["kind"] == kind).map(|object| event("ADDED", object.clone())).collect();
        let meta = json!({"resourceVersion": "9", "annotations": {"k8s.io/initial-events-end": "true"}});
        lines.push_str(&event("BOOKMARK", json!({"kind": kind, "metadata": meta})));
        async move {
            if !query.contains("sendInitialEvents=true") {
                return std::future::pending().await;
            }
            Ok::<_, tower::BoxError>(Response::new(Body::from(lines.into_bytes())))
        }
    });
    client::Client::new(service, "default")
}

fn objects() -> Vec<Value> {
    let meta = |name: &str| json!({"name": name, "namespace": "default", "resourceVersion": "1", "uid": name});
    let service = |name: &str, spec: Value| json!({"kind": "Service", "metadata": meta(name), "spec": spec});
    let endpoints: Vec<Value> = (0..100).map(|n| json!({"addresses": [format!("10.244.0.{n}")], "conditions": {"ready": true}})).collect();
    let mut slice =
        json!({"kind": "EndpointSlice", "metadata": meta("many-1"), "addressType": "IPv4", "endpoints": endpoints, "ports": []});
    slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": "many"});
    vec![
        json!({"kind": "Namespace", "metadata": {"name": "default", "resourceVersion": "1", "uid": "ns"}}),
        service("web", json!({"clusterIP": "10.96.0.5", "ports": [{"port": 80}]})),
        service("many", json!({"clusterIP": "None"})),
        service("ext", json!({"type": "ExternalName", "externalName": "www.example.com"})),
        slice,
    ]
}

/// Another server: answers what ends in example.com, refuses the rest to exist; over UDP what begins with "big" only by TCP.
async fn upstream() -> SocketAddr {
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let udp = UdpSocket::bind(address).await.unwrap();
    fn reply(bytes: &[u8], tcp: bool) -> Vec<u8> {
        let query = wire::parse(bytes).unwrap();
        let record = |data| Record { name: query.name.clone(), ttl: 60, data };
        let mut reply = Reply::new(if query.name.ends_with("example.com") { Rcode::NoError } else { Rcode::NxDomain });
        match query.kind {
            kind::A if reply.rcode == Rcode::NoError => reply.answers.push(record(Data::A([192, 0, 2, 80].into()))),
            _ => {}
        }
        reply.truncated = query.name.starts_with("big") && !tcp;
        reply.encode(&query, 65535)
    }
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        loop {
            let (length, from) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&reply(&buffer[..length], false), from).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let length = stream.read_u16().await.unwrap();
            let mut message = vec![0; length.into()];
            stream.read_exact(&mut message).await.unwrap();
            let answer = reply(&message, true);
            stream.write_u16(answer.len() as u16).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    });
    address
}

struct Server {
    address: SocketAddr,
    tasks: Tasks,
}

impl Server {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Options)) -> Self {
        let mut options = Options {
            listen: vec!["127.0.0.1:0".parse().unwrap()],
            domain: "cluster.local".into(),
            ttl: 5,
            upstreams: vec![upstream().await.to_string()],
            resolv_conf: "/etc/resolv.conf".into(),
            health: None,
            ready: None,
            metrics: None,
        };
        change(&mut options);
        let tasks = Tasks::new();
        let dns = Dns::new(options, api(objects())).await.unwrap();
        let address = dns.addresses()[0];
        let mut ready = dns.ready();
        tasks.spawn_critical("dns", dns.run(tasks.clone()));
        tokio::time::timeout(Duration::from_secs(10), ready.wait_for(|ready| *ready)).await.unwrap().unwrap();
        Self { address, tasks }
    }

    async fn udp(&self, message: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(message, self.address).await.unwrap();
        let mut buffer = vec![0; 4096];
        let length = tokio::time::timeout(Duration::from_secs(5), socket.recv(&mut buffer)).await.unwrap().unwrap();
        buffer.truncate(length);
        buffer
    }

    async fn ask(&self, name: &str, kind: u16) -> String {
        let query = Query::new(42, name, kind).unwrap();
        let answer = self.udp(&query.encode(42)).await;
        let message = Message::from_vec(&answer).unwrap();
        assert_eq!(message.metadata.id, 42);
        let answers: Vec<String> = message.answers.iter().map(|r| r.data.to_string()).collect();
        format!("{:?} {}", message.metadata.response_code, answers.join(" "))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

#[tokio::test]
async fn names_of_the_cluster_and_of_others() {
    let server = Server::start().await;
    assert_eq!(server.ask("web.default.svc.cluster.local", kind::A).await, "NoError 10.96.0.5");
    assert_eq!(server.ask("none.default.svc.cluster.local", kind::A).await, "NXDomain ");
    assert_eq!(server.ask("www.example.com", kind::A).await, "NoError 192.0.2.80");
    assert_eq!(server.ask("www.example.com", kind::A).await, "NoError 192.0.2.80", "from the cache");
    assert_eq!(server.ask("big.example.com", kind::A).await, "NoError 192.0.2.80", "asked again over TCP");
    assert_eq!(server.ask("www.example.org", kind::A).await, "NXDomain ");
    assert_eq!(server.ask("ext.default.svc.cluster.local", kind::A).await, "NoError www.example.com. 192.0.2.80");
    assert_eq!(server.ask("5.0.96.10.in-addr.arpa", kind::PTR).await, "NoError web.default.svc.cluster.local.");
}

#[tokio::test]
async fn long_answers_are_cut_over_udp_and_whole_over_tcp() {
    let server = Server::start().await;
    let mut query = Query::new(1, "many.default.svc.cluster.local", kind::A).unwrap();
    query.edns = None;
    let message = query.encode(1);
    let answer = server.udp(&message).await;
    assert!(answer.len() <= 512 && wire::is_truncated(&answer));
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // Two questions on one connection.
    for _ in 0..2 {
        stream.write_u16(message.len() as u16).await.unwrap();
        stream.write_all(&message).await.unwrap();
        let length = stream.read_u16().await.unwrap();
        let mut answer = vec![0; length.into()];
        stream.read_exact(&mut answer).await.unwrap();
        assert_eq!(wire::answers_of(&answer).unwrap().len(), 100);
    }
}

#[tokio::test]
async fn bad_messages_do_not_stop_it() {
    let server = Server::start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in 0..40 {
        socket.send_to(&vec![0xff; length], server.address).await.unwrap();
        socket.send_to(&vec![0; length], server.address).await.unwrap();
    }
    let mut two_questions = Query::new(7, "example.com", kind::A).unwrap().encode(7);
    two_questions[5] = 2;
    assert_eq!(wire::rcode(&server.udp(&two_questions).await), 1);
    assert_eq!(server.ask("web.default.svc.cluster.local", kind::A).await, "NoError 10.96.0.5");
}

#[tokio::test]
async fn without_other_servers_it_says_so_for_their_names_only() {
    let server = Server::with(|options| (options.upstreams, options.resolv_conf) = (vec![], "/nowhere/resolv.conf".into())).await;
    assert_eq!(server.ask("www.example.com", kind::A).await, "ServFail ");
    assert_eq!(server.ask("web.default.svc.cluster.local", kind::A).await, "NoError 10.96.0.5");
}

#[tokio::test]
async fn options_that_cannot_work_are_refused() {
    let options = |listen: &str, upstream: &str| Options {
        listen: vec![listen.parse().unwrap()],
        domain: "cluster.local".into(),
        ttl: 5,
        upstreams: vec![upstream.into()],
        resolv_conf: "/etc/resolv.conf".into(),
        health: None,
        ready: None,
        metrics: None,
    };
    let error = |options| async { Dns::new(options, api(vec![])).await.err().map(|e| e.to_string()).unwrap_or_default() };
    assert!(error(options("0.0.0.0:0", "192.0.2.1")).await.contains("not a wildcard"));
    assert!(error(options("127.0.0.1:0", "x")).await.contains("must be IP or IP:port"));
    assert!(error(options("192.0.2.77:53", "192.0.2.1")).await.contains("DNS address 192.0.2.77:53"));
}
