//! The JSON gateway, asked with curl: the same requests to Debian's etcd and to ours, the same answers.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::{OurEtcd, RealEtcd, run};
use etcd::Options;
use serde_json::Value;

/// What differs from server to server, and times.
const OWN: [&str; 3] = ["cluster_id", "member_id", "raft_term"];

async fn curl(endpoint: &str, path: &str, args: &[&str]) -> String {
    let url = format!("{endpoint}{path}");
    run("curl", &[&["-s", "--max-time", "10", "-w", " %{http_code}", &url], args].concat(), &[], None).await
}

async fn post(endpoint: &str, path: &str, body: &str) -> (String, Vec<Value>) {
    let said = curl(endpoint, path, &["-d", body]).await;
    let (text, code) = said.rsplit_once(' ').unwrap();
    let values = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<Vec<Value>, _>>();
    let mut values = values.unwrap_or_else(|error| panic!("{path}: {text}: {error}"));
    values.iter_mut().for_each(strip);
    (code.to_owned(), values)
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(object) => {
            OWN.iter().for_each(|name| {
                object.remove(*name);
            });
            object.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}

/// Requests whose answers are the same on every server, in order.
const SAME: &[(&str, &str)] = &[
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmFy"}"#),
    ("/v3/kv/put", r#"{"key":"Zm9v","value":"YmF6","prevKv":true}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v"}"#),
    ("/v3beta/kv/range", r#"{"key":"Zm9v","revision":"2","other":1}"#),
    ("/v3/kv/range", r#"{"key":"AA==","rangeEnd":"AA==","sort_order":"DESCEND","sortTarget":"MOD","count_only":true}"#),
    ("/v3/kv/range", ""),
    ("/v3/kv/range", r#"{"key":"@@"}"#),
    ("/v3/kv/range", r#"{"key":"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","revision":99}"#),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"key":"Zm9v","target":"VERSION","version":"2"}],"success":[{"request_range":{"key":"Zm9v"}},{"requestPut":{"key":"YQ==","value":""}},{"request_delete_range":{"key":"YQ=="}}]}"#,
    ),
    (
        "/v3/kv/txn",
        r#"{"compare":[{"key":"Zm9v","target":"VALUE","value":"eA==","result":"EQUAL"}],"failure":[{"request_txn":{"success":[{"request_range":{"key":"Zm9v"}}]}}]}"#,
    ),
    ("/v3/kv/txn", r#"{"success":[{}]}"#),
    ("/v3/watch", r#"{"create_request":"#),
    ("/v3/lease/grant", r#"{"TTL":3600,"ID":"77"}"#),
    ("/v3/lease/grant", r#"{"TTL":9000000001}"#),
    ("/v3/lease/leases", "{}"),
    ("/v3/kv/lease/leases", "{}"),
    ("/v3/lease/keepalive", r#"{"ID":77}"#),
    ("/v3/lease/keepalive", r#"{"ID":77} {"ID":"78"}"#),
    ("/v3/lease/timetolive", r#"{"ID":78}"#),
    ("/v3/kv/lease/revoke", r#"{"ID":77}"#),
    ("/v3/lease/revoke", r#"{"ID":77}"#),
    ("/v3/kv/deleterange", r#"{"key":"Zm9v","prev_kv":true}"#),
    ("/v3/kv/compaction", r#"{"revision":3,"physical":true}"#),
    ("/v3/kv/compaction", r#"{"revision":3}"#),
    ("/v3/election/proclaim", "{}"),
    ("/v3/election/leader", r#"{"name":"ZQ=="}"#),
    ("/v3/lock/unlock", r#"{"key":"bm9uZQ=="}"#),
    ("/v3/maintenance/defragment", "{}"),
    ("/v3/cluster/member/remove", r#"{"ID":"5"}"#),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_those_of_a_real_etcd() {
    let (real, ours) = (RealEtcd::start().await, OurEtcd::start().await);
    for (path, body) in SAME {
        let (expected, found) = (post(&real.endpoint, path, body).await, post(&ours.endpoint, path, body).await);
        assert_eq!(found, expected, "{path} {body}");
    }
    // The texts about types are those of Go's JSON.
    for (path, body) in [("/v3/watch", r#"{"cancel_request":5}"#), ("/v3/kv/range", r#"{"key":1}"#), ("/v3/kv/range", r#"{"limit":"x"}"#)] {
        let (expected, found) = (post(&real.endpoint, path, body).await, post(&ours.endpoint, path, body).await);
        assert_eq!((&found.0, &found.1[0]["code"]), (&expected.0, &expected.1[0]["code"]), "{path} {body}");
    }
    // Version 3.4 has another status for this code than 3.5.
    let (_, expected) = post(&real.endpoint, "/v3/auth/authenticate", r#"{"name":"a"}"#).await;
    assert_eq!(post(&ours.endpoint, "/v3/auth/authenticate", r#"{"name":"a"}"#).await, ("400".to_owned(), expected));
    for (path, args) in [("/v3/kv/range", &[][..]), ("/v3/nothing", &["-d", "{}"]), ("/v3/kv/range", &["-X", "OPTIONS"])] {
        assert_eq!(curl(&ours.endpoint, path, args).await, curl(&real.endpoint, path, args).await, "{path} {args:?}");
    }
    ours.stop().await;
}

/// A watch over HTTP: its own lines as they happen, also after the request has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_are_lines() {
    let etcd = OurEtcd::start().await;
    let mut watch = tokio::process::Command::new("curl")
        .args(["-s", "-N", "-d", r#"{"create_request":{"key":"Zm9v"}}"#, &format!("{}/v3/watch", etcd.endpoint)])
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::AsyncBufReadExt::lines(tokio::io::BufReader::new(watch.stdout.take().unwrap()));
    let mut next = async || serde_json::from_str::<Value>(&lines.next_line().await.unwrap().unwrap()).unwrap();
    assert_eq!(next().await["result"]["created"], true);
    for value in ["YQ==", "Yg=="] {
        post(&etcd.endpoint, "/v3/kv/put", &format!(r#"{{"key":"Zm9v","value":"{value}"}}"#)).await;
        assert_eq!(next().await["result"]["events"][0]["kv"]["value"], value);
    }
    watch.kill().await.unwrap();
    etcd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn origins_hosts_and_the_switch() {
    let mut options = Options::default();
    options.web.cors = "https://page.example".into();
    options.web.host_whitelist = "127.0.0.1".into();
    options.web.enable_grpc_gateway = false;
    let etcd = OurEtcd::start_with(options).await;
    let headers = curl(&etcd.endpoint, "/health", &["-D", "-", "-o", "/dev/null", "-H", "Origin: https://page.example"]).await;
    assert!(headers.to_lowercase().contains("access-control-allow-origin: https://page.example"), "{headers}");
    let headers = curl(&etcd.endpoint, "/health", &["-D", "-", "-o", "/dev/null", "-H", "Origin: https://other.example"]).await;
    assert!(!headers.to_lowercase().contains("access-control"), "{headers}");
    let rebound = curl(&etcd.endpoint, "/health", &["-H", "Host: evil.example"]).await;
    assert!(rebound.contains("the Host header was unrecognized") && rebound.ends_with(" 421"), "{rebound}");
    assert_eq!(curl(&etcd.endpoint, "/v3/kv/range", &["-d", "{}"]).await, "404 page not found\n 404");
    etcd.stop().await;
}
