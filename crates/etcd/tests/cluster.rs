//! Clusters of real processes with TLS, in network namespaces, under Debian's etcdctl. Needs root.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::cluster::{Cluster, run_member, until, with_cluster, with_real};
use common::load::Load;
use store::{KeyRange, Kv, KvError, PutRequest, RangeRequest, WatchRequest};

#[test]
#[ignore = "a member of the clusters that other tests start"]
fn member_process() {
    run_member();
}

/// Ids and states of the members, without what tells programs apart.
async fn listed(cluster: &Cluster) -> String {
    let mut lines: Vec<_> = cluster.ctl(&[1, 2, 3], "member list").await.lines().map(str::to_owned).collect();
    lines.sort();
    let json = cluster.ctl(&[1, 2, 3], "member list -w json").await;
    let id = json.split("\"cluster_id\":").nth(1).unwrap().split(',').next().unwrap().to_owned();
    lines.push(id);
    lines.join("\n")
}

#[test]
fn ids_are_those_of_a_real_cluster() {
    let (told, real) = std::sync::mpsc::channel();
    with_real(3, async move |mut cluster| {
        for n in 1..=3 {
            cluster.start(n, &[1, 2, 3], "new");
        }
        let all_started = async || {
            let (ok, text) = cluster.try_ctl(&[1, 2, 3], "endpoint health").await;
            if ok { Ok(()) } else { Err(text) }
        };
        until("a real cluster", all_started).await;
        told.send(listed(&cluster).await).unwrap();
    });
    with_cluster(3, async move |mut cluster| {
        cluster.start_all(&[1, 2, 3]).await;
        let expected = real.recv().unwrap();
        until("the same list", async || {
            let found = listed(&cluster).await;
            if found == expected { Ok(()) } else { Err(format!("{found} instead of {expected}")) }
        })
        .await;
    });
}

#[test]
fn every_member_serves_all() {
    with_cluster(3, async |mut cluster| {
        cluster.start_all(&[1, 2, 3]).await;
        let health = cluster.ctl(&[1, 2, 3], "endpoint health").await;
        assert_eq!(health.matches("is healthy").count(), 3, "{health}");
        for n in 1..=3 {
            assert_eq!(cluster.ctl(&[n], &format!("put key{n} from{n}")).await, "OK\n");
            for m in 1..=3 {
                assert_eq!(cluster.ctl(&[m], &format!("get key{n} --print-value-only")).await, format!("from{n}\n"));
            }
            let lease = cluster.client(&[n]).lease_grant(0, std::time::Duration::from_secs(100)).await.unwrap().id;
            for m in 1..=3 {
                let other = cluster.client(&[m]);
                assert_eq!(other.lease_keep_alive(lease).await.unwrap().as_secs(), 100);
                assert!(other.lease_status(lease).await.unwrap().remaining_ttl.as_secs() > 0);
            }
            cluster.client(&[n % 3 + 1]).lease_revoke(lease).await.unwrap();
            assert_eq!(cluster.client(&[n]).lease_status(lease).await.unwrap_err(), KvError::LeaseNotFound);
        }
        let mut watch = cluster.client(&[1]).watch(WatchRequest::new(KeyRange::prefix("key"), 1)).await.unwrap();
        let mut seen = 0;
        while seen < 3 {
            seen += watch.next().await.unwrap().events.len();
        }
        let leader = cluster.wait_ready(&[1, 2, 3]).await;
        let status = cluster.ctl(&[1, 2, 3], "endpoint status").await;
        assert_eq!(status.matches("3.5.").count(), 3, "{status}");
        let follower = leader % 3 + 1;
        let id = cluster.status(follower).await.unwrap().header.unwrap().member_id;
        let (ok, text) = cluster.try_ctl(&[follower], &format!("move-leader {id:x}")).await;
        assert!(!ok && text.contains("no leader endpoint given"), "{text}");
        let moved = cluster.ctl(&[1, 2, 3], &format!("move-leader {id:x}")).await;
        assert!(moved.starts_with("Leadership transferred from "), "{moved}");
        assert_eq!(cluster.wait_ready(&[1, 2, 3]).await, follower);
        let (ok, text) = cluster.try_ctl(&[1, 2, 3], "move-leader 1234").await;
        assert!(!ok && text.contains("etcdserver: bad leader transferee"), "{text}");
        let (ok, text) = cluster.try_ctl(&[1], "member remove 1234").await;
        assert!(!ok && text.contains("etcdserver: member not found"), "{text}");
        let (ok, text) = cluster.try_ctl(&[1], "member add other --peer-urls=https://10.77.0.2:2380").await;
        assert!(!ok && text.contains("etcdserver: Peer URLs already exists"), "{text}");
        let hashes = cluster.ctl(&[1, 2, 3], "endpoint hashkv").await;
        let values: std::collections::BTreeSet<_> = hashes.lines().map(|line| line.rsplit(", ").next().unwrap()).collect();
        assert_eq!(values.len(), 1, "{hashes}");
    });
}

