//! The same random requests to a real etcd and to our server; every field of every answer must be the same. `DIFFERENTIAL_SEED` repeats a run,
//! `DIFFERENTIAL_SECONDS` makes it longer.
//!
//! Not compared: ids of cluster and member, the term, remaining seconds of leases, the order of what etcd takes from hash maps.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use common::{OurEtcd, RealEtcd};
use etcd::pb;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::request_op::Request as OpRequest;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tonic::transport::Channel;
use tonic::{Response, Status};

/// Few enough that Go's unstable sort keeps ties in order: it sorts fewer than 12 elements by insertion.
const KEYS: [&str; 10] = ["a", "aa", "b", "b/", "b/1", "b/2", "c", "c\u{7f}", "d", "e"];
const ENDS: [&str; 9] = ["", "", "\0", "b", "b0", "b/2", "c", "f", "a"];
const VALUES: [&str; 5] = ["", "0", "1", "ten", "ü"];
const LEASES: [i64; 4] = [1, 2, 3, -4];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_answers_as_etcd_does() {
    let number = |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let seed = number("DIFFERENTIAL_SEED", rand::random_range(0..1_000_000));
    println!("seed {seed}: repeat with DIFFERENTIAL_SEED={seed}");
    let (real, ours) = (RealEtcd::start().await, OurEtcd::start().await);
    let mut pair = Pair { real: Client::new(&real.endpoint).await, ours: Client::new(&ours.endpoint).await, seed, step: 0, revision: 1 };
    let mut make = Maker { random: StdRng::seed_from_u64(seed), revision: 1 };
    let time = Duration::from_secs(number("DIFFERENTIAL_SECONDS", 12));
    let start = base::clock::monotonic();
    let mut compacted = 0;
    while start.elapsed() < time {
        pair.step += 1;
        make.revision = pair.revision;
        match make.random.random_range(0..100) {
            0..30 => pair.range(make.range()).await,
            30..50 => pair.put(make.put()).await,
            50..58 => pair.delete(make.delete()).await,
            58..84 => pair.txn(make.txn(0)).await,
            // The checksums of the first half see every version.
            84..86 if start.elapsed() > time / 2 => {
                // Below 1 there is nothing to compact, which etcd lets pass once.
                let revision = make.old_revision().max(1);
                if pair.compact(revision, make.random.random()).await {
                    compacted = revision;
                }
            }
            86..94 => pair.lease(&mut make).await,
            // etcd 3.4 hashes what it has not yet got rid of after a compaction.
            94..97 if compacted == 0 => pair.hash().await,
            _ => pair.watch(&mut make, compacted).await,
        }
    }
    println!("{} requests, revision {}", pair.step, pair.revision);
    assert!(pair.step > 100, "only {} requests in the time", pair.step);
    ours.stop().await;
}

struct Maker {
    random: StdRng,
    revision: i64,
}

impl Maker {
    fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices.choose(&mut self.random).unwrap().clone()
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    fn key(&mut self) -> Bytes {
        if self.once_in(60) { Bytes::new() } else { self.of(&KEYS).into() }
    }

    fn end(&mut self) -> Bytes {
        self.of(&ENDS).into()
    }

    fn old_revision(&mut self) -> i64 {
        self.random.random_range((self.revision - 30).max(-1)..=self.revision + 2)
    }

    /// 0 mostly.
    fn revision(&mut self) -> i64 {
        if self.once_in(3) { self.old_revision() } else { 0 }
    }

    fn bound(&mut self) -> i64 {
        if self.once_in(8) { self.old_revision() } else { 0 }
    }

    fn lease(&mut self) -> i64 {
        if self.once_in(3) { self.of(&LEASES) } else { 0 }
    }

