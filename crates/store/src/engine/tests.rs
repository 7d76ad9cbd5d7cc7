//! The engine as a whole.

use bytes::Bytes;

use super::*;
use crate::suite;

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest::new(key.to_owned(), value.to_owned())
}

#[tokio::test(start_paused = true)]
async fn suite_in_memory() {
    let tasks = base::Tasks::new();
    let engine = Engine::in_memory(EngineOptions::default(), &tasks);
    assert_eq!(engine.status().await.unwrap().revision, 1);
    suite::run_all(&engine, "1").await;
    assert_eq!(engine.watcher_count(), 0);
    engine.close().await.unwrap();
    tasks.stop();
    tasks.join().await;
}

#[tokio::test]
async fn suite_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = base::Tasks::new();
    let options =
        EngineOptions { wal_segment_bytes: 64 << 10, checkpoint_wal_bytes: 64 << 10, value_cache_bytes: 4096, ..EngineOptions::default() };
    let engine = Engine::open(dir.path(), options.clone(), &tasks).unwrap();
    suite::run_all(&engine, "1").await;
    let before = engine.range(RangeRequest::new(KeyRange::prefix("/"))).await.unwrap();
    engine.close().await.unwrap();
    assert_eq!(engine.status().await.unwrap_err(), closed());
    let engine = Engine::open(dir.path(), options, &tasks).unwrap();
    let after = engine.range(RangeRequest::new(KeyRange::prefix("/"))).await.unwrap();
    assert_eq!((before.revision, before.kvs), (after.revision, after.kvs));
    suite::run_all(&engine, "2").await;
    engine.close().await.unwrap();
    tasks.stop();
    tasks.join().await;
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let tasks = base::Tasks::new();
    let engine = Engine::open(dir.path(), EngineOptions::default(), &tasks).unwrap();
    let error = Engine::open(dir.path(), EngineOptions::default(), &tasks).err().unwrap();
    assert!(error.to_string().contains("is in use by another process"), "{error}");
    engine.close().await.unwrap();
    Engine::open(dir.path(), EngineOptions::default(), &tasks).unwrap().close().await.unwrap();
}

#[tokio::test]
async fn an_unusable_folder_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Engine::open(&file.path().join("data"), EngineOptions::default(), &base::Tasks::new()).err().unwrap();
    assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
}

#[tokio::test(start_paused = true)]
async fn closing_ends_everything() {
    let tasks = base::Tasks::new();
    let engine = Engine::in_memory(EngineOptions::default(), &tasks);
    let mut watch = engine.watch(WatchRequest::new(KeyRange::prefix("/"), 0)).await.unwrap();
    engine.put(put("/a", "1")).await.unwrap();
    engine.close().await.unwrap();
    assert_eq!(watch.next().await.unwrap().events.len(), 1, "what happened before is still delivered");
    assert_eq!(watch.next().await.unwrap_err(), closed());
    assert_eq!(engine.put(put("/a", "2")).await.unwrap_err(), closed());
    assert_eq!(engine.watch(WatchRequest::new(KeyRange::prefix("/"), 0)).await.err(), Some(closed()));
    let other = Engine::in_memory(EngineOptions::default(), &tasks);
    let mut watch = other.watch(WatchRequest::new(KeyRange::prefix("/"), 0)).await.unwrap();
    drop(other);
    assert_eq!(watch.next().await.unwrap_err(), closed(), "so does dropping the last handle");
}

