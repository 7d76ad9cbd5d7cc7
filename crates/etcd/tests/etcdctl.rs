//! Debian's etcdctl against our server: what a person types, with the output that etcd's documentation shows.

mod common;

use common::{OurEtcd, run, try_run};
use etcd::Options;

const V3: &[(&str, &str)] = &[("ETCDCTL_API", "3")];

struct Ctl {
    endpoint: String,
}

impl Ctl {
    async fn ok(&self, line: &str) -> String {
        let mut args = vec!["--endpoints", &self.endpoint];
        args.extend(line.split(' '));
        run("etcdctl", &args, V3, None).await
    }

    async fn fails(&self, line: &str, expected: &str) {
        let mut args = vec!["--endpoints", &self.endpoint];
        args.extend(line.split(' '));
        let (good, said) = try_run("etcdctl", &args, V3, None).await;
        assert!(!good && said.contains(expected), "{line}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_leases() {
    let etcd = OurEtcd::start().await;
    let ctl = Ctl { endpoint: etcd.endpoint.clone() };
    assert_eq!(ctl.ok("put foo bar").await, "OK\n");
    assert_eq!(ctl.ok("put foo1 bar1").await, "OK\n");
    assert_eq!(ctl.ok("get foo").await, "foo\nbar\n");
    assert_eq!(ctl.ok("get --prefix foo --print-value-only").await, "bar\nbar1\n");
    assert_eq!(ctl.ok("get --prefix foo --order=DESCEND --sort-by=KEY --keys-only --limit=1").await.trim(), "foo1");
    assert_eq!(ctl.ok("put --prev-kv foo baz").await, "OK\nfoo\nbar\n");
    assert_eq!(ctl.ok("get --rev=2 foo").await, "foo\nbar\n");
    assert_eq!(ctl.ok("del --prev-kv foo").await, "1\nfoo\nbaz\n");
    ctl.fails("get --rev=99 foo", "etcdserver: mvcc: required revision is a future revision").await;
    assert_eq!(ctl.ok("compact 4").await, "compacted revision 4\n");
    ctl.fails("get --rev=2 foo", "etcdserver: mvcc: required revision has been compacted").await;
    ctl.fails("compact 4", "etcdserver: mvcc: required revision has been compacted").await;
    let granted = ctl.ok("lease grant 100").await;
    let id = granted.split(' ').nth(1).unwrap();
    assert_eq!(granted, format!("lease {id} granted with TTL(100s)\n"));
    assert_eq!(ctl.ok(&format!("put leased v --lease={id}")).await, "OK\n");
    assert!(ctl.ok("lease list").await.contains(id));
    let status = ctl.ok(&format!("lease timetolive {id} --keys")).await;
    assert!(status.contains("granted with TTL(100s)") && status.contains("attached keys([leased])"), "{status}");
    assert_eq!(ctl.ok(&format!("lease keep-alive --once {id}")).await, format!("lease {id} keepalived with TTL(100)\n"));
    assert_eq!(ctl.ok(&format!("lease revoke {id}")).await, format!("lease {id} revoked\n"));
    assert_eq!(ctl.ok("get leased").await, "");
    ctl.fails(&format!("lease revoke {id}"), "requested lease not found").await;
    assert_eq!(ctl.ok(&format!("lease timetolive {id}")).await, format!("lease {id} already expired\n"));
    etcd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_and_members() {
    let etcd = OurEtcd::start().await;
    let ctl = Ctl { endpoint: etcd.endpoint.clone() };
    let member = ctl.ok("member list").await;
    assert_eq!(member, "8e9e05c52164694d, started, default, http://localhost:2380, http://localhost:2379, false\n");
    assert!(ctl.ok("endpoint health").await.contains("is healthy"));
    let status = ctl.ok("endpoint status").await;
    assert!(status.contains("8e9e05c52164694d, 3.5.17,") && status.contains("true, false"), "{status}");
    assert!(ctl.ok("endpoint hashkv").await.starts_with(&etcd.endpoint));
    assert!(ctl.ok("defrag").await.contains("Finished defragmenting"));
    assert_eq!(ctl.ok("alarm list").await, "");
    ctl.fails("member add b --peer-urls=http://localhost:2380", "etcdserver: Peer URLs already exists").await;
    ctl.fails("member remove 8e9e05c52164694d", "etcdserver: re-configuration failed due to not enough started members").await;
    ctl.fails("member promote 8e9e05c52164694d", "etcdserver: can only promote a learner member").await;
    ctl.fails("member remove 1", "etcdserver: member not found").await;
    ctl.fails("move-leader 1", "etcdserver: bad leader transferee").await;

    etcd.stop().await;
}

/// Locks and elections of etcdctl are made of leases, transactions and watches by the client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_watches_mirrors() {
    let etcd = OurEtcd::start().await;
    let ctl = Ctl { endpoint: etcd.endpoint.clone() };
    assert_eq!(ctl.ok("lock mine echo held").await, "held\n");
    for n in 1..=3 {
        ctl.ok(&format!("put watched v{n}")).await;
    }
    // Ends by itself when its input ends; the history comes first.
    let mut watch = tokio::process::Command::new("etcdctl")
        .args(["--endpoints", &etcd.endpoint, "watch", "--rev=1", "watched", "--prev-kv"])
        .envs(V3.iter().copied())
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(watch.stdout.take().unwrap()));
    for expected in ["PUT", "watched", "v1", "PUT", "watched", "v1", "watched", "v2", "PUT", "watched", "v2", "watched", "v3"] {
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected));
    }
    watch.kill().await.unwrap();
    let other = OurEtcd::start().await;
    let mut mirror = tokio::process::Command::new("etcdctl")
        .args(["--endpoints", &etcd.endpoint, "make-mirror", other.endpoint.trim_start_matches("http://")])
        .envs(V3.iter().copied())
        .stdout(std::process::Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let copy = common::client(&other.endpoint);
    let mut seen = store::Kv::watch(&copy, store::WatchRequest::new(store::KeyRange::one("watched"), 1)).await.unwrap();
    assert_eq!(seen.next().await.unwrap().events[0].kv.value, "v3");
    mirror.kill().await.unwrap();
    other.stop().await;
    etcd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_with_client_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let now = base::clock::now();
    let authority = pki::Authority::create("etcd-ca", now).unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca = write("ca.crt", &authority.certificate_pem);
    let localhost = vec!["127.0.0.1".parse().unwrap()];
    let (cert, key) = authority.issue(&pki::Leaf::server("etcd", vec!["localhost".into()], localhost), now).unwrap();
    let (server_cert, server_key) = (write("server.crt", &cert), write("server.key", &key.to_pem()));
    let (cert, key) = authority.issue(&pki::Leaf::client("root", None), now).unwrap();
    let (client_cert, client_key) = (write("client.crt", &cert), write("client.key", &key.to_pem()));

    let mut options = Options { listen_client_urls: "https://127.0.0.1:0".into(), ..Options::default() };
    options.listen_metrics_urls = Some("http://127.0.0.1:0".into());
    options.client_tls.cert_file = Some(server_cert);
    options.client_tls.key_file = Some(server_key);
    options.client_tls.trusted_ca_file = Some(ca.clone());
    options.client_tls.client_cert_auth = true;
    let etcd = OurEtcd::start_in(tempfile::tempdir().unwrap(), options).await;

    let tls = etcd::EtcdTls { ca_file: ca.clone(), cert_file: Some(client_cert.clone()), key_file: Some(client_key.clone()) };
    let kv = etcd::EtcdKv::connect(std::slice::from_ref(&etcd.endpoint), Some(&tls), &base::Tasks::new()).unwrap();
    store::suite::run_all(&kv, "tls").await;

    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let (ca, cert, key) = (path(&ca), path(&client_cert), path(&client_key));
    let endpoint = ["--endpoints", &etcd.endpoint, "--cacert", &ca];
    let good = [&endpoint[..], &["--cert", &cert, "--key", &key, "put", "a", "b"]].concat();
    assert_eq!(run("etcdctl", &good, V3, None).await, "OK\n");
    let anonymous = [&endpoint[..], &["--command-timeout", "1s", "get", "a"]].concat();
    assert!(!try_run("etcdctl", &anonymous, V3, None).await.0, "a client without a certificate is rejected");
    etcd.stop().await;
}
