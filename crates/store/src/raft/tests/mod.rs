//! Whole clusters in one process: real members on simulated disks, a network in memory, time that stands still unless everybody waits.

mod net;
mod users;

use std::sync::Arc;
use std::time::Duration;

use net::{Cluster, options};

use super::*;
use crate::disk::sim::SimFiles;
use crate::export::SnapshotMeta;
use crate::kv::*;
use crate::lease::LeaseRecord;
use crate::suite;

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest::new(key.to_owned(), value.to_owned())
}

fn get(key: &str) -> RangeRequest {
    RangeRequest::new(KeyRange::one(key.to_owned()))
}

/// A write whose leader dies under it may or may not be done: here it may be done twice.
async fn put_surely(kv: &dyn Kv, key: &str, value: &str) {
    loop {
        match kv.put(put(key, value)).await {
            Ok(_) => return,
            Err(KvError::Timeout | KvError::TimeoutLeaderFailed) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

async fn value(kv: &dyn Kv, key: &str) -> Option<String> {
    let kv = kv.range(get(key)).await.unwrap().kvs.pop()?;
    Some(String::from_utf8(kv.value.to_vec()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn suite_on_a_cluster_of_one() {
    let cluster = Cluster::start(1).await;
    suite::run_all(cluster.engine(1), "1").await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn suite_on_the_leader_and_on_a_follower() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    suite::run_all(cluster.engine(leader), "1").await;
    suite::run_all(cluster.engine(cluster.follower(leader)), "2").await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn writes_anywhere_are_read_everywhere() {
    let cluster = Cluster::start(5).await;
    for (n, id) in cluster.ids().into_iter().enumerate() {
        let revision = cluster.engine(id).put(put("k", &n.to_string())).await.unwrap();
        assert_eq!(revision, n as Revision + 2);
        for reader in cluster.ids() {
            assert_eq!(value(cluster.engine(reader), "k").await, Some(n.to_string()), "written by {id}, read by {reader}");
        }
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_goes_on() {
    let cluster = Cluster::start(3).await;
    let first = cluster.leader().await;
    cluster.engine(first).put(put("a", "1")).await.unwrap();
    cluster.net.cut_off(first);
    let second = cluster.leader_among(&cluster.others(first)).await;
    cluster.engine(second).put(put("a", "2")).await.unwrap();
    // The old leader notices that nobody hears it, and answers nothing stale.
    let stale = cluster.engine(first).range(get("a")).await;
    assert!(matches!(stale, Err(KvError::Timeout | KvError::TimeoutLeaderFailed)), "{stale:?}");
    let unknown = cluster.engine(first).put(put("a", "3")).await;
    assert!(matches!(unknown, Err(KvError::Timeout | KvError::TimeoutLeaderFailed)), "{unknown:?}");
    let serializable = RangeRequest { serializable: true, ..get("a") };
    assert_eq!(cluster.engine(first).range(serializable).await.unwrap().kvs[0].value, "1");
    cluster.net.heal();
    assert_eq!(value(cluster.engine(first), "a").await.as_deref(), Some("2"));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_minority_neither_writes_nor_loses() {
    let cluster = Cluster::start(5).await;
    let leader = cluster.leader().await;
    let [a, b] = cluster.others(leader)[..2] else { panic!() };
    cluster.net.split(&[leader, a], &cluster.others_of(&[leader, a]));
    let other = cluster.leader_among(&cluster.others_of(&[leader, a])).await;
    assert!(cluster.engine(a).put(put("k", "minority")).await.is_err());
    cluster.engine(other).put(put("k", "majority")).await.unwrap();
    cluster.net.heal();
    for id in [leader, a, b, other] {
        assert_eq!(value(cluster.engine(id), "k").await.as_deref(), Some("majority"));
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn restarts_lose_nothing() {
    let mut cluster = Cluster::start(3).await;
    for round in 0..12u32 {
        let id = u64::from(round % 3) + 1;
        let writer = u64::from((round + 1) % 3) + 1;
        put_surely(cluster.engine(writer), &format!("k{round}"), &"v".repeat(1000)).await;
        if round % 2 == 0 {
            cluster.crash(id)
        } else {
            cluster.shut(id).await
        }
        put_surely(cluster.engine(writer), "during", &round.to_string()).await;
        cluster.restart(id);
        assert_eq!(value(cluster.engine(id), "during").await, Some(round.to_string()));
    }
    for id in cluster.ids() {
        let found = cluster.engine(id).range(RangeRequest::new(KeyRange::prefix("k"))).await.unwrap();
        assert_eq!(found.count, 12);
    }
    // All of them at once.
    for id in cluster.ids() {
        cluster.crash(id);
    }
    for id in cluster.ids() {
        cluster.restart(id);
    }
    assert_eq!(cluster.engine(1).range(RangeRequest::new(KeyRange::prefix("k"))).await.unwrap().count, 12);
    cluster.same_everywhere().await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_member_restarts() {
    let mut cluster = Cluster::start(1).await;
    for round in 0..30 {
        cluster.engine(1).put(put("k", &round.to_string().repeat(300))).await.unwrap();
        cluster.crash(1);
        cluster.restart(1);
        assert_eq!(value(cluster.engine(1), "k").await, Some(round.to_string().repeat(300)));
        assert_eq!(cluster.engine(1).revision(), round + 2);
    }
    assert!(cluster.log_bytes(1) < 64 << 10, "the log is made short: {}", cluster.log_bytes(1));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_lead_is_handed_over() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let to = cluster.follower(leader);
    assert_eq!(cluster.engine(to).transfer_leader(to).await, Err(KvError::NotLeader));
    assert_eq!(cluster.engine(leader).transfer_leader(77).await, Err(KvError::BadTransferee));
    assert_eq!(cluster.engine(leader).transfer_leader(leader).await, Ok(()));
    cluster.engine(leader).transfer_leader(to).await.unwrap();
    assert_eq!(cluster.leader().await, to);
    cluster.engine(leader).put(put("k", "v")).await.unwrap();
    // Who is out of reach does not get it.
    cluster.net.cut_off(leader);
    assert_eq!(cluster.engine(to).transfer_leader(leader).await, Err(KvError::TransferTimeout));
    cluster.engine(to).put(put("k", "w")).await.unwrap();
    cluster.net.heal();
    // A leader that stops hands over by itself.
    cluster.engine(to).close().await.unwrap();
    let last = cluster.status(to);
    assert!(last.role == Role::Follower && last.leader != to && last.leader != 0, "{last:?}");
    assert_eq!(cluster.leader_among(&cluster.others(to)).await, last.leader);
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leases_live_on_with_the_leader() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = cluster.follower(leader);
    let lease = cluster.engine(follower).lease_grant(0, Duration::from_secs(10)).await.unwrap().id;
    cluster.engine(follower).put(PutRequest { lease, ..put("leased", "v") }).await.unwrap();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(cluster.engine(follower).lease_keep_alive(lease).await, Ok(Duration::from_secs(10)));
    }
    let remaining = cluster.engine(follower).lease_status(lease).await.unwrap();
    assert_eq!((remaining.remaining_ttl.as_secs(), remaining.keys), (10, vec!["leased".into()]));
    // A new leader gives all of the time again.
    tokio::time::sleep(Duration::from_secs(8)).await;
    cluster.net.cut_off(leader);
    let next = cluster.leader_among(&cluster.others(leader)).await;
    assert!(cluster.engine(next).lease_status(lease).await.unwrap().remaining_ttl >= Duration::from_secs(9));
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(value(cluster.engine(next), "leased").await.as_deref(), Some("v"));
    // The old one ends nothing: it leads no more.
    cluster.net.heal();
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(cluster.engine(leader).lease_keep_alive(lease).await, Err(KvError::LeaseNotFound));
    for id in cluster.ids() {
        assert_eq!(value(cluster.engine(id), "leased").await, None);
        assert_eq!(cluster.engine(id).leases().await.unwrap(), []);
    }
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_partitioned_leader_renews_nothing() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let lease = cluster.engine(leader).lease_grant(0, Duration::from_secs(60)).await.unwrap().id;
    cluster.net.cut_off(leader);
    let renewed = cluster.engine(leader).lease_keep_alive(lease).await;
    assert!(matches!(renewed, Err(KvError::Timeout | KvError::TimeoutLeaderFailed)), "{renewed:?}");
    cluster.net.heal();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn members_come_and_go() {
    let mut cluster = Cluster::start(3).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    cluster.engine(1).put(put("k", "v")).await.unwrap();
    let leader = cluster.leader().await;
    let follower = cluster.follower(leader);
    // A learner joins, is promoted when it is in sync, and another member goes.
    let learner = net::member(4, true);
    let members = cluster.engine(follower).add_member(learner.clone()).await.unwrap();
    assert_eq!(members.len(), 4);
    assert_eq!(cluster.engine(follower).add_member(learner.clone()).await, Err(KvError::MemberExists));
    let same_url = Member { id: 9, ..learner.clone() };
    assert_eq!(cluster.engine(follower).add_member(Member { is_learner: false, ..same_url }).await, Err(KvError::PeerUrlExists));
    assert_eq!(cluster.engine(follower).add_member(net::member(5, true)).await, Err(KvError::TooManyLearners));
    assert_eq!(cluster.engine(follower).promote_member(4).await, Err(KvError::LearnerNotReady));
    assert_eq!(cluster.engine(follower).promote_member(2).await, Err(KvError::MemberNotLearner));
    assert_eq!(cluster.engine(follower).promote_member(8).await, Err(KvError::MemberNotFound));
    cluster.join(4, members);
    assert_eq!(value(cluster.engine(4), "k").await.as_deref(), Some("v"), "a learner reads");
    assert!(cluster.status(4).is_learner);
    cluster.engine(4).publish("four".into(), vec!["http://four".into()]).await.unwrap();
    let members = cluster.engine(follower).promote_member(4).await.unwrap();
    assert!(members.iter().all(|member| !member.is_learner));
    assert_eq!(members.iter().find(|member| member.id == 4).unwrap().name, "four");
    tokio::time::sleep(Duration::from_secs(6)).await;
    let members = cluster.engine(4).remove_member(leader).await.unwrap();
    assert_eq!(members.len(), 3);
    assert_eq!(cluster.engine(4).remove_member(leader).await, Err(KvError::MemberNotFound));
    let back = Member { id: leader, ..net::member(9, true) };
    assert_eq!(cluster.engine(4).add_member(back).await, Err(KvError::MemberExists), "a removed id never comes back");
    // The removed one, which led, stops itself; the rest goes on.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(cluster.status(leader).stopped, Some(KvError::Removed));
    assert_eq!(cluster.engine(leader).put(put("k", "x")).await, Err(KvError::Removed));
    assert!(cluster.engine(4).is_removed(leader));
    cluster.engine(4).put(put("k", "w")).await.unwrap();
    cluster.forget(leader);
    // URLs and several changes at once.
    assert_eq!(
        cluster.engine(4).update_member(4, vec!["http://elsewhere".into()]).await.unwrap().last().unwrap().peer_urls,
        ["http://elsewhere"]
    );
    let old = cluster.ids()[0];
    let members =
        cluster.engine(4).change_members(vec![MemberChange::Add(net::member(6, false)), MemberChange::Remove(old)]).await.unwrap();
    cluster.join(6, members);
    assert_eq!(value(cluster.engine(6), "k").await.as_deref(), Some("w"));
    cluster.forget(old);
    cluster.engine(6).put(put("k", "x")).await.unwrap();
    cluster.same_everywhere().await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_majority_is_not_given_away() {
    let cluster = Cluster::start(3).await;
    // Nobody has been connected for long.
    let leader = cluster.leader().await;
    assert_eq!(cluster.engine(leader).add_member(net::member(4, false)).await, Err(KvError::UnhealthyCluster));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let [a, b] = cluster.others(leader)[..] else { panic!() };
    cluster.net.cut_off(a);
    assert_eq!(cluster.engine(leader).add_member(net::member(4, false)).await, Err(KvError::UnhealthyCluster));
    assert_eq!(cluster.engine(leader).remove_member(b).await, Err(KvError::UnhealthyCluster));
    // The one that is down may go.
    assert_eq!(cluster.engine(leader).remove_member(a).await.unwrap().len(), 2);
    cluster.net.heal();
    cluster.stop().await;
}

/// Members that were made from one snapshot file: who joins later has its state too, though the log does not tell of it.
#[tokio::test(start_paused = true)]
async fn a_cluster_begins_with_a_state() {
    let meta = SnapshotMeta { store: 5, applied_index: 0, revision: 7, compact_revision: 3 };
    let old = KeyValue { key: "old".into(), value: "1".into(), create_revision: 4, mod_revision: 7, version: 2, lease: 9 };
    let lease = LeaseRecord { id: 9, ttl_ms: 600_000, checkpoint_ms: 0 };
    let mut cluster = Cluster::start_on(3, |id, members| {
        let files = (SimFiles::new(), SimFiles::new());
        let first = FirstMembers { cluster_id: 0xc, member_id: id, members: members.to_vec() };
        let (main, log) = (Arc::new(files.0.clone()), Arc::new(files.1.clone()));
        let versions = [Ok((old.clone(), 0))];
        import::import_member_into(main, log, &first, &SnapshotMeta { store: id, ..meta }, &[lease], &Vec::new(), versions).unwrap();
        files
    })
    .await;
    let leader = cluster.leader().await;
    assert_eq!(cluster.engine(leader).put(put("new", "2")).await.unwrap(), 8);
    // Members are healthy when they were connected for a while.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let members = cluster.engine(leader).add_member(net::member(4, false)).await.unwrap();
    cluster.join(4, members);
    put_surely(cluster.engine(4), "newer", "3").await;
    assert_eq!(value(cluster.engine(4), "old").await.as_deref(), Some("1"));
    assert_eq!(cluster.engine(4).lease_status(9).await.unwrap().keys, ["old"]);
    cluster.same_everywhere().await;
    for id in cluster.ids() {
        cluster.crash(id);
    }
    for id in cluster.ids() {
        cluster.restart(id);
    }
    cluster.leader().await;
    cluster.same_everywhere().await;
    assert_eq!(value(cluster.engine(2), "old").await.as_deref(), Some("1"));
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lone_member_grows() {
    let mut cluster = Cluster::start(1).await;
    cluster.engine(1).put(put("k", "1")).await.unwrap();
    let members = cluster.engine(1).add_member(net::member(2, false)).await.unwrap();
    cluster.join(2, members);
    cluster.engine(2).put(put("k", "2")).await.unwrap();
    assert_eq!(value(cluster.engine(1), "k").await.as_deref(), Some("2"));
    cluster.net.cut_off(2);
    assert!(cluster.engine(1).range(get("k")).await.is_err(), "it is not alone any more");
    cluster.net.heal();
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn folders_are_not_mixed_up() {
    let mut cluster = Cluster::start(1).await;
    cluster.engine(1).put(put("k", "1")).await.unwrap();
    cluster.shut(1).await;
    let files = cluster.files(1);
    let open = |files: &(SimFiles, SimFiles), cluster_id, member_id| {
        let bootstrap = Bootstrap::New(vec![net::member(member_id, false)]);
        let member = MemberOptions::new(cluster_id, member_id, bootstrap);
        let transport = cluster.net.port(member_id);
        let (files, log_files) = (Arc::new(files.0.copy()), Arc::new(files.1.copy()));
        crate::engine::Engine::member_on(files, log_files, options(), member, transport, 0).map(|_| ())
    };
    let refused = |result: Result<(), KvError>, text: &str| match result {
        Err(KvError::Corrupt(reason)) => assert!(reason.contains(text), "{reason}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(open(&files, 0xc, 1), Ok(()));
    refused(open(&files, 0xd, 1), "belongs to member 1 of cluster c");
    refused(open(&files, 0xc, 2), "belongs to member 1 of cluster c");
    // A part is missing.
    refused(open(&(files.0.copy(), SimFiles::new()), 0xc, 1), "no log of a member");
    // A store that is no member, and the other way round.
    let options = options();
    let embedded = (SimFiles::new(), SimFiles::new());
    let mut single = crate::recovery::recover(Arc::new(embedded.0.clone()), Arc::new(embedded.1.clone()), &options).unwrap();
    let (reply, _answer) = tokio::sync::oneshot::channel();
    let command = crate::state::Command::LeaseGrant { id: 1, ttl_ms: 1000 };
    single.writer.commit(vec![crate::commit::Proposal { encoded: crate::codec::encode(&command), command, reply }]);
    refused(open(&embedded, 0xc, 1), "a store that is no member");
    let other = crate::recovery::recover(Arc::new(files.0.copy()), Arc::new(files.1.copy()), &options).map(|_| ());
    assert!(matches!(&other, Err(KvError::Corrupt(_))), "{other:?}");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_lost_acknowledged_entries_is_found_out() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let loser = cluster.follower(leader);
    let old = cluster.files(loser);
    let old = (old.0.copy(), old.1.copy());
    for n in 0..5 {
        cluster.engine(leader).put(put("k", &n.to_string())).await.unwrap();
    }
    cluster.engine(loser).range(get("k")).await.unwrap();
    cluster.crash(loser);
    cluster.set_files(loser, old);
    cluster.restart(loser);
    tokio::time::sleep(Duration::from_secs(3)).await;
    match cluster.status(loser).stopped {
        Some(KvError::Corrupt(reason)) => assert!(reason.contains("acknowledged"), "{reason}"),
        other => panic!("{other:?}"),
    }
    cluster.engine(leader).put(put("k", "on")).await.unwrap();
    cluster.stop().await;
}

/// A member that was away for long gets the whole state, and whoever watches there misses nothing that is not compacted.
#[tokio::test(start_paused = true)]
async fn a_member_that_is_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let slow = cluster.follower(leader);
    cluster.engine(leader).put(put("/a", "first")).await.unwrap();
    let lease = cluster.engine(leader).lease_grant(0, Duration::from_secs(600)).await.unwrap().id;
    let mut watch = cluster.engine(slow).watch(WatchRequest::new(KeyRange::prefix("/"), 2)).await.unwrap();
    let mut idle = cluster.engine(slow).watch(WatchRequest::new(KeyRange::prefix("/quiet"), 0)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().events.len(), 1);
    cluster.net.cut_off(slow);
    for n in 0..200 {
        cluster.engine(leader).put(PutRequest { lease, ..put(&format!("/k{}", n % 20), &n.to_string().repeat(40)) }).await.unwrap();
    }
    cluster.engine(leader).put(put("/quiet", "no more")).await.unwrap();
    let before = cluster.status(slow).applied_index;
    cluster.net.heal();
    assert_eq!(value(cluster.engine(slow), "/k19").await, Some("199".repeat(40)));
    assert!(cluster.status(slow).applied_index >= before + 200);
    let mut seen = Vec::new();
    while seen.len() < 201 {
        seen.extend(watch.next().await.unwrap().events.into_iter().map(|event| event.kv.mod_revision));
    }
    assert!(seen.is_sorted() && seen[0] == 3 && seen.len() == 201, "{seen:?}");
    assert_eq!(idle.next().await.unwrap().events[0].kv.value, "no more");
    assert_eq!(cluster.engine(slow).lease_status(lease).await.unwrap().keys.len(), 20);
    // It goes on from there, over a restart too.
    cluster.engine(slow).put(put("/a", "again")).await.unwrap();
    cluster.crash(slow);
    cluster.restart(slow);
    assert_eq!(value(cluster.engine(slow), "/a").await.as_deref(), Some("again"));
    cluster.same_everywhere().await;
    cluster.stop().await;
}

/// What a watch needs was compacted while its member was away: it is told so.
#[tokio::test(start_paused = true)]
async fn a_watch_over_a_snapshot_and_a_compaction() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let slow = cluster.follower(leader);
    let mut watch = cluster.engine(slow).watch(WatchRequest::new(KeyRange::prefix("/"), 0)).await.unwrap();
    cluster.net.cut_off(slow);
    for n in 0..200 {
        cluster.engine(leader).put(put("/k", &n.to_string().repeat(40))).await.unwrap();
    }
    let revision = cluster.engine(leader).revision();
    cluster.engine(leader).compact(revision, true).await.unwrap();
    cluster.net.heal();
    cluster.engine(slow).read_barrier().await.unwrap();
    assert_eq!(watch.next().await.unwrap_err(), KvError::Compacted { compact_revision: revision });
    cluster.same_everywhere().await;
    cluster.stop().await;
}

/// The power goes at every moment of an installation: the member has the old state or the new one, never a mix, and goes on.
#[tokio::test(start_paused = true)]
async fn an_installation_is_cut_off_anywhere() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let slow = cluster.follower(leader);
    let mut cut = 0;
    let moments = [1, 6, 10, 14, 18, 22, 26, 30].map(|count| (true, count)).into_iter().chain([1, 2, 3].map(|count| (false, count)));
    for (moment, (main, count)) in moments.enumerate() {
        cluster.net.cut_off(slow);
        for n in 0..70 {
            let key = format!("/{}", n % 7);
            cluster.engine(leader).put(put(&key, &format!("{moment} {n} {}", "x".repeat(30)))).await.unwrap();
        }
        let files = cluster.files(slow);
        if main {
            files.0.power_off_after(count)
        } else {
            files.1.power_off_after(count)
        }
        cluster.net.heal();
        tokio::time::sleep(Duration::from_secs(1)).await;
        cut += u32::from(cluster.status(slow).stopped.is_some());
        cluster.crash(slow);
        cluster.restart(slow);
        let whole =
            cluster.engine(slow).range(RangeRequest { serializable: true, ..RangeRequest::new(KeyRange::prefix("/")) }).await.unwrap();
        let rounds: std::collections::HashSet<&[u8]> =
            whole.kvs.iter().map(|kv| kv.value.split(|byte| *byte == b' ').next().unwrap()).collect();
        assert!(rounds.len() <= 2, "{moment}: {whole:?}");
        assert_eq!(value(cluster.engine(slow), "/6").await, Some(format!("{moment} 69 {}", "x".repeat(30))), "{moment}");
    }
    assert!(cut > 0, "no moment hit an installation");
    cluster.same_everywhere().await;
    cluster.stop().await;
}
