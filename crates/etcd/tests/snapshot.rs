//! Snapshot files between real etcd and ours, both ways: the same history, the same leases, the same numbers about the file.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};
use std::time::Duration;

use common::{OurEtcd, RealEtcd, client, free_ports, run, try_run, wait_ready};
use etcd::snapshot::{RestoreOptions, SnapshotError, restore, status};
use etcd::{EtcdKv, Options, Server};
use store::{KeyRange, Kv, KvError, Op, PutRequest, RangeRequest, Txn};

const V3: &[(&str, &str)] = &[("ETCDCTL_API", "3")];
const COMPACTED: i64 = 300;

async fn ctl(endpoint: &str, line: &str) -> String {
    let mut args = vec!["--endpoints", endpoint];
    args.extend(line.split(' '));
    run("etcdctl", &args, V3, None).await
}

/// A history with everything in it: new versions, deletions, transactions of several keys, large values, leases, a compaction.
async fn fill(kv: &EtcdKv) {
    for id in [7, 8, 9] {
        kv.lease_grant(id, Duration::from_secs(5000 + u64::from(id.unsigned_abs() as u32))).await.unwrap();
    }
    kv.lease_revoke(9).await.unwrap();
    for n in 0..600usize {
        let key = format!("key/{:03}", n * 7919 % 250);
        let bytes = if n % 97 == 0 { 200_000 } else { n % 700 };
        let lease = if n % 5 == 0 { 7 + i64::from(n % 2 == 0) } else { 0 };
        match n % 11 {
            3 => drop(kv.delete(KeyRange::one(key)).await.unwrap()),
            5 => {
                let puts = (0..4).map(|m| Op::Put(PutRequest::new(format!("{key}/{m}"), vec![m; bytes])));
                let delete = Op::Delete(store::DeleteRequest { range: KeyRange::prefix("key/00"), prev_kv: false });
                kv.txn(Txn { success: puts.chain([delete]).collect(), ..Txn::default() }).await.unwrap_or_else(|error| {
                    assert_eq!(error, KvError::DuplicateKey);
                    store::TxnResponse { revision: 0, succeeded: true, responses: Vec::new() }
                });
            }
            _ => drop(kv.put(PutRequest { lease, ..PutRequest::new(key, vec![n as u8; bytes]) }).await.unwrap()),
        }
    }
    kv.compact(COMPACTED, true).await.unwrap();
    kv.put(PutRequest::new("last", "")).await.unwrap();
}

async fn hash(endpoint: &str, revision: i64) -> String {
    let hashed = ctl(endpoint, &format!("endpoint hashkv -w json --rev={revision}")).await;
    let hashed: serde_json::Value = serde_json::from_str(&hashed).unwrap();
    let at = &hashed[0]["HashKV"];
    format!("{revision}: hash {} compacted {}", at["hash"], at["compact_revision"])
}

/// What a client can know of a store's history: checksums of it, and old revisions of all keys.
async fn history(endpoint: &str) -> Vec<String> {
    let kv = client(endpoint);
    let newest = kv.status().await.unwrap().revision;
    let mut known = vec![format!("revision {newest}")];
    for revision in [COMPACTED + 1, COMPACTED + 57, newest - 1, newest] {
        known.push(hash(endpoint, revision).await);
        let found = kv.range(RangeRequest { revision, ..RangeRequest::new(KeyRange::between("\0", "\0")) }).await.unwrap();
        known.push(format!(
            "{revision}: {:?}",
            found.kvs.iter().map(|kv| (&kv.key, kv.version, kv.mod_revision, kv.lease)).collect::<Vec<_>>()
        ));
    }
    let old = kv.range(RangeRequest { revision: COMPACTED - 1, ..RangeRequest::new(KeyRange::one("key/001")) }).await;
    known.push(format!("{old:?}"));
    let mut leases = kv.leases().await.unwrap();
    leases.sort_unstable();
    for lease in leases {
        let status = kv.lease_status(lease).await.unwrap();
        let mut keys = status.keys;
        keys.sort_unstable();
        known.push(format!("lease {lease}: {:?} {keys:?}", status.granted_ttl));
    }
    known
}

