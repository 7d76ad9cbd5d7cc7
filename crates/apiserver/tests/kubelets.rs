//! Log and exec through a fake kubelet over TLS: plain answers, refusals, upgraded streams.

#![allow(clippy::unwrap_used)] // All of this file is tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use apiserver::{ApiServer, Options};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use store::{Engine, EngineOptions};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Setup {
    address: SocketAddr,
    ca: String,
    tasks: base::Tasks,
    _folder: tempfile::TempDir,
}

impl Drop for Setup {
    fn drop(&mut self) {
        self.tasks.stop();
    }
}

fn certificate(authority: &pki::Authority, folder: &Path, name: &str) -> Arc<pki::tls::ServingCertificate> {
    let (cert, key) = authority.issue(&pki::Leaf::server(name, vec![], vec![LOCAL]), base::clock::now()).unwrap();
    let (cert_file, key_file) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    std::fs::write(&cert_file, cert).unwrap();
    std::fs::write(&key_file, key.to_pem()).unwrap();
    pki::tls::ServingCertificate::load(cert_file, key_file).unwrap()
}

/// Answers logs with its own path, refuses container `bad`, echoes upgraded streams.
async fn kubelet(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().to_string();
    if path.contains("/bad") {
        return Ok(Response::builder().status(400).body(Full::from("container \"bad\" is waiting to start: ContainerCreating")).unwrap());
    }
    if !path.starts_with("/exec/") {
        return Ok(Response::new(Full::from(path)));
    }
    assert!(!request.headers().contains_key("authorization"), "the caller's credentials stay here");
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgraded.await.unwrap());
        let mut bytes = [0; 4];
        io.read_exact(&mut bytes).await.unwrap();
        io.write_all(&bytes).await.unwrap();
    });
    Ok(Response::builder().status(101).header("connection", "Upgrade").header("upgrade", "SPDY/3.1").body(Full::default()).unwrap())
}

async fn setup() -> Setup {
    let tasks = base::Tasks::new();
    let folder = tempfile::tempdir().unwrap();
    let authority = pki::Authority::create("ca", base::clock::now()).unwrap();
    std::fs::write(folder.path().join("ca.crt"), &authority.certificate_pem).unwrap();
    let config = pki::tls::server_config(certificate(&authority, folder.path(), "kubelet"), pki::tls::ClientAuth::Request).unwrap();
    let listener = TcpListener::bind((LOCAL, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tasks.spawn("kubelet", async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((stream, _)) = listener.accept().await {
            let stream = acceptor.accept(stream).await.unwrap();
            let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(kubelet));
            tokio::spawn(served.with_upgrades());
        }
    });
    certificate(&authority, folder.path(), "server");
    let options = Options {
        bind_address: LOCAL,
        secure_port: 0,
        tls_cert_file: Some(folder.path().join("server.crt")),
        tls_private_key_file: Some(folder.path().join("server.key")),
        kubelet_certificate_authority: Some(folder.path().join("ca.crt")),
        ..Options::default()
    };
    let engine = Engine::in_memory(EngineOptions::default(), &tasks);
    let server = ApiServer::for_tests(options, Arc::new(engine)).unwrap();
    let address = server.serve(&tasks).await.unwrap();
    let setup = Setup { address, ca: authority.certificate_pem.clone(), tasks, _folder: folder };
    let status =
        json!({"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}}});
    setup.post("/api/v1/nodes", json!({"metadata": {"name": "n"}, "status": status})).await;
    let containers = json!([{"name": "c", "image": "i"}, {"name": "bad", "image": "i"}]);
    setup
        .post("/api/v1/namespaces/default/pods", json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": containers}}))
        .await;
    setup
}

impl Setup {
    async fn send(&self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        let mut config = pki::tls::client_config(&self.ca, None).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let stream = TcpStream::connect(self.address).await.unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::from(self.address.ip()), stream).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        sender.send_request(request).await.unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let response = self.send(Request::get(path).header("host", "x").body(Full::default()).unwrap()).await;
        let code = response.status().as_u16();
        (code, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    async fn post(&self, path: &str, body: Value) {
        let request = Request::post(path).header("host", "x").header("content-type", "application/json");
        let response = self.send(request.body(Full::from(body.to_string())).unwrap()).await;
        assert_eq!(response.status(), 201, "{:?}", response.into_body().collect().await.unwrap().to_bytes());
    }
}

const POD: &str = "/api/v1/namespaces/default/pods/p";

#[tokio::test]
async fn logs_come_from_the_kubelet() {
    let setup = setup().await;
    assert_eq!(setup.get(&format!("{POD}/log?container=c&tailLines=3")).await, (200, "/containerLogs/default/p/c?tailLines=3".into()));
    let (code, refused) = setup.get(&format!("{POD}/log?container=bad")).await;
    let status: Value = serde_json::from_str(&refused).unwrap();
    assert_eq!((code, status["message"].as_str()), (400, Some("container \"bad\" is waiting to start: ContainerCreating")));
    let (code, refused) = setup.get(&format!("{POD}/log")).await;
    assert!(code == 400 && refused.contains("choose one of: [c bad]"), "{refused}");
}

#[tokio::test]
async fn exec_streams_bytes_both_ways() {
    let setup = setup().await;
    let request = Request::post(format!("{POD}/exec?container=c&command=ls&stdout=true"))
        .header("host", "x")
        .header("authorization", "Bearer secret")
        .header("connection", "Upgrade")
        .header("upgrade", "SPDY/3.1");
    let response = setup.send(request.body(Full::default()).unwrap()).await;
    assert_eq!(response.status(), 101);
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    io.write_all(b"ping").await.unwrap();
    let mut bytes = [0; 4];
    io.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"ping");
}

#[tokio::test]
async fn the_proxy_of_a_node_reaches_its_kubelet() {
    let setup = setup().await;
    assert_eq!(setup.get("/api/v1/nodes/n/proxy/stats/summary?x=1").await, (200, "/stats/summary?x=1".into()));
}
