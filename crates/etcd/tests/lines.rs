//! The Lock and Election services: turns, values, and waiters that leave.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::OurEtcd;
use etcd::pb::v3electionpb::election_client::ElectionClient;
use etcd::pb::v3electionpb::{CampaignRequest, LeaderRequest, ProclaimRequest, ResignRequest};
use etcd::pb::v3lockpb::lock_client::LockClient;
use etcd::pb::v3lockpb::{LockRequest, UnlockRequest};
use store::{KeyRange, Kv, RangeRequest, WatchRequest};
use tonic::transport::Channel;

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

async fn channel(etcd: &OurEtcd) -> Channel {
    Channel::from_shared(etcd.endpoint.clone()).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_are_taken_in_turn() {
    let etcd = OurEtcd::start().await;
    let kv = common::client(&etcd.endpoint);
    let mut client = LockClient::new(channel(&etcd).await);
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(kv.lease_grant(0, HOUR).await.unwrap().id);
    }
    let mut line = kv.watch(WatchRequest::new(KeyRange::prefix("name/"), 0)).await.unwrap();
    let lock = |lease| LockRequest { name: "name".into(), lease };
    let first = client.lock(lock(leases[0])).await.unwrap().into_inner();
    assert_eq!(first.key, format!("name/{:x}", leases[0]));
    let again = client.lock(lock(leases[0])).await.unwrap().into_inner();
    assert_eq!(again.key, first.key, "a lease takes its own lock again");
    line.next().await.unwrap();
    let waiting = |lease| {
        let mut client = client.clone();
        tokio::spawn(async move { client.lock(lock(lease)).await.unwrap().into_inner().key })
    };
    let impatient = waiting(leases[1]);
    line.next().await.unwrap();
    let patient = waiting(leases[2]);
    line.next().await.unwrap();
    // A waiter that goes away does not hold up those behind it.
    impatient.abort();
    let left = line.next().await.unwrap();
    assert_eq!(left.events[0].kv.key, format!("name/{:x}", leases[1]));
    assert!(!patient.is_finished());
    client.unlock(UnlockRequest { key: first.key }).await.unwrap();
    let second = patient.await.unwrap();
    assert_eq!(second, format!("name/{:x}", leases[2]));
    kv.lease_revoke(leases[2]).await.unwrap();
    assert_eq!(kv.range(RangeRequest::new(KeyRange::prefix("name/"))).await.unwrap().count, 0);
    etcd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_are_elected_and_observed() {
    let etcd = OurEtcd::start().await;
    let mut client = ElectionClient::new(channel(&etcd).await);
    let who = LeaderRequest { name: "e".into() };
    assert_eq!(client.leader(who.clone()).await.unwrap_err().message(), "election: no leader");
    let mut observed = client.observe(who.clone()).await.unwrap().into_inner();
    let campaign = |value: &'static str| CampaignRequest { name: "e".into(), lease: 0, value: value.into() };
    let first = client.campaign(campaign("one")).await.unwrap().into_inner().leader.unwrap();
    let mut seen = async || observed.message().await.unwrap().unwrap().kv.unwrap().value;
    assert_eq!(seen().await, "one");
    client.proclaim(ProclaimRequest { leader: Some(first.clone()), value: "still one".into() }).await.unwrap();
    assert_eq!(seen().await, "still one");
    assert_eq!(client.leader(who).await.unwrap().into_inner().kv.unwrap().value, "still one");
    let mut other = client.clone();
    let second = tokio::spawn(async move { other.campaign(campaign("two")).await.unwrap().into_inner().leader.unwrap() });
    client.resign(ResignRequest { leader: Some(first.clone()) }).await.unwrap();
    let second = second.await.unwrap();
    assert_eq!(seen().await, "two");
    let refused = client.proclaim(ProclaimRequest { leader: Some(first), value: "late".into() }).await.unwrap_err();
    assert_eq!(refused.message(), "election: not leader");
    client.resign(ResignRequest { leader: Some(second) }).await.unwrap();
    assert!(client.resign(ResignRequest { leader: None }).await.unwrap_err().message().contains("must be provided"));
    etcd.stop().await;
}