    fn range(&mut self) -> pb::RangeRequest {
        pb::RangeRequest {
            key: self.key(),
            range_end: self.end(),
            limit: self.random.random_range(-1..5),
            revision: self.revision(),
            sort_order: if self.once_in(2) { self.random.random_range(0..3) } else { 0 },
            sort_target: if self.once_in(2) { self.random.random_range(0..5) } else { 0 },
            serializable: self.once_in(2),
            keys_only: self.once_in(5),
            count_only: self.once_in(8),
            min_mod_revision: self.bound(),
            max_mod_revision: self.bound(),
            min_create_revision: self.bound(),
            max_create_revision: self.bound(),
        }
    }

    fn put(&mut self) -> pb::PutRequest {
        let ignore_value = self.once_in(10);
        let ignore_lease = self.once_in(10);
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value && !self.once_in(4) { Bytes::new() } else { self.of(&VALUES).into() },
            lease: if ignore_lease && !self.once_in(4) { 0 } else { self.lease() },
            prev_kv: self.once_in(2),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> pb::DeleteRangeRequest {
        pb::DeleteRangeRequest { key: self.key(), range_end: self.end(), prev_kv: self.once_in(2) }
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::TargetUnion;
        let target = self.random.random_range(0..5);
        let union = match target {
            0 => TargetUnion::Version(self.random.random_range(0..4)),
            1 => TargetUnion::CreateRevision(self.old_revision().max(0)),
            2 => TargetUnion::ModRevision(self.old_revision().max(0)),
            3 => TargetUnion::Value(self.of(&VALUES).into()),
            _ => TargetUnion::Lease(self.lease()),
        };
        let range_end = if self.once_in(3) { self.end() } else { Bytes::new() };
        pb::Compare { result: self.random.random_range(0..4), target, key: self.key(), range_end, target_union: Some(union) }
    }

    fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        let compares = self.random.random_range(0..3);
        let compare = (0..compares).map(|_| self.compare()).collect();
        pb::TxnRequest { compare, success: self.ops(depth), failure: self.ops(depth) }
    }

    fn ops(&mut self, depth: u32) -> Vec<pb::RequestOp> {
        let count = self.random.random_range(0..4);
        (0..count).map(|_| pb::RequestOp { request: Some(self.op(depth)) }).collect()
    }

    fn op(&mut self, depth: u32) -> OpRequest {
        match self.random.random_range(0..20) {
            0..7 => {
                let range = self.range();
                // Below 0 is the newest to a range alone but compacted to one in a transaction.
                OpRequest::RequestRange(pb::RangeRequest { revision: range.revision.max(0), ..range })
            }
            7..14 => OpRequest::RequestPut(self.put()),
            // etcd overlooks that a deletion without an end overlaps a put (v3rpc/key.go, checkIntervals); ours refuses that too.
            14..17 => {
                let delete = self.delete();
                if delete.range_end == "\0" {
                    return self.op(depth);
                }
                OpRequest::RequestDeleteRange(delete)
            }
            17..20 if depth < 2 => OpRequest::RequestTxn(self.txn(depth + 1)),
            _ => OpRequest::RequestPut(self.put()),
        }
    }
}

#[derive(Clone)]
struct Client {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    watch: WatchClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
}

impl Client {
    async fn new(endpoint: &str) -> Self {
        let channel = Channel::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
        Self {
            kv: KvClient::new(channel.clone()),
            lease: LeaseClient::new(channel.clone()),
            watch: WatchClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel),
        }
    }
}

struct Pair {
    real: Client,
    ours: Client,
    seed: u64,
    step: u64,
    revision: i64,
}

type Answer<T> = Result<Response<T>, Status>;

/// Takes out what may differ.
fn plain(header: &mut Option<pb::ResponseHeader>) -> i64 {
    let header = header.as_mut().expect("every answer has a header");
    (header.cluster_id, header.member_id, header.raft_term) = (0, 0, 0);
    header.revision
}