/// kill -9 of the leader and of followers in turn, under load.
#[test]
fn killed_members_lose_nothing() {
    with_cluster(3, async |mut cluster| {
        let all = [1, 2, 3];
        cluster.start_all(&all).await;
        let load = Load::start((1..=3).map(|n| cluster.client(&[n, n % 3 + 1, (n + 1) % 3 + 1])).collect());
        for round in 0..8 {
            load.progress(50).await;
            let leader = cluster.wait_ready(&all).await;
            let victim = if round % 2 == 0 { leader } else { leader % 3 + 1 };
            cluster.kill(victim);
            load.progress(50).await;
            cluster.start(victim, &all, "new");
        }
        cluster.wait_ready(&all).await;
        // All at once: nothing was only in memory.
        all.iter().for_each(|n| cluster.kill(*n));
        all.iter().for_each(|n| cluster.start(*n, &all, "new"));
        cluster.wait_ready(&all).await;
        load.progress(50).await;
        let members: Vec<_> = all.iter().map(|n| cluster.client(&[*n])).collect();
        assert!(load.finish(&members).await > 900);
    });
}

#[test]
fn a_leader_that_is_cut_off_answers_nothing_stale() {
    with_cluster(3, async |mut cluster| {
        let all = [1, 2, 3];
        cluster.start_all(&all).await;
        let load = Load::start(all.iter().map(|n| cluster.client(&[*n])).collect());
        for _ in 0..3 {
            load.progress(50).await;
            let leader = cluster.wait_ready(&all).await;
            let others: Vec<_> = all.into_iter().filter(|n| *n != leader).collect();
            cluster.cut(leader, &others);
            cluster.wait_ready(&others).await;
            load.progress(50).await;
            // Alone it knows that it leads no more; it serves who does not mind.
            until("no leader", async || {
                let status = cluster.status(leader).await?;
                if status.leader == 0 && status.errors == ["etcdserver: no leader"] { Ok(()) } else { Err(format!("{status:?}")) }
            })
            .await;
            let alone = cluster.client(&[leader]);
            alone.range(RangeRequest { serializable: true, ..RangeRequest::new(KeyRange::one("k")) }).await.unwrap();
            cluster.heal(leader);
            cluster.wait_ready(&all).await;
        }
        let members: Vec<_> = all.iter().map(|n| cluster.client(&[*n])).collect();
        load.finish(&members).await;
    });
}

/// One after the other, stopped politely: the lead is handed over.
#[test]
fn a_rolling_restart() {
    with_cluster(3, async |mut cluster| {
        let all = [1, 2, 3];
        cluster.start_all(&all).await;
        let load = Load::start((1..=3).map(|n| cluster.client(&[n, n % 3 + 1, (n + 1) % 3 + 1])).collect());
        for n in all {
            load.progress(30).await;
            let was_leader = cluster.wait_ready(&all).await == n;
            cluster.stop(n).await;
            assert_eq!(was_leader, cluster.log_text(n).contains("transferred leadership while stopping server"), "{}", cluster.log_text(n));
            load.progress(30).await;
            cluster.start(n, &all, "new");
            cluster.wait_ready(&all).await;
        }
        let members: Vec<_> = all.iter().map(|n| cluster.client(&[*n])).collect();
        load.finish(&members).await;
    });
}