async fn save(endpoint: &str, dir: &Path) -> PathBuf {
    let file = dir.join("snapshot.db");
    ctl(endpoint, &format!("snapshot save {}", file.display())).await;
    file
}

/// What etcdctl and we say of a file.
async fn check_status(file: &Path) {
    let said = run("etcdctl", &["snapshot", "status", "-w", "json", file.to_str().unwrap()], V3, None).await;
    let ours = status(file).unwrap();
    let ours =
        format!(r#"{{"hash":{},"revision":{},"totalKey":{},"totalSize":{}}}"#, ours.hash, ours.revision, ours.total_key, ours.total_size);
    // etcdctl 3.5 says beside it that etcdutl has the command now.
    assert_eq!(said.lines().find(|line| line.starts_with('{')), Some(ours.as_str()));
}

fn options(dir: &Path) -> RestoreOptions {
    RestoreOptions { data_dir: Some(dir.join("data")), ..RestoreOptions::default() }
}

async fn ours_on(file: &Path, change: impl FnOnce(RestoreOptions) -> RestoreOptions) -> OurEtcd {
    let dir = tempfile::tempdir().unwrap();
    restore(file, &change(options(dir.path()))).unwrap();
    OurEtcd::start_in(dir, Options { listen_client_urls: "http://127.0.0.1:0".into(), ..Options::default() }).await
}

async fn real_on(file: &Path) -> RealEtcd {
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let to = dir.path().join("data");
    run("etcdctl", &["snapshot", "restore", file.to_str().unwrap(), "--data-dir", to.to_str().unwrap()], V3, None).await;
    RealEtcd::start_in(dir, &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_real_etcd_to_ours_and_back() {
    let mut real = RealEtcd::start().await;
    fill(&client(&real.endpoint)).await;
    let expected = history(&real.endpoint).await;
    let dir = tempfile::tempdir().unwrap();
    let file = save(&real.endpoint, dir.path()).await;
    check_status(&file).await;

    let ours = ours_on(&file, |options| options).await;
    assert_eq!(history(&ours.endpoint).await, expected);
    let other = tempfile::tempdir().unwrap();
    let again = save(&ours.endpoint, other.path()).await;
    check_status(&again).await;
    let back = real_on(&again).await;
    assert_eq!(history(&back.endpoint).await, expected);
    ours.stop().await;

    // The database of a stopped etcd, as it lies in its folder.
    real.kill();
    let raw = real.dir.path().join("data/member/snap/db");
    check_status(&raw).await;
    let ours = ours_on(&raw, |options| RestoreOptions { skip_hash_check: true, ..options }).await;
    assert_eq!(history(&ours.endpoint).await, expected);
    // It goes on from there.
    let kv = client(&ours.endpoint);
    let put = kv.put(PutRequest::new("new", "value")).await.unwrap();
    kv.compact(put, true).await.unwrap();
    ours.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_ours_to_real_etcd() {
    let ours = OurEtcd::start().await;
    fill(&client(&ours.endpoint)).await;
    let expected = history(&ours.endpoint).await;
    let dir = tempfile::tempdir().unwrap();
    let file = save(&ours.endpoint, dir.path()).await;
    check_status(&file).await;
    let real = real_on(&file).await;
    assert_eq!(history(&real.endpoint).await, expected);
    // etcd goes on with our pages: splits, merges, frees them.
    let kv = client(&real.endpoint);
    let (newest, _) = kv.delete(KeyRange::prefix("key/")).await.unwrap();
    kv.compact(newest, true).await.unwrap();
    ctl(&real.endpoint, "defrag").await;
    let left = kv.range(RangeRequest::new(KeyRange::between("\0", "\0"))).await.unwrap();
    assert_eq!(left.kvs.len(), 1);
    ours.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_store_and_a_higher_revision() {
    let ours = OurEtcd::start().await;
    let dir = tempfile::tempdir().unwrap();
    let file = save(&ours.endpoint, dir.path()).await;
    check_status(&file).await;
    let real = real_on(&file).await;
    assert_eq!(client(&real.endpoint).status().await.unwrap().revision, 1);
    let bumped = ours_on(&file, |options| RestoreOptions { bump_revision: 1_000_000_000, mark_compacted: true, ..options }).await;
    let kv = client(&bumped.endpoint);
    assert_eq!(kv.status().await.unwrap().revision, 1_000_000_001);
    let old = kv.range(RangeRequest { revision: 1, ..RangeRequest::new(KeyRange::one("a")) }).await;
    assert!(matches!(old, Err(KvError::Compacted { .. })), "{old:?}");
    assert_eq!(kv.put(PutRequest::new("a", "b")).await.unwrap(), 1_000_000_002);
    bumped.stop().await;
    ours.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_folders_that_are_refused() {
    let ours = OurEtcd::start().await;
    client(&ours.endpoint).put(PutRequest::new("a", "b")).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = save(&ours.endpoint, dir.path()).await;
    let good = std::fs::read(&file).unwrap();
    let fails = async |content: &[u8], change: fn(&mut RestoreOptions), expected: &str| {
        std::fs::write(&file, content).unwrap();
        let mut options = options(dir.path());
        change(&mut options);
        let error = restore(&file, &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} instead of {expected}");
        assert!(!dir.path().join("data").exists(), "{expected}: nothing is left behind");
    };
    let same = |_: &mut RestoreOptions| {};
    fails(&good[..good.len() - 32], same, "snapshot missing hash but --skip-hash-check=false").await;
    let mut damaged = good.clone();
    damaged[9000] ^= 1;
    fails(&damaged, same, "expected sha256 [").await;
    fails(b"no database", |options| options.skip_hash_check = true, "invalid database").await;
    fails(&good[..8192], |options| options.skip_hash_check = true, "it was cut off").await;
    let too_far = |options: &mut RestoreOptions| (options.bump_revision, options.mark_compacted) = (1 << 62, true);
    fails(&good, too_far, "the revision would be beyond").await;
    fails(&good, |options| options.bump_revision = 1, "--mark-compacted required if --revision-bump").await;
    fails(&good, |options| options.name = "other".into(), "couldn't find local name \"other\" in the initial cluster configuration").await;
    std::fs::write(&file, &good).unwrap();
    std::fs::create_dir_all(dir.path().join("data/member")).unwrap();
    let error = restore(&file, &options(dir.path())).unwrap_err();
    assert!(matches!(error, SnapshotError::NotEmpty(_)), "{error}");
    let (_, said) =
        try_run("etcdctl", &["snapshot", "restore", file.to_str().unwrap(), "--data-dir", dir.path().to_str().unwrap()], V3, None).await;
    assert!(said.contains("data-dir"), "{said}");
    ours.stop().await;
}

/// Deletions next to the compacted revision are where a checksum goes wrong first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checksums_around_compactions() {
    let real = RealEtcd::start().await;
    let ours = OurEtcd::start().await;
    let dir = tempfile::tempdir().unwrap();
    let endpoints = [real.endpoint.as_str(), ours.endpoint.as_str()];
    for endpoint in endpoints {
        let kv = client(endpoint);
        for n in 0..20 {
            match n % 4 {
                2 => drop(kv.delete(KeyRange::one(format!("k{}", n % 3))).await.unwrap()),
                _ => drop(kv.put(PutRequest::new(format!("k{}", n % 3), format!("v{n}"))).await.unwrap()),
            }
        }
    }
    let newest = client(&real.endpoint).status().await.unwrap().revision;
    for compacted in 2..=newest {
        let mut known = Vec::new();
        for endpoint in endpoints {
            client(endpoint).compact(compacted, true).await.unwrap();
            let mut hashes = vec![hash(endpoint, 0).await];
            for revision in compacted + 1..=newest {
                hashes.push(hash(endpoint, revision).await);
            }
            known.push(hashes);
        }
        assert_eq!(known[1], known[0], "compacted at {compacted}");
        if compacted % 6 == 5 || compacted == newest {
            let file = save(&ours.endpoint, dir.path()).await;
            let back = real_on(&file).await;
            assert_eq!(hash(&back.endpoint, 0).await, known[0][0], "compacted at {compacted}, in a new etcd");
            let copy = ours_on(&file, |options| options).await;
            assert_eq!(hash(&copy.endpoint, 0).await, known[0][0], "compacted at {compacted}, in ours");
            copy.stop().await;
        }
    }
    ours.stop().await;
}

/// A member as `etcdctl snapshot restore` and `member add` leave its start: no flag but its own addresses.
async fn start_member(data: &Path, name: &str, peer: &str, change: impl FnOnce(Options) -> Options) -> (String, base::Tasks) {
    let tasks = base::Tasks::new();
    let options = Options {
        name: name.into(),
        data_dir: Some(data.to_owned()),
        listen_peer_urls: peer.into(),
        initial_advertise_peer_urls: peer.into(),
        listen_client_urls: "http://127.0.0.1:0".into(),
        ..Options::default()
    };
    let server = Server::init(change(options), &tasks).await.unwrap();
    let endpoint = server.client_urls().remove(0);
    tokio::spawn(server.run(tasks.clone()));
    (endpoint, tasks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_from_one_file() {
    let real = RealEtcd::start().await;
    fill(&client(&real.endpoint)).await;
    let expected = history(&real.endpoint).await;
    let dir = tempfile::tempdir().unwrap();
    let file = save(&real.endpoint, dir.path()).await;
    let ports: Vec<u16> = [free_ports(), free_ports()].concat();
    let urls: Vec<String> = ports.iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
    let initial_cluster = (0..3).map(|n| format!("m{n}={}", urls[n])).collect::<Vec<_>>().join(",");
    let data = |n: usize| dir.path().join(format!("m{n}"));
    let mut members = Vec::new();
    for (n, url) in urls.iter().enumerate().take(3) {
        let options = RestoreOptions {
            name: format!("m{n}"),
            data_dir: Some(data(n)),
            initial_cluster: initial_cluster.clone(),
            initial_advertise_peer_urls: url.clone(),
            ..RestoreOptions::default()
        };
        restore(&file, &options).unwrap();
        members.push(start_member(&data(n), &format!("m{n}"), url, |options| options).await);
    }
    for (endpoint, _) in &members {
        wait_ready(endpoint).await;
        assert_eq!(history(endpoint).await, expected);
    }
    // Who joins later has the state of the file too, though no log tells of it. Members are healthy when they were connected for a while.
    let add = ["--endpoints", &members[0].0, "member", "add", "m3", "--peer-urls", &urls[3]];
    while !try_run("etcdctl", &add, V3, None).await.0 {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let grown = format!("{initial_cluster},m3={}", urls[3]);
    let joins = |options| Options { initial_cluster: Some(grown), initial_cluster_state: "existing".into(), ..options };
    members.push(start_member(&data(3), "m3", &urls[3], joins).await);
    wait_ready(&members[3].0).await;
    assert_eq!(history(&members[3].0).await, expected);
    for (_, tasks) in &members {
        tasks.stop();
    }
}

/// What etcdctl says of users and roles.
async fn users(endpoint: &str) -> Vec<String> {
    let mut known = Vec::new();
    for line in ["user list", "role list", "role get reader", "user get root", "user get ann", "user get guest"] {
        known.push(ctl(endpoint, line).await);
    }
    known
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_roles() {
    let real = RealEtcd::start().await;
    for line in [
        "user add root:secret",
        "user add ann:other",
        "user add guest --no-password",
        "role add root",
        "role add reader",
        "role grant-permission reader read a",
        "role grant-permission reader readwrite b c",
        "role grant-permission reader write --prefix d",
        "role grant-permission reader read --from-key x",
        "user grant-role root root",
        "user grant-role ann reader",
        "user grant-role guest reader",
    ] {
        ctl(&real.endpoint, line).await;
    }
    let expected = users(&real.endpoint).await;
    let dir = tempfile::tempdir().unwrap();
    let file = save(&real.endpoint, dir.path()).await;
    let ours = ours_on(&file, |options| options).await;
    assert_eq!(users(&ours.endpoint).await, expected);
    let again = save(&ours.endpoint, dir.path()).await;
    check_status(&again).await;
    let back = real_on(&again).await;
    assert_eq!(users(&back.endpoint).await, expected);
    // The passwords came along, and what is allowed.
    for endpoint in [&ours.endpoint, &back.endpoint] {
        ctl(endpoint, "auth enable").await;
        check_access(endpoint).await;
    }
    let line = format!("--user root:secret snapshot save {}", file.display());
    ctl(&ours.endpoint, &line).await;
    let copy = ours_on(&file, |options| options).await;
    check_access(&copy.endpoint).await;
    check_access(&real_on(&file).await.endpoint).await;
    copy.stop().await;
    ours.stop().await;
}

/// With authentication on.
async fn check_access(endpoint: &str) {
    ctl(endpoint, "--user ann:other put b1 v").await;
    ctl(endpoint, "--user root:secret user list").await;
    let fails = async |line: &str, expected: &str| {
        let args: Vec<&str> = ["--endpoints", endpoint].into_iter().chain(line.split(' ')).collect();
        let (good, said) = try_run("etcdctl", &args, V3, None).await;
        assert!(!good && said.contains(expected), "{line}: {said}");
    };
    fails("--user ann:wrong put b1 v", "authentication failed").await;
    fails("--user ann:other put e v", "permission denied").await;
    fails("--user ann:other snapshot save /dev/null", "permission denied").await;
    fails("get a", "user name is empty").await;
}

/// Bytes changed anywhere behind the meta pages: an error or a store, never a panic.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_never_panic() {
    let real = RealEtcd::start().await;
    let kv = client(&real.endpoint);
    for n in 0..60 {
        kv.put(PutRequest::new(format!("key{}", n % 13), vec![n; 40])).await.unwrap();
    }
    kv.lease_grant(7, Duration::from_secs(500)).await.unwrap();
    ctl(&real.endpoint, "role add r").await;
    let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let file = save(&real.endpoint, dir.path()).await;
    let good = std::fs::read(&file).unwrap();
    let mut refused = 0;
    for seed in 0..300u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) as usize % below
        };
        let mut damaged = good.clone();
        for _ in 0..1 + next(4) {
            damaged[8192 + next(good.len() - 8192)] = next(256) as u8;
        }
        std::fs::write(&file, &damaged).unwrap();
        let _ = status(&file);
        refused += u32::from(restore(&file, &RestoreOptions { skip_hash_check: true, ..options(dir.path()) }).is_err());
        let _ = std::fs::remove_dir_all(dir.path().join("data"));
    }
    assert!(refused > 20, "{refused}");
}

/// The copy of running servers that etcdctl makes: `docs/moving-etcd-data.md`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mirror() {
    let real = RealEtcd::start().await;
    let ours = OurEtcd::start().await;
    for (from, to) in [(&real.endpoint, &ours.endpoint), (&ours.endpoint, &real.endpoint)] {
        let (source, copy) = (client(from), client(to));
        let prefix = format!("from {from} ");
        source.put(PutRequest::new(format!("{prefix}before"), "1")).await.unwrap();
        let _mirror = tokio::process::Command::new("etcdctl")
            .args(["--endpoints", from, "make-mirror", "--prefix", &prefix, to.trim_start_matches("http://")])
            .envs(V3.iter().copied())
            .kill_on_drop(true)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut changes = copy.watch(store::WatchRequest::new(KeyRange::prefix(prefix.clone()), 1)).await.unwrap();
        for key in ["before", "after"] {
            let change = loop {
                if let Some(change) = changes.next().await.unwrap().events.into_iter().next() {
                    break change;
                }
            };
            assert_eq!(change.kv.key, format!("{prefix}{key}"));
            source.put(PutRequest::new(format!("{prefix}after"), "2")).await.unwrap();
        }
    }
    ours.stop().await;
}