impl Pair {
    /// Fails where the answers differ; returns the one of both.
    fn same<T: Debug + PartialEq>(
        &self,
        request: &impl Debug,
        real: Answer<T>,
        ours: Answer<T>,
        mut normal: impl FnMut(&mut T),
    ) -> Option<T> {
        let mut plain = |answer: Answer<T>| match answer {
            Ok(response) => {
                let mut message = response.into_inner();
                normal(&mut message);
                Ok(message)
            }
            Err(status) => Err((status.code(), status.message().to_owned())),
        };
        let (real, ours) = (plain(real), plain(ours));
        let (seed, step) = (self.seed, self.step);
        assert!(real == ours, "seed {seed}, step {step}\netcd answered {real:?}\nours answered {ours:?}\nto {request:?}");
        real.ok()
    }

    async fn range(&mut self, request: pb::RangeRequest) {
        let (real, ours) = (self.real.kv.range(request.clone()).await, self.ours.kv.range(request.clone()).await);
        self.same(&request, real, ours, |answer| {
            plain(&mut answer.header);
        });
    }

    async fn put(&mut self, request: pb::PutRequest) {
        let (real, ours) = (self.real.kv.put(request.clone()).await, self.ours.kv.put(request.clone()).await);
        let mut revision = self.revision;
        self.same(&request, real, ours, |answer| revision = plain(&mut answer.header));
        self.revision = revision;
    }

    async fn delete(&mut self, request: pb::DeleteRangeRequest) {
        let (real, ours) = (self.real.kv.delete_range(request.clone()).await, self.ours.kv.delete_range(request.clone()).await);
        let mut revision = self.revision;
        self.same(&request, real, ours, |answer| revision = plain(&mut answer.header));
        self.revision = revision;
    }

    async fn txn(&mut self, request: pb::TxnRequest) {
        let (real, ours) = (self.real.kv.txn(request.clone()).await, self.ours.kv.txn(request.clone()).await);
        let mut revision = self.revision;
        self.same(&request, real, ours, |answer| revision = plain(&mut answer.header));
        self.revision = revision;
    }

    async fn compact(&mut self, revision: i64, physical: bool) -> bool {
        let request = pb::CompactionRequest { revision, physical };
        let (real, ours) = (self.real.kv.compact(request).await, self.ours.kv.compact(request).await);
        let done = self.same(&request, real, ours, |answer| {
            plain(&mut answer.header);
        });
        done.is_some()
    }

    async fn lease(&mut self, make: &mut Maker) {
        let id = make.of(&LEASES);
        match make.random.random_range(0..5) {
            0 | 1 => {
                let request = pb::LeaseGrantRequest { ttl: make.of(&[3000, 5000, 9_000_000_001]), id };
                let (real, ours) = (self.real.lease.lease_grant(request).await, self.ours.lease.lease_grant(request).await);
                self.same(&request, real, ours, |answer| {
                    plain(&mut answer.header);
                });
            }
            2 => {
                let request = pb::LeaseRevokeRequest { id };
                let (real, ours) = (self.real.lease.lease_revoke(request).await, self.ours.lease.lease_revoke(request).await);
                let mut revision = self.revision;
                self.same(&request, real, ours, |answer| revision = plain(&mut answer.header));
                self.revision = revision;
            }
            3 => {
                let request = pb::LeaseTimeToLiveRequest { id, keys: true };
                let (real, ours) = (self.real.lease.lease_time_to_live(request).await, self.ours.lease.lease_time_to_live(request).await);
                self.same(&request, real, ours, |answer| {
                    plain(&mut answer.header);
                    answer.ttl = answer.ttl.signum();
                    answer.keys.sort();
                });
            }
            _ => {
                let request = pb::LeaseLeasesRequest {};
                let (real, ours) = (self.real.lease.lease_leases(request).await, self.ours.lease.lease_leases(request).await);
                self.same(&request, real, ours, |answer| {
                    plain(&mut answer.header);
                    answer.leases.sort_by_key(|lease| lease.id);
                });
                let request = pb::LeaseKeepAliveRequest { id };
                let real = first(self.real.lease.lease_keep_alive(tokio_stream::once(request)).await).await;
                let ours = first(self.ours.lease.lease_keep_alive(tokio_stream::once(request)).await).await;
                self.same(&request, real, ours, |answer| {
                    plain(&mut answer.header);
                });
            }
        }
    }