#[tokio::test(start_paused = true)]
async fn a_quota_stops_growth_only() {
    let tasks = base::Tasks::new();
    let engine = Engine::in_memory(EngineOptions { quota_bytes: 10_000, ..EngineOptions::default() }, &tasks);
    let mut last = Ok(0);
    for _ in 0..100 {
        last = engine.put(put("/a", &"x".repeat(500))).await;
    }
    assert_eq!(last, Err(KvError::NoSpace));
    let revision = engine.status().await.unwrap().revision;
    engine.compact(revision, true).await.unwrap();
    engine.put(put("/a", "1")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_long_lease_does_not_start_anew_with_the_store() {
    let tasks = base::Tasks::new();
    let engine = Engine::in_memory(EngineOptions::default(), &tasks);
    let lease = engine.lease_grant(0, Duration::from_secs(3600)).await.unwrap().id;
    tokio::time::sleep(Duration::from_secs(1210)).await;
    let records = engine.inner.shared.state.read().leases.records();
    assert_eq!(records[0].checkpoint_ms / 1000, 2400);
    engine.lease_keep_alive(lease).await.unwrap();
    assert_eq!(engine.inner.shared.state.read().leases.records()[0].checkpoint_ms, 0);
}

#[tokio::test(start_paused = true)]
async fn quiet_watches_get_progress() {
    let tasks = base::Tasks::new();
    let engine = Engine::in_memory(EngineOptions::default(), &tasks);
    let request = WatchRequest { progress_notify: true, ..WatchRequest::new(KeyRange::prefix("/a/"), 0) };
    let mut watch = engine.watch(request).await.unwrap();
    let revision = engine.put(put("/b", "1")).await.unwrap();
    let response = watch.next().await.unwrap();
    assert_eq!((response.revision, response.events.len()), (revision, 0));
}

type Seen = (Revision, Bytes, Bytes);

/// Watches until everything up to the revision that `done` tells is delivered. `rest` responses make one watch, then a new one goes on from there.
async fn follow(engine: Engine, range: KeyRange, slow: bool, rest: usize, mut done: tokio::sync::watch::Receiver<Revision>) -> Vec<Seen> {
    let mut seen = Vec::new();
    let mut start = 2;
    loop {
        let mut watch = engine.watch(WatchRequest::new(range.clone(), start)).await.unwrap();
        let mut asked = false;
        for _ in 0..rest {
            let response = tokio::select! {
                response = watch.next() => response.unwrap(),
                () = async { drop(done.wait_for(|last| *last > 0).await.unwrap()) }, if !asked => {
                    asked = true;
                    watch.request_progress().await.unwrap();
                    continue;
                }
            };
            if response.events.is_empty() && response.revision >= *done.borrow() {
                return seen;
            }
            for event in response.events {
                assert!(event.kv.mod_revision >= start);
                seen.push((event.kv.mod_revision, event.kv.key, event.kv.value));
            }
            start = seen.last().map_or(start, |last| last.0 + 1);
            if slow {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }
}

/// Watchers of all shapes, quick, slow and coming back, while many write: each sees exactly the history of its range.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn watchers_see_exactly_the_history() {
    let tasks = base::Tasks::new();
    let engine = Engine::in_memory(EngineOptions::default(), &tasks);
    let ranges = [
        KeyRange::prefix("/"),
        KeyRange::prefix("/1/"),
        KeyRange::one("/2/7"),
        KeyRange::between("/1/5", "/3/2"),
        KeyRange::between("/3/", "\0"),
        KeyRange::between("\0", "\0"),
    ];
    let (tell, done) = tokio::sync::watch::channel(0);
    let mut watchers = Vec::new();
    for (n, range) in ranges.iter().cycle().take(18).enumerate() {
        let rest = if n % 4 == 3 { 5 } else { usize::MAX };
        watchers.push((range.clone(), tokio::spawn(follow(engine.clone(), range.clone(), n % 3 == 2, rest, done.clone()))));
    }
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let mut written = Vec::new();
                for n in 0..3000 {
                    let (key, value) = (format!("/{writer}/{}", n % 10), n.to_string());
                    written.push((engine.put(put(&key, &value)).await.unwrap(), key.into(), value.into()));
                }
                written
            })
        })
        .collect();
    let mut all: Vec<Seen> = Vec::new();
    for writer in writers {
        all.extend(writer.await.unwrap());
    }
    all.sort();
    assert!(all.iter().map(|change| change.0).eq(2..all.len() as Revision + 2));
    tell.send(all.len() as Revision + 1).unwrap();
    for (range, watcher) in watchers {
        let expected: Vec<_> = all.iter().filter(|change| range.contains(&change.1)).cloned().collect();
        assert!(watcher.await.unwrap() == expected, "{range:?}");
    }
    assert_eq!(engine.watcher_count(), 0);
}
