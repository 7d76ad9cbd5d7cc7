//! Authentication as people meet it: Debian's etcdctl with `--user`, signed tokens, certificates that name users, the JSON gateway, a restart.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{OurEtcd, RealEtcd, run, try_run};
use etcd::Options;

const V3: &[(&str, &str)] = &[("ETCDCTL_API", "3")];

struct Ctl {
    /// Endpoint and TLS.
    flags: Vec<String>,
}

impl Ctl {
    fn new(etcd: &OurEtcd) -> Self {
        Self { flags: vec!["--endpoints".into(), etcd.endpoint.clone()] }
    }

    fn args<'a>(&'a self, line: &'a str) -> Vec<&'a str> {
        self.flags.iter().map(String::as_str).chain(line.split(' ')).collect()
    }

    async fn ok(&self, line: &str) -> String {
        // Its client logs each refusal that it goes on from.
        let said = run("etcdctl", &self.args(line), V3, None).await;
        said.split_inclusive('\n').filter(|line| !line.starts_with("{\"level\"")).collect()
    }

    async fn fails(&self, line: &str, expected: &str) {
        let (good, said) = try_run("etcdctl", &self.args(line), V3, None).await;
        assert!(!good && said.contains(expected), "{line}: {said}");
    }

    /// root, and ann who reads and writes below `/ann/`.
    async fn set_up(&self) {
        assert_eq!(self.ok("user add root:root").await, "User root created\n");
        assert_eq!(self.ok("user add ann:ann").await, "User ann created\n");
        assert_eq!(self.ok("role add owner").await, "Role owner created\n");
        assert_eq!(self.ok("role grant-permission --prefix owner readwrite /ann/").await, "Role owner updated\n");
        assert_eq!(self.ok("user grant-role ann owner").await, "Role owner is granted to user ann\n");
        // It gives root the root role by itself.
        assert_eq!(self.ok("auth enable").await, "Authentication Enabled\n");
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.auth.bcrypt_cost = 4;
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcdctl() {
    let etcd = OurEtcd::start_with(options()).await;
    let ctl = Ctl::new(&etcd);
    ctl.set_up().await;
    ctl.fails("put /ann/1 v", "etcdserver: user name is empty").await;
    ctl.fails("--user ann:wrong put /ann/1 v", "etcdserver: authentication failed, invalid user ID or password").await;
    assert_eq!(ctl.ok("--user ann:ann put /ann/1 v").await, "OK\n");
    assert_eq!(ctl.ok("--user ann:ann get --prefix /ann/").await, "/ann/1\nv\n");
    ctl.fails("--user ann:ann get --prefix /", "etcdserver: permission denied").await;
    ctl.fails("--user ann:ann put /bob/1 v", "etcdserver: permission denied").await;
    ctl.fails("--user ann:ann user list", "etcdserver: permission denied").await;
    ctl.fails("--user ann:ann watch /bob/1", "etcdserver: permission denied").await;
    assert_eq!(ctl.ok("--user ann:ann lock /ann/mine echo held").await, "held\n");
    ctl.fails("--user ann:ann lock /bob/mine echo held", "etcdserver: permission denied").await;
    assert_eq!(ctl.ok("--user root:root user list").await, "ann\nroot\n");
    assert_eq!(ctl.ok("--user root:root role list").await, "owner\nroot\n");
    assert_eq!(ctl.ok("--user root:root user get ann").await, "User: ann\nRoles: owner\n");
    let detail = ctl.ok("--user root:root role get owner").await;
    assert!(detail.contains("KV Read:\n\t[/ann/, /ann0) (prefix /ann/)"), "{detail}");
    assert!(ctl.ok("--user root:root endpoint status").await.contains("3.5."));
    assert!(ctl.ok("--user root:root endpoint health").await.contains("is healthy"));
    assert!(ctl.ok("--user root:root endpoint hashkv").await.starts_with(&etcd.endpoint));
    ctl.fails("--user ann:ann endpoint hashkv", "permission denied").await;
    ctl.fails("--user root:root user delete root", "etcdserver: invalid auth management").await;
    assert_eq!(ctl.ok("--user root:root role revoke-permission --prefix owner /ann/").await.lines().count(), 1);
    ctl.fails("--user ann:ann get /ann/1", "etcdserver: permission denied").await;
    assert_eq!(ctl.ok("--user root:root user revoke-role ann owner").await, "Role owner is revoked from user ann\n");
    assert_eq!(ctl.ok("--user root:root role delete owner").await, "Role owner deleted\n");
    assert_eq!(ctl.ok("--user root:root user delete ann").await, "User ann deleted\n");

    // It stays on over a restart, and off when it was switched off.
    let dir = etcd.stop().await;
    let listening = || Options { listen_client_urls: "http://127.0.0.1:0".into(), ..options() };
    let etcd = OurEtcd::start_in(dir, listening()).await;
    let ctl = Ctl::new(&etcd);
    ctl.fails("put a b", "etcdserver: user name is empty").await;
    assert_eq!(ctl.ok("--user root:root auth disable").await, "Authentication Disabled\n");
    let dir = etcd.stop().await;
    let etcd = OurEtcd::start_in(dir, listening()).await;
    assert_eq!(Ctl::new(&etcd).ok("put a b").await, "OK\n");
    etcd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_tokens() {
    let keys = tempfile::tempdir().unwrap();
    let key = pki::PrivateKey::generate().unwrap();
    let path = keys.path().join("jwt.key");
    std::fs::write(&path, key.to_pem()).unwrap();
    let mut options = options();
    options.auth.auth_token = format!("jwt,sign-method=ES256,priv-key={},ttl=10m", path.display());
    let etcd = OurEtcd::start_with(options).await;
    let ctl = Ctl::new(&etcd);
    ctl.set_up().await;
    assert_eq!(ctl.ok("--user ann:ann put /ann/1 v").await, "OK\n");
    ctl.fails("--user ann:ann put /bob/1 v", "etcdserver: permission denied").await;
    ctl.fails("--user ann:wrong put /ann/1 v", "etcdserver: authentication failed, invalid user ID or password").await;
    assert_eq!(ctl.ok("--user root:root user add bob:bob").await, "User bob created\n");

    let channel = tonic::transport::Channel::from_shared(etcd.endpoint.clone()).unwrap().connect().await.unwrap();
    let mut auth = etcd::pb::auth_client::AuthClient::new(channel.clone());
    let login = etcd::pb::AuthenticateRequest { name: "ann".into(), password: "ann".into() };
    let token = auth.authenticate(login).await.unwrap().into_inner().token;
    assert_eq!(token.split('.').count(), 3);
    let mut kv = etcd::pb::kv_client::KvClient::new(channel);
    let mut put = async |token: &str| {
        let put = etcd::pb::PutRequest { key: "/ann/1".into(), ..Default::default() };
        let mut request = tonic::Request::new(put);
        request.metadata_mut().insert("token", token.parse().unwrap());
        kv.put(request).await.map(|_| ()).map_err(|status| (status.code(), status.message().to_owned()))
    };
    assert_eq!(put(&token).await, Ok(()));
    let forged = |claims: &str| {
        let key = pki::jws::SigningKey::new(&pki::PrivateKey::generate().unwrap()).unwrap();
        key.sign(claims.as_bytes()).unwrap()
    };
    let invalid = Err((tonic::Code::Unauthenticated, "etcdserver: invalid auth token".to_owned()));
    for token in [forged(r#"{"username":"root","revision":99}"#), format!("{token}x"), "e30.e30.".into(), "a.1".into()] {
        assert_eq!(put(&token).await, invalid, "{token}");
    }
    // A token tells of the users of its time: after a change its owner logs in again.
    assert_eq!(ctl.ok("--user root:root user add eve:eve").await, "User eve created\n");
    assert_eq!(put(&token).await, Err((tonic::Code::InvalidArgument, "etcdserver: revision of auth store is old".to_owned())));
    etcd.stop().await;
}

/// A token that etcd has signed is good here and the other way round: they may have the same key while somebody moves from one to the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_tokens_of_etcd() {
    let keys = tempfile::tempdir().unwrap();
    let (key, public) = (keys.path().join("jwt.key"), keys.path().join("jwt.pub"));
    let pem = include_str!("../../pki/testdata/rsa-pkcs1.pem");
    std::fs::write(&key, pem).unwrap();
    std::fs::write(&public, pki::PrivateKey::from_pem(pem).unwrap().public_pem()).unwrap();
    for method in ["RS256", "PS384"] {
        let token_option = format!("jwt,sign-method={method},priv-key={},pub-key={}", key.display(), public.display());
        let real = RealEtcd::start_with(&["--bcrypt-cost", "4", "--auth-token", &token_option]).await;
        let mut options = options();
        options.auth.auth_token = token_option;
        let ours = OurEtcd::start_with(options).await;
        let mut tokens = Vec::new();
        for endpoint in [&real.endpoint, &ours.endpoint] {
            Ctl { flags: vec!["--endpoints".into(), endpoint.clone()] }.set_up().await;
            let channel = tonic::transport::Channel::from_shared(endpoint.clone()).unwrap().connect().await.unwrap();
            let login = etcd::pb::AuthenticateRequest { name: "ann".into(), password: "ann".into() };
            tokens.push(etcd::pb::auth_client::AuthClient::new(channel).authenticate(login).await.unwrap().into_inner().token);
        }
        for (endpoint, token) in [(&real.endpoint, &tokens[1]), (&ours.endpoint, &tokens[0])] {
            let channel = tonic::transport::Channel::from_shared(endpoint.clone()).unwrap().connect().await.unwrap();
            for (put, good) in [("/ann/1", true), ("/bob/1", false)] {
                let mut request = tonic::Request::new(etcd::pb::PutRequest { key: put.into(), ..Default::default() });
                request.metadata_mut().insert("token", token.parse().unwrap());
                let answer = etcd::pb::kv_client::KvClient::new(channel.clone()).put(request).await;
                assert_eq!(answer.is_ok(), good, "{method} {endpoint} {put}: {answer:?}");
            }
        }
        ours.stop().await;
    }
}

struct Certificates {
    dir: tempfile::TempDir,
    authority: pki::Authority,
}

impl Certificates {
    fn new() -> Self {
        let authority = pki::Authority::create("etcd-ca", base::clock::now()).unwrap();
        let certificates = Self { dir: tempfile::tempdir().unwrap(), authority };
        certificates.write("ca.crt", &certificates.authority.certificate_pem);
        certificates
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn issue(&self, name: &str, leaf: &pki::Leaf) {
        let (cert, key) = self.authority.issue(leaf, base::clock::now()).unwrap();
        self.write(&format!("{name}.crt"), &cert);
        self.write(&format!("{name}.key"), &key.to_pem());
    }
}

/// etcdctl that shows a certificate.
fn showing(etcd: &OurEtcd, certificates: &Certificates, name: &str) -> Ctl {
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let mut ctl = Ctl::new(etcd);
    for (flag, file) in [("--cacert", "ca.crt".to_owned()), ("--cert", format!("{name}.crt")), ("--key", format!("{name}.key"))] {
        ctl.flags.extend([flag.to_owned(), path(&certificates.path(&file))]);
    }
    ctl
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_name_users() {
    let certificates = Certificates::new();
    certificates.issue("server", &pki::Leaf::server("etcd", vec!["localhost".into()], vec!["127.0.0.1".parse().unwrap()]));
    for name in ["root", "ann", "eve"] {
        certificates.issue(name, &pki::Leaf::client(name, None));
    }
    let mut options = Options { listen_client_urls: "https://127.0.0.1:0".into(), ..options() };
    options.client_tls.cert_file = Some(certificates.path("server.crt"));
    options.client_tls.key_file = Some(certificates.path("server.key"));
    options.client_tls.trusted_ca_file = Some(certificates.path("ca.crt"));
    options.client_tls.client_cert_auth = true;
    let etcd = OurEtcd::start_in(tempfile::tempdir().unwrap(), options).await;
    let show = |name| showing(&etcd, &certificates, name);
    show("eve").set_up().await;
    assert_eq!(show("ann").ok("put /ann/1 v").await, "OK\n");
    show("ann").fails("put /bob/1 v", "etcdserver: permission denied").await;
    show("eve").fails("get /ann/1", "etcdserver: permission denied").await;
    assert_eq!(show("root").ok("user list").await, "ann\nroot\n");
    // Who says more has said it: the token counts, not the certificate.
    assert_eq!(show("eve").ok("--user ann:ann get /ann/1").await, "/ann/1\nv\n");
    show("root").fails("--user ann:ann user list", "etcdserver: permission denied").await;
    // Through the gateway a certificate names nobody: it may be the gateway's own.
    let gateway = async |name: &str, body: &str, header: &str| {
        let path = |file: String| certificates.path(&file).to_str().unwrap().to_owned();
        let (ca, cert, key) = (path("ca.crt".into()), path(format!("{name}.crt")), path(format!("{name}.key")));
        let url = format!("{}/v3/kv/range", etcd.endpoint);
        run("curl", &["-s", "--cacert", &ca, "--cert", &cert, "--key", &key, "-H", header, "-d", body, &url], &[], None).await
    };
    let said = gateway("root", r#"{"key":"L2Fubi8x"}"#, "X-None: 1").await;
    assert!(said.contains("etcdserver: user name is empty"), "{said}");
    let mut flags = vec!["-s".to_owned(), "--cacert".into(), certificates.path("ca.crt").to_str().unwrap().into()];
    for (flag, file) in [("--cert", "ann.crt"), ("--key", "ann.key")] {
        flags.extend([flag.to_owned(), certificates.path(file).to_str().unwrap().to_owned()]);
    }
    flags.extend(["-d".to_owned(), r#"{"name":"ann","password":"ann"}"#.into(), format!("{}/v3/auth/authenticate", etcd.endpoint)]);
    let answer = run("curl", &flags.iter().map(String::as_str).collect::<Vec<_>>(), &[], None).await;
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let authorization = format!("Authorization: {}", answer["token"].as_str().unwrap());
    let said = gateway("ann", r#"{"key":"L2Fubi8x"}"#, &authorization).await;
    assert!(said.contains(r#""value":"dg==""#), "{said}");
    etcd.stop().await;
}
