//! The plain HTTP paths, asked with curl.

mod common;

use common::{OurEtcd, run};
use etcd::Options;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_version_metrics() {
    let etcd = OurEtcd::start().await;
    let get = async |path: &str| run("curl", &["-s", "-w", " %{http_code}", &format!("{}{path}", etcd.endpoint)], &[], None).await;
    assert_eq!(get("/health").await, r#"{"health":"true","reason":""} 200"#);
    assert_eq!(get("/livez").await, "ok\n 200");
    assert_eq!(get("/readyz").await, "ok\n 200");
    assert_eq!(get("/version").await, r#"{"etcdcluster":"3.5.0","etcdserver":"3.5.17"} 200"#);
    assert_eq!(get("/nothing").await, "404 page not found\n 404");
    store::Kv::put(&common::client(&etcd.endpoint), store::PutRequest::new("k", "v")).await.unwrap();
    let metrics = get("/metrics").await;
    for expected in [
        "etcd_server_has_leader 1\n",
        "etcd_mvcc_put_total 1\n",
        "etcd_server_version_info{server_version=\"3.5.17\"} 1\n",
        "grpc_server_handled_total{grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\",grpc_code=\"OK\"} 1\n",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in {metrics}");
    }
    etcd.stop().await;
}

/// Above the quota puts fail with etcd's words, the rest works, and a deletion makes it good again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_says_so_and_recovers() {
    let etcd = OurEtcd::start_with(Options { quota_backend_bytes: 1 << 20, ..Options::default() }).await;
    let kv = common::client(&etcd.endpoint);
    let put = async |n: usize| store::Kv::put(&kv, store::PutRequest::new(format!("k{n}"), vec![0u8; 100 << 10])).await;
    let mut puts = 0;
    let error = loop {
        match put(puts).await {
            Ok(_) => puts += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error, store::KvError::NoSpace);
    let health = run("curl", &["-s", &format!("{}/health", etcd.endpoint)], &[], None).await;
    assert_eq!(health, r#"{"health":"false","reason":"ALARM NOSPACE"}"#);
    let alarms = run("etcdctl", &["--endpoints", &etcd.endpoint, "alarm", "list"], &[("ETCDCTL_API", "3")], None).await;
    assert_eq!(alarms, "memberID:10276657743932975437 alarm:NOSPACE \n");
    let (revision, _) = store::Kv::delete(&kv, store::KeyRange::prefix("k")).await.unwrap();
    store::Kv::compact(&kv, revision, true).await.unwrap();
    put(0).await.unwrap();
    etcd.stop().await;
}

#[tokio::test]
async fn a_folder_in_use_or_of_another_program_is_refused() {
    let etcd = OurEtcd::start().await;
    let options =
        Options { data_dir: Some(etcd.dir.path().join("data")), listen_client_urls: "http://127.0.0.1:0".into(), ..Options::default() };
    let refused = etcd::Server::init(options.clone(), &base::Tasks::new()).await.err().unwrap().to_string();
    assert!(refused.contains("is in use by another process"), "{refused}");
    let taken = Options { listen_client_urls: etcd.endpoint.clone(), ..options };
    let refused = etcd::Server::init(taken, &base::Tasks::new()).await.err().unwrap().to_string();
    assert!(refused.contains(&etcd.endpoint), "{refused}");
    etcd.stop().await;
    let real = common::RealEtcd::start().await;
    let options =
        Options { data_dir: Some(real.dir.path().join("data")), listen_client_urls: "http://127.0.0.1:0".into(), ..Options::default() };
    let refused = etcd::Server::init(options, &base::Tasks::new()).await.err().unwrap().to_string();
    assert!(refused.contains("make-mirror"), "{refused}");
}
