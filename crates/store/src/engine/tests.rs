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