#[test]
fn a_member_that_lost_its_data_is_replaced() {
    with_cluster(4, async |mut cluster| {
        let all = [1, 2, 3];
        cluster.start_all(&all).await;
        let load = Load::start(vec![cluster.client(&[1, 2])]);
        load.progress(30).await;
        let id = format!("{:x}", cluster.status(3).await.unwrap().header.unwrap().member_id);
        cluster.kill(3);
        cluster.wipe(3);
        cluster.start(3, &all, "new");
        assert_eq!(cluster.exit_code(3).await, Some(1));
        let log = cluster.log_text(3);
        assert!(log.contains(&format!("member {id} has already been bootstrapped")), "{log}");
        cluster.wait_ready(&[1, 2]).await;
        let removed = cluster.change(&[1, 2], &format!("member remove {id}")).await;
        assert!(removed.contains("removed from cluster"), "{removed}");
        let _ = std::fs::remove_dir_all(cluster.data(3));
        cluster.start(3, &all, "existing");
        assert_eq!(cluster.exit_code(3).await, Some(1));
        assert!(cluster.log_text(3).contains("member count is unequal"));
        let added = cluster.change(&[1, 2], "member add m3 --peer-urls=https://10.77.0.3:2380").await;
        assert!(added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\""), "{added}");
        let list = cluster.ctl(&[1, 2], "member list").await;
        assert!(list.contains("unstarted"), "{list}");
        cluster.start_with(3, "m1=https://10.77.0.1:2380,m2=https://10.77.0.2:2380,m3=https://10.77.0.4:2380", "existing", &[]);
        assert_eq!(cluster.exit_code(3).await, Some(1));
        assert!(cluster.log_text(3).contains("no match found for existing member"), "{}", cluster.log_text(3));
        let _ = std::fs::remove_dir_all(cluster.data(3));
        cluster.start(3, &all, "existing");
        cluster.wait_ready(&all).await;
        load.progress(30).await;
        until("the new member's name", async || {
            let list = cluster.ctl(&[1, 2], "member list").await;
            if list.matches(" started").count() == 3 { Ok(()) } else { Err(list) }
        })
        .await;
        // A running member that is removed ends by itself.
        let leader = cluster.wait_ready(&all).await;
        let id = cluster.status(3).await.unwrap().header.unwrap().member_id;
        let helper = if leader == 3 { 1 } else { leader };
        cluster.change(&[helper], &format!("member remove {id:x}")).await;
        assert_eq!(cluster.exit_code(3).await, Some(0));
        assert!(cluster.log_text(3).contains("the member has been permanently removed from the cluster"), "{}", cluster.log_text(3));
        cluster.start(3, &all, "new");
        assert!(cluster.exit_code(3).await.is_some(), "it does not come back");
        cluster.wait_ready(&[1, 2]).await;
        let members = [cluster.client(&[1]), cluster.client(&[2])];
        load.finish(&members).await;
    });
}

/// The same, when nobody could be asked before the start: whoever meets it refuses it, and it has had no voice until then.
#[test]
fn a_member_that_lost_its_data_is_refused_when_it_meets_the_others() {
    with_cluster(3, async |mut cluster| {
        let all = [1, 2, 3];
        cluster.start_all(&all).await;
        let load = Load::start(vec![cluster.client(&[1, 2])]);
        load.progress(30).await;
        cluster.kill(3);
        cluster.wipe(3);
        cluster.cut(3, &[1, 2]);
        cluster.start(3, &all, "new");
        until("a start alone", async || cluster.status(3).await).await;
        cluster.heal(3);
        assert_eq!(cluster.exit_code(3).await, Some(1));
        // Either it is told so, or the leader speaks first of what it should have.
        let log = cluster.log_text(3);
        assert!(
            log.contains("has already been bootstrapped: its data folder is empty") || log.contains("data that was acknowledged is lost"),
            "{log}"
        );
        load.progress(30).await;
        load.finish(&[cluster.client(&[1]), cluster.client(&[2])]).await;
    });
}

#[test]
fn a_learner_becomes_a_voter() {
    with_cluster(4, async |mut cluster| {
        let all = [1, 2, 3];
        cluster.start_all(&all).await;
        let load = Load::start(vec![cluster.client(&all)]);
        load.progress(30).await;
        let added = cluster.change(&all, "member add m4 --learner --peer-urls=https://10.77.0.4:2380").await;
        assert!(added.contains("added to cluster"), "{added}");
        let id = added.split_whitespace().nth(1).unwrap().to_owned();
        let (ok, text) = cluster.try_ctl(&all, "member add m5 --learner --peer-urls=https://10.77.0.5:2380").await;
        assert!(!ok && text.contains("etcdserver: too many learner members in cluster"), "{text}");
        let (ok, text) = cluster.try_ctl(&all, &format!("member promote {id}")).await;
        assert!(!ok && text.contains("etcdserver: can only promote a learner member which is in sync with leader"), "{text}");
        cluster.start(4, &[1, 2, 3, 4], "existing");
        until("the learner", async || {
            let status = cluster.status(4).await?;
            if status.is_learner && status.leader != 0 { Ok(()) } else { Err(format!("{status:?}")) }
        })
        .await;
        let (ok, text) = cluster.try_ctl(&[4], "put a b").await;
        assert!(!ok && text.contains("etcdserver: rpc not supported for learner"), "{text}");
        let (ok, text) = cluster.try_ctl(&[4], "get a").await;
        assert!(!ok && text.contains("etcdserver: rpc not supported for learner"), "{text}");
        cluster.ctl(&[4], "get a --consistency=s").await;
        until("promotion", async || {
            let (ok, text) = cluster.try_ctl(&all, &format!("member promote {id}")).await;
            if ok { Ok(()) } else { Err(text) }
        })
        .await;
        let (ok, text) = cluster.try_ctl(&all, &format!("member promote {id}")).await;
        assert!(!ok && text.contains("etcdserver: can only promote a learner member"), "{text}");
        cluster.wait_ready(&[1, 2, 3, 4]).await;
        assert_eq!(cluster.ctl(&[4], "put a b").await, "OK\n");
        load.progress(30).await;
        let members: Vec<_> = (1..=4).map(|n| cluster.client(&[n])).collect();
        load.finish(&members).await;
    });
}

