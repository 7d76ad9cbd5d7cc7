//! Client libraries of others, with the examples of their own documentation.

mod common;

use common::{OurEtcd, RealEtcd, run};

/// `OXIKUBE_PYTHON` is a Python with `pip install etcd3==0.12.0 'protobuf<3.21' tenacity==6.3.1`: the library needs these old ones.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs OXIKUBE_PYTHON"]
async fn python_etcd3() {
    let python = std::env::var("OXIKUBE_PYTHON").expect("OXIKUBE_PYTHON names a Python that has etcd3");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/etcd3_examples.py");
    let check = async |endpoint: &str| {
        let (host, port) = endpoint.trim_start_matches("http://").split_once(':').expect("an endpoint has a port");
        assert_eq!(run(&python, &[script, host, port], &[], None).await, "python etcd3: all examples pass\n", "{endpoint}");
    };
    // The script is right only if it passes there too.
    check(&RealEtcd::start().await.endpoint).await;
    let etcd = OurEtcd::start().await;
    check(&etcd.endpoint).await;
    etcd.stop().await;
}