    async fn hash(&mut self) {
        let request = pb::HashKvRequest { revision: 0 };
        let (real, ours) = (self.real.maintenance.hash_kv(request).await, self.ours.maintenance.hash_kv(request).await);
        self.same(&request, real, ours, |answer| {
            plain(&mut answer.header);
            // etcd 3.4 does not tell it.
            answer.hash_revision = 0;
        });
    }

    /// Reads the history of a range from some revision on, up to now.
    async fn watch(&mut self, make: &mut Maker, compacted: i64) {
        // A put that ends the history, in no other request's keys.
        let last = "zz-last";
        self.put(pb::PutRequest { key: last.into(), ..Default::default() }).await;
        let mut filters = Vec::new();
        if make.once_in(4) {
            filters.push(i32::from(pb::watch_create_request::FilterType::Nodelete));
        }
        let start = make.random.random_range((self.revision - 200).max(1)..=self.revision);
        // A deletion made by the compacted revision itself is still there in ours as in etcd from 3.5.18 on, but not in 3.4.
        let start = if start == compacted { start + 1 } else { start };
        let create = pb::WatchCreateRequest {
            key: make.key(),
            range_end: make.of(&["\0", "zzz", "\0", "zzz", "b/2", "", "f"]).into(),
            start_revision: start,
            filters,
            prev_kv: make.once_in(2),
            watch_id: make.of(&[0, 0, 7]),
            ..Default::default()
        };
        let (real, ours) =
            (history(&self.real, &create, last, self.revision).await, history(&self.ours, &create, last, self.revision).await);
        let (seed, step) = (self.seed, self.step);
        assert!(real == ours, "seed {seed}, step {step}, compacted at {compacted}, {create:?}\netcd sent {real:?}\nours sent {ours:?}");
    }
}

async fn first<T>(stream: Answer<tonic::Streaming<T>>) -> Answer<T> {
    let answer = stream?.into_inner().message().await?;
    answer.map(Response::new).ok_or_else(|| Status::unknown("the stream ended without an answer"))
}

/// What a watch sends: how it was created, all events up to the last one, how it ended.
async fn history(
    client: &Client,
    create: &pb::WatchCreateRequest,
    last: &'static str,
    revision: i64,
) -> (Vec<pb::WatchResponse>, Vec<pb::Event>) {
    let request = |union| pb::WatchRequest { request_union: Some(union) };
    let (requests, stream) = tokio::sync::mpsc::channel(4);
    requests.send(request(RequestUnion::CreateRequest(create.clone()))).await.unwrap();
    let mut responses = client.watch.clone().watch(tokio_stream::wrappers::ReceiverStream::new(stream)).await.unwrap().into_inner();
    let mut others = Vec::new();
    let mut events: Vec<pb::Event> = Vec::new();
    let mut idle = false;
    loop {
        let next = tokio::time::timeout(Duration::from_millis(if idle { 300 } else { 5000 }), responses.message()).await;
        let Ok(next) = next else { break };
        let mut response = next.unwrap().expect("the stream stays open");
        if response.events.is_empty() {
            plain(&mut response.header);
            // A compacted watch tells no revision in etcd 3.4.
            response.header = None;
            let ended = response.canceled;
            others.push(response);
            if ended {
                break;
            }
            // Where the last key is not in its range or its puts are filtered, nothing marks the end: then silence does.
            let sees_last = create.range_end == "\0" || create.range_end == "zzz";
            idle = !sees_last;
            continue;
        }
        events.extend(response.events);
        let is_last = |event: &pb::Event| event.kv.as_ref().is_some_and(|kv| kv.key == last && kv.mod_revision == revision);
        if events.last().is_some_and(is_last) {
            break;
        }
    }
    (others, events)
}