/// A member that was away for longer than the log is kept gets a snapshot.
#[test]
fn a_member_that_is_far_behind_gets_a_snapshot() {
    with_cluster(3, async |mut cluster| {
        cluster.flags.push("--snapshot-count=100".into());
        let all = [1, 2, 3];
        cluster.start_all(&all).await;
        cluster.kill(3);
        let kv = cluster.client(&[1, 2]);
        for n in 0..400 {
            let put = async || kv.put(PutRequest::new(format!("k{n}"), vec![b'v'; 10_000])).await;
            until("a put", put).await;
        }
        cluster.start(3, &all, "new");
        cluster.wait_ready(&all).await;
        let third = cluster.client(&[3]);
        assert_eq!(third.range(RangeRequest::new(KeyRange::prefix("k"))).await.unwrap().count, 400);
        let snapshots = cluster.log_text(1) + &cluster.log_text(2);
        assert!(snapshots.contains("sent database snapshot"), "{snapshots}");
    });
}

#[test]
fn who_belongs_elsewhere_is_refused() {
    with_cluster(4, async |mut cluster| {
        cluster.start_all(&[1, 2, 3]).await;
        // Its own idea of the cluster: other ids.
        cluster.start_with(4, "m4=https://10.77.0.4:2380,m1=https://10.77.0.1:2380", "new", &["--initial-cluster-token=other"]);
        until("refusal", async || {
            let log = cluster.log_text(4);
            if log.contains("request sent was ignored by remote peer due to cluster ID mismatch") { Ok(()) } else { Err(log) }
        })
        .await;
        assert!(cluster.log_text(1).contains("request cluster ID mismatch"));
        cluster.kill(4);
        cluster.wipe(4);
        cluster.start_with(4, "other=https://10.77.0.4:2380", "new", &[]);
        assert_eq!(cluster.exit_code(4).await, Some(1));
        assert!(cluster.log_text(4).contains("couldn't find local name \"m4\" in the initial cluster configuration"));
        cluster.start_with(4, "m4=https://10.77.0.3:2380", "new", &[]);
        assert_eq!(cluster.exit_code(4).await, Some(1));
        let expected =
            "--initial-cluster has m4=https://10.77.0.3:2380 but missing from --initial-advertise-peer-urls=https://10.77.0.4:2380";
        assert!(cluster.log_text(4).contains(expected));
    });
}

/// The members find each other in another cluster, and have the ids that its token gives them.
#[test]
fn members_find_each_other_in_another_cluster() {
    with_cluster(4, async |mut cluster| {
        cluster.start_all(&[4]).await;
        let registry = cluster.client(&[4]);
        cluster.flags = ["cacert=ca.crt", "cert=member.crt", "key=member.key"]
            .iter()
            .map(|flag| flag.split_once('=').unwrap())
            .map(|(flag, file)| format!("--discovery-{flag}={}", cluster.dir.path().join(file).display()))
            .chain([format!("--discovery-endpoints={}", Cluster::client_url(4)), "--discovery-token=t1".into()])
            .collect();
        cluster.start_with(1, "", "new", &[]);
        assert_eq!(cluster.exit_code(1).await, Some(1));
        assert!(cluster.log_text(1).contains("discovery: size key not found"), "{}", cluster.log_text(1));
        registry.put(PutRequest::new("/_etcd/registry/t1/_config/size", "2")).await.unwrap();
        cluster.start_with(1, "", "new", &[]);
        cluster.start_with(2, "", "new", &[]);
        cluster.wait_ready(&[1, 2]).await;
        cluster.start_with(3, "", "new", &[]);
        assert_eq!(cluster.exit_code(3).await, Some(1));
        assert!(cluster.log_text(3).contains("discovery: cluster is full"), "{}", cluster.log_text(3));
        assert_eq!(cluster.ctl(&[1], "member list").await.lines().count(), 2);
        cluster.ctl(&[2], "put a b").await;
    });
}
