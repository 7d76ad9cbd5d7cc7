//! etcd's contract as a test suite over any `Kv`: the embedded engine, our own server, a real etcd. Cases share one store, each under its own prefix,
//! and assume no revision that they did not make. They panic where the contract is broken. Not for use outside of tests.
//!
//! Expectations are etcd's documented behaviour (etcd.io/docs/v3.5/learning/api) and its code, never our own output.
#![allow(clippy::unwrap_used, reason = "a test suite that is a library")]

mod leases;
mod reads;
mod txns;
mod watches;

use std::time::Duration;

use bytes::Bytes;

use crate::kv::*;

/// Runs every case, one after the other. `run` must differ between runs on one store.
pub async fn run_all(kv: &dyn Kv, run: &str) {
    let prefix = |case: &str| format!("/suite/{run}/{case}/");
    reads::run(kv, &prefix("reads")).await;
    txns::run(kv, &prefix("txns")).await;
    watches::run(kv, &prefix("watches")).await;
    leases::run(kv, &prefix("leases")).await;
}

async fn put(kv: &dyn Kv, key: &str, value: &str) -> Revision {
    kv.put(PutRequest::new(key.to_owned(), value.to_owned())).await.unwrap()
}

async fn get(kv: &dyn Kv, key: &str) -> Option<KeyValue> {
    kv.range(RangeRequest::new(KeyRange::one(key.to_owned()))).await.unwrap().kvs.pop()
}

async fn keys(kv: &dyn Kv, request: RangeRequest, prefix: &str) -> Vec<String> {
    let response = kv.range(request).await.unwrap();
    response.kvs.iter().map(|kv| text(&kv.key).strip_prefix(prefix).unwrap().to_owned()).collect()
}

fn text(bytes: &Bytes) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn range(prefix: &str) -> RangeRequest {
    RangeRequest::new(KeyRange::prefix(prefix.to_owned()))
}

/// The next response with events. A store that sends nothing for a minute has lost them.
async fn events(watch: &mut Box<dyn Watch>) -> Vec<Event> {
    loop {
        let response = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("an event within a minute").unwrap();
        if !response.events.is_empty() {
            return response.events;
        }
    }
}

/// The next `count` events, however they are spread over responses.
async fn events_of(watch: &mut Box<dyn Watch>, count: usize) -> Vec<Event> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(events(watch).await);
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

/// The error that ends a watch.
async fn failure(watch: Result<Box<dyn Watch>, KvError>) -> KvError {
    let mut watch = match watch {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    loop {
        let next = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("an end within a minute");
        if let Err(error) = next {
            return error;
        }
    }
}
