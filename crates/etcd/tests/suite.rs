//! The one suite of the store's contract, through the client: on a real etcd and on our server.
#![allow(clippy::unwrap_used)]

mod common;

use common::{OurEtcd, RealEtcd, client};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_etcd() {
    let etcd = RealEtcd::start().await;
    store::suite::run_all(&client(&etcd.endpoint), "first").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_our_server() {
    let etcd = OurEtcd::start().await;
    store::suite::run_all(&client(&etcd.endpoint), "first").await;
    let dir = etcd.stop().await;
    let again = OurEtcd::start_in(dir, etcd::Options { listen_client_urls: "http://127.0.0.1:0".into(), ..Default::default() }).await;
    store::suite::run_all(&client(&again.endpoint), "second").await;
    again.stop().await;
}
