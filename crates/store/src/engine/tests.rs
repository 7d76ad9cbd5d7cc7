//! The engine as a whole.

use super::*;
use crate::suite;

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
    let options = EngineOptions { wal_segment_bytes: 64 << 10, checkpoint_wal_bytes: 64 << 10, ..EngineOptions::default() };
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
