//! The client when servers go and come back.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::proxy::Proxy;
use common::{OurEtcd, RealEtcd, free_ports};
use etcd::{EtcdKv, Options};
use store::{Compare, KeyRange, Kv, KvError, Op, PutRequest, RangeRequest, Txn, TxnResponse, WatchRequest};

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

/// Our server behind two ways to it, a client that knows both and uses the first, and one that goes straight.
struct TwoWays {
    etcd: OurEtcd,
    first: Proxy,
    second: Proxy,
    kv: EtcdKv,
    straight: EtcdKv,
}

impl TwoWays {
    async fn start() -> Self {
        let etcd = OurEtcd::start().await;
        let (first, second) = (Proxy::start(&etcd.endpoint).await, Proxy::start(&etcd.endpoint).await);
        let kv = connect(&[first.endpoint.clone(), second.endpoint.clone()]);
        let straight = connect(std::slice::from_ref(&etcd.endpoint));
        Self { etcd, first, second, kv, straight }
    }

    /// Sends a transaction whose answer gets lost after it was done; meanwhile something else happens.
    async fn lose_answer(&mut self, txn: Txn, meanwhile: impl AsyncFnOnce(&EtcdKv)) -> Result<TxnResponse, KvError> {
        self.kv.range(RangeRequest::new(KeyRange::one("k"))).await.unwrap();
        let mut watch = self.straight.watch(WatchRequest::new(KeyRange::one("k"), 0)).await.unwrap();
        self.first.swallow_answers();
        let kv = self.kv.clone();
        let sent = tokio::spawn(async move { kv.txn(txn).await });
        watch.next().await.unwrap();
        meanwhile(&self.straight).await;
        self.first.cut();
        sent.await.unwrap()
    }
}

fn guarded(expected: i64, value: &'static str) -> Txn {
    let put = Op::Put(PutRequest::new("k", value));
    Txn { compare: vec![Compare::mod_revision("k", expected)], success: vec![put], failure: Vec::new() }
}

async fn nothing(_: &EtcdKv) {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_write_is_done_once_though_its_answer_is_lost() {
    let mut ways = TwoWays::start().await;
    let created = ways.lose_answer(guarded(0, "mine"), nothing).await.unwrap();
    assert_eq!((created.succeeded, created.revision), (true, 2));
    ways.etcd.stop().await;
    let mut ways = TwoWays::start().await;
    ways.straight.put(PutRequest::new("k", "v")).await.unwrap();
    // Somebody else has gone on with it: it was done all the same.
    let theirs = async |straight: &EtcdKv| {
        straight.put(PutRequest::new("k", "theirs")).await.unwrap();
    };
    let updated = ways.lose_answer(guarded(2, "mine again"), theirs).await.unwrap();
    assert_eq!((updated.succeeded, updated.revision), (true, 3));
    assert_eq!(ways.straight.range(RangeRequest::new(KeyRange::one("k"))).await.unwrap().kvs[0].value, "theirs");
    ways.etcd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_created_and_deleted_is_not_created_again() {
    let mut ways = TwoWays::start().await;
    let delete = async |straight: &EtcdKv| {
        straight.delete(KeyRange::one("k")).await.unwrap();
        straight.put(PutRequest::new("other", "")).await.unwrap();
    };
    let created = ways.lose_answer(guarded(0, "mine"), delete).await.unwrap();
    assert_eq!((created.succeeded, created.revision), (true, 2));
    assert_eq!(ways.straight.range(RangeRequest::new(KeyRange::one("k"))).await.unwrap().count, 0);
    ways.etcd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_told_is_an_error() {
    let mut ways = TwoWays::start().await;
    let unguarded = Txn { compare: Vec::new(), ..guarded(0, "mine") };
    let lost = ways.lose_answer(unguarded, nothing).await.unwrap_err();
    assert!(matches!(&lost, KvError::Unavailable(reason) if reason.contains("the connection broke")), "{lost:?}");
    assert_eq!(ways.straight.range(RangeRequest::new(KeyRange::one("k"))).await.unwrap().kvs[0].version, 1);
    ways.etcd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guarded_write_that_did_not_arrive_is_sent_again() {
    let mut ways = TwoWays::start().await;
    ways.kv.range(RangeRequest::new(KeyRange::one("k"))).await.unwrap();
    ways.first.swallow_requests();
    let kv = ways.kv.clone();
    let sent = tokio::spawn(async move { kv.txn(guarded(0, "mine")).await });
    // Whether it is on its way or not yet: it does not arrive.
    tokio::task::yield_now().await;
    ways.first.cut();
    assert!(sent.await.unwrap().unwrap().succeeded);
    assert!(!ways.kv.txn(guarded(0, "mine")).await.unwrap().succeeded, "another one is refused");
    let lease = ways.kv.lease_grant(0, std::time::Duration::from_secs(60)).await.unwrap().id;
    ways.kv.lease_revoke(lease).await.unwrap();
    ways.etcd.stop().await;
}

/// One way after the other goes and comes back: nothing fails, nothing is done twice, no event is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_notices_a_rolling_restart() {
    const WRITES: i64 = 120;
    let TwoWays { etcd, mut first, mut second, kv, straight } = TwoWays::start().await;
    let mut seen = kv.watch(WatchRequest::new(KeyRange::one("k"), 1)).await.unwrap();
    let mut progress = straight.watch(WatchRequest::new(KeyRange::one("k"), 1)).await.unwrap();
    let writer = kv.clone();
    let writing = tokio::spawn(async move {
        let mut expected = 0;
        for _ in 0..WRITES {
            let done = writer.txn(guarded(expected, "v")).await.unwrap();
            assert!(done.succeeded);
            assert_eq!(writer.range(RangeRequest::new(KeyRange::one("k"))).await.unwrap().kvs[0].mod_revision, done.revision);
            expected = done.revision;
        }
        expected
    });
    let mut events = 0;
    let mut turn = 0;
    while events < WRITES {
        events += progress.next().await.unwrap().events.len() as i64;
        if events / 10 > turn {
            turn += 1;
            let (down, up) = if turn % 2 == 0 { (&mut first, &mut second) } else { (&mut second, &mut first) };
            if turn > 1 {
                up.open().await;
            }
            down.cut();
        }
    }
    assert_eq!(writing.await.unwrap(), WRITES + 1);
    let mut revisions = Vec::new();
    while revisions.len() < WRITES as usize {
        revisions.extend(seen.next().await.unwrap().events.iter().map(|event| event.kv.mod_revision));
    }
    assert_eq!(revisions, (2..=WRITES + 1).collect::<Vec<_>>());
    etcd.stop().await;
}
