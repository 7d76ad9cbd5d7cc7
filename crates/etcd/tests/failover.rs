//! The client when servers go and come back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{OurEtcd, RealEtcd, free_ports};
use etcd::{EtcdKv, Options};
use store::{KeyRange, Kv, KvError, PutRequest, RangeRequest, WatchRequest};

fn at(port: u16) -> Options {
    Options { listen_client_urls: format!("http://127.0.0.1:{port}"), ..Options::default() }
}

fn connect(endpoints: &[String]) -> EtcdKv {
    EtcdKv::connect(endpoints, None, &base::Tasks::new()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_is_passed_over() {
    let [dead, _] = free_ports();
    let etcd = OurEtcd::start().await;
    let kv = connect(&[format!("http://127.0.0.1:{dead}"), etcd.endpoint.clone()]);
    assert_eq!(kv.put(PutRequest::new("k", "v")).await.unwrap(), 2);
    etcd.stop().await;
    let gone = kv.put(PutRequest::new("k", "v")).await.unwrap_err();
    assert!(matches!(&gone, KvError::Unavailable(reason) if reason.contains("no endpoint can be reached")), "{gone:?}");
}

/// A watch misses nothing and repeats nothing over restarts; requests made while the server is away wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_is_survived() {
    let [port, _] = free_ports();
    let mut etcd = OurEtcd::start_in(tempfile::tempdir().unwrap(), at(port)).await;
    let kv = connect(std::slice::from_ref(&etcd.endpoint));
    let mut watch = kv.watch(WatchRequest::new(KeyRange::prefix("k"), 0)).await.unwrap();
    let lease = kv.lease_grant(0, std::time::Duration::from_secs(60)).await.unwrap().id;
    for round in 0..3 {
        kv.put(PutRequest::new(format!("k{round}"), "before")).await.unwrap();
        let dir = etcd.stop().await;
        let away = {
            let kv = kv.clone();
            tokio::spawn(async move { kv.put(PutRequest::new(format!("k{round}"), "while away")).await })
        };
        etcd = OurEtcd::start_in(dir, at(port)).await;
        // What may have been sent to the old server and is not answered is told so; everything else waited.
        let written = away.await.unwrap();
        assert!(matches!(written, Ok(_) | Err(KvError::Unavailable(_))), "{written:?}");
        assert_eq!(kv.range(RangeRequest::new(KeyRange::one("k0"))).await.unwrap().count, 1);
    }
    kv.lease_keep_alive(lease).await.unwrap();
    let last = kv.put(PutRequest::new("k", "last")).await.unwrap();
    let mut revisions = Vec::new();
    while revisions.last() != Some(&last) {
        revisions.extend(watch.next().await.unwrap().events.iter().map(|event| event.kv.mod_revision));
    }
    assert_eq!(revisions, (2..=last).collect::<Vec<_>>());
    etcd.stop().await;
}

/// What is not there any more cannot be resumed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_real_etcd_is_told() {
    let mut etcd = RealEtcd::start().await;
    let kv = connect(std::slice::from_ref(&etcd.endpoint));
    kv.put(PutRequest::new("k", "v")).await.unwrap();
    etcd.kill();
    let gone = kv.put(PutRequest::new("k", "v")).await.unwrap_err();
    assert!(matches!(gone, KvError::Unavailable(_)), "{gone:?}");
}
