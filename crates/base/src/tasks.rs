//! Supervised tasks: a panic or an early end is logged and stops the process or restarts the task; it never vanishes.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Backoff;

/// The tasks of one component (or of a whole process) and the token that ends them. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Tasks {
    pub fn new() -> Self {
        Self::default()
    }

    /// A group that is stopped with this one but can also be stopped alone. A failure in it is a failure of this one.
    pub fn child(&self) -> Self {
        Self { tracker: TaskTracker::new(), stop: self.stop.child_token(), failed: self.failed.clone() }
    }

    /// Runs `task` until it ends or the group is stopped. A panic, or an end before the stop, fails the whole group:
    /// `failed()` resolves and the process is expected to exit.
    pub fn spawn_critical<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        let failed = self.failed.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                _ = stop.cancelled() => {}
                result = AssertUnwindSafe(task).catch_unwind() => {
                    if stop.is_cancelled() {
                        return;
                    }
                    match result {
                        Ok(()) => tracing::error!(task = name, "task ended early"),
                        Err(panic) => tracing::error!(task = name, cause = panic_text(&*panic), "task panicked"),
                    }
                    failed.cancel();
                }
            }
        });
    }

    /// Runs what `make` returns and starts it again, with backoff from 0.1 s to 30 s, when it panics or ends before the stop.
    pub fn spawn_restarting<M, F>(&self, name: &'static str, mut make: M)
    where
        M: FnMut() -> F + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30)).with_jitter(0.2);
            loop {
                let started = crate::clock::monotonic();
                tokio::select! {
                    _ = stop.cancelled() => return,
                    result = AssertUnwindSafe(make()).catch_unwind() => match result {
                        Ok(()) => tracing::warn!(task = name, "task ended early, starting it again"),
                        Err(panic) => tracing::error!(task = name, cause = panic_text(&*panic), "task panicked, starting it again"),
                    },
                }
                if started.elapsed() > Duration::from_secs(60) {
                    backoff.reset();
                }
                tokio::select! {
                    _ = stop.cancelled() => return,
                    _ = tokio::time::sleep(backoff.next_delay()) => {}
                }
            }
        });
    }

    /// Runs a task that is expected to end by itself (one request, one reconcile). A panic is logged.
    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.clone();
        self.tracker.spawn(async move {
            tokio::select! {
                _ = stop.cancelled() => {}
                result = AssertUnwindSafe(task).catch_unwind() => {
                    if let Err(panic) = result {
                        tracing::error!(task = name, cause = panic_text(&*panic), "task panicked");
                    }
                }
            }
        });
    }

    /// Ends every task of the group at its next await.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Resolves when the group is told to stop.
    pub async fn stopping(&self) {
        self.stop.cancelled().await;
    }

    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// The token itself, for code that wants to derive from it.
    pub fn token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Resolves when a critical task failed.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Waits until every task has ended; call `stop` first.
    pub async fn join(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn critical_panic_fails_the_group() {
        let tasks = Tasks::new();
        tasks.child().spawn_critical("bad", async { panic!("boom") });
        tasks.failed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn restarting_task_is_started_again() {
        let tasks = Tasks::new();
        let runs = Arc::new(AtomicU32::new(0));
        let seen = runs.clone();
        tasks.spawn_restarting("ends", move || {
            let seen = seen.clone();
            async move {
                seen.fetch_add(1, Ordering::SeqCst);
            }
        });
        while runs.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tasks.stop();
        tasks.join().await;
    }

    #[tokio::test]
    async fn stop_ends_everything() {
        let tasks = Tasks::new();
        tasks.spawn_critical("forever", std::future::pending());
        tasks.stop();
        tasks.join().await;
        assert!(!tasks.failed.is_cancelled());
    }
}
