//! The plain HTTP paths, asked with curl.

mod common;

use common::{OurEtcd, run};
use etcd::Options;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_version_metrics() {
    let etcd = OurEtcd::start().await;
    let get = async |path: &str| run("curl", &["-s", "-w", " %{http_code}", &format!("{}{path}", etcd.endpoint)], &[], None).await;
    assert_eq!(get("/health").await, r#"{"health":"true","reason":""} 200"#);
    assert_eq!(get("/health?serializable=true&exclude=NOSPACE").await, r#"{"health":"true","reason":""} 200"#);
    assert_eq!(get("/livez").await, "ok\n 200");
    assert_eq!(get("/livez?verbose").await, "[+]serializable_read ok\nok\n 200");
    assert_eq!(get("/readyz").await, "ok\n 200");
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n 200";
    assert_eq!(get("/readyz?verbose").await, all);
    assert_eq!(get("/readyz?verbose&exclude=data_corruption&exclude=linearizable_read").await, "[+]serializable_read ok\nok\n 200");
    assert_eq!(get("/readyz/linearizable_read?verbose").await, "[+]linearizable_read ok\nok\n 200");
    assert_eq!(get("/livez/data_corruption").await, "404 page not found\n 404");
    assert_eq!(get("/version").await, r#"{"etcdserver":"3.5.17","etcdcluster":"3.5.0"} 200"#);
    assert_eq!(get("/nothing").await, "404 page not found\n 404");
    store::Kv::put(&common::client(&etcd.endpoint), store::PutRequest::new("k", "v")).await.unwrap();
    let metrics = get("/metrics").await;
    for expected in [
        "etcd_server_has_leader 1\n",
        "etcd_mvcc_put_total 1\n",
        "# TYPE etcd_mvcc_put_total counter\n",
        "etcd_server_version{server_version=\"3.5.17\"} 1\n",
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_type=\"unary\",grpc_service=\"etcdserverpb.KV\",grpc_method=\"Put\"} 1\n",
        "# TYPE etcd_disk_wal_fsync_duration_seconds histogram\n",
        "\nprocess_resident_memory_bytes ",
    ] {
        assert!(metrics.contains(expected), "{expected} is not in {metrics}");
    }
    assert!(!metrics.contains("etcd_disk_wal_fsync_duration_seconds_count 0\n"), "the put was synced");
    let open = run("curl", &["-si", "-H", "Accept: application/openmetrics-text", &format!("{}/metrics", etcd.endpoint)], &[], None).await;
    assert!(open.contains("application/openmetrics-text") && open.contains("# TYPE etcd_mvcc_put counter\n") && open.ends_with("# EOF\n"));
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
    assert_eq!(health, "{\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}\n");
    let alarms = run("etcdctl", &["--endpoints", &etcd.endpoint, "alarm", "list"], &[("ETCDCTL_API", "3")], None).await;
    assert_eq!(alarms, "memberID:10276657743932975437 alarm:NOSPACE \n");
    let (revision, _) = store::Kv::delete(&kv, store::KeyRange::prefix("k")).await.unwrap();
    store::Kv::compact(&kv, revision, true).await.unwrap();
    put(0).await.unwrap();
    let health = run("curl", &["-s", &format!("{}/health", etcd.endpoint)], &[], None).await;
    assert_eq!(health, r#"{"health":"true","reason":""}"#);
    etcd.stop().await;
}

/// Alarms that somebody raised stand over a restart, until they are disarmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn alarms_stand_until_they_are_disarmed() {
    let etcd = OurEtcd::start().await;
    let post =
        async |endpoint: &str, body: &str| run("curl", &["-s", &format!("{endpoint}/v3/maintenance/alarm"), "-d", body], &[], None).await;
    let raised = post(&etcd.endpoint, r#"{"action":"ACTIVATE","memberID":"7","alarm":"CORRUPT"}"#).await;
    assert!(raised.contains(r#""alarms":[{"memberID":"7","alarm":"CORRUPT"}]"#), "{raised}");
    let kv = common::client(&etcd.endpoint);
    let put = async |kv: &etcd::EtcdKv| store::Kv::put(kv, store::PutRequest::new("k", "v")).await;
    assert!(matches!(put(&kv).await, Err(store::KvError::Corrupt(_))));
    let dir = etcd.stop().await;
    let etcd = OurEtcd::start_in(dir, Options { listen_client_urls: "http://127.0.0.1:0".into(), ..Options::default() }).await;
    let readyz = run("curl", &["-s", &format!("{}/readyz", etcd.endpoint)], &[], None).await;
    assert!(readyz.starts_with("[-]data_corruption failed: alarm activated: CORRUPT\n[+]serializable_read ok\n"), "{readyz}");
    let alarm = "memberID:7 alarm:CORRUPT \n";
    for (command, expected) in [("list", alarm), ("disarm", alarm), ("list", "")] {
        let said = run("etcdctl", &["--endpoints", &etcd.endpoint, "alarm", command], &[("ETCDCTL_API", "3")], None).await;
        assert_eq!(said, expected, "{command}");
    }
    put(&common::client(&etcd.endpoint)).await.unwrap();
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
    assert!(refused.contains("snapshot restore"), "{refused}");
}
