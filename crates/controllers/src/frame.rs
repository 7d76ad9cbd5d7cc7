//! The one loop around every controller: watches fill a queue of keys, workers reconcile them, failures come again with growing delays. Must know no
//! controller.

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use client::WorkQueue;
use futures::FutureExt;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use tracing::Instrument;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// Something that is expected to be different at the next try.
    #[error("{0}")]
    Retry(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Somebody else changed the object first: the next try sees the new state. Nothing for the log.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_conflict())
    }

    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_not_found())
    }

    /// Nothing can be created in the namespace any more, and nothing needs to be.
    pub fn is_namespace_terminating(&self) -> bool {
        matches!(self, Self::Api(error) if is_namespace_terminating(error))
    }

    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Api(kube::Error::Api(status)) if status.is_already_exists())
    }
}

pub fn is_namespace_terminating(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.details.as_ref().is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// What the server said, without the client's decoration.
pub fn text(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// What comes after a successful reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something changes.
    Done,
    /// Look again after this time even if nothing changes.
    After(Duration),
}

impl From<Option<Duration>> for Next {
    fn from(after: Option<Duration>) -> Self {
        after.map_or(Self::Done, Self::After)
    }
}

/// A controller. Reconcile gets a key, never an event: it looks at the state as a whole.
pub trait Controller: Send + Sync + 'static {
    type Key: Clone + Eq + Hash + fmt::Display + fmt::Debug + Send + Sync + 'static;

    /// Upstream's name, as in `--controllers`.
    fn name(&self) -> &'static str;

    /// Registers handlers that put keys on the queue.
    fn watch(&self, queue: &WorkQueue<Self::Key>);

    /// Resolves when the caches that reconcile reads are filled.
    fn synced(&self) -> impl Future<Output = ()> + Send;

    fn reconcile(&self, key: &Self::Key) -> impl Future<Output = Result<Next>> + Send;
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

/// The work queues' metrics under upstream's names (component-base/metrics/prometheus/workqueue).
#[derive(Clone)]
pub struct Metrics {
    depth: Family<Name, Gauge>,
    retries: Family<Name, Counter>,
    duration: Family<Name, Histogram, fn() -> Histogram>,
}

impl Metrics {
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            depth: Family::default(),
            retries: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(exponential_buckets(1e-6, 10.0, 8))),
        };
        registry.register("workqueue_depth", "Keys that wait for a worker", metrics.depth.clone());
        registry.register("workqueue_retries", "Keys that came again after a failure", metrics.retries.clone());
        registry.register("workqueue_work_duration_seconds", "Seconds that one reconcile took", metrics.duration.clone());
        metrics
    }
}

/// Runs a controller with so many workers until the tasks are stopped. Returns at once.
pub fn run<C: Controller>(controller: C, workers: usize, tasks: &Tasks, metrics: &Metrics) {
    let controller = Arc::new(controller);
    let queue = WorkQueue::new();
    controller.watch(&queue);
    let loops = Loop { controller, queue, metrics: metrics.clone() };
    for _ in 0..workers.max(1) {
        let loops = loops.clone();
        tasks.spawn_restarting("controller", move || loops.clone().work());
    }
}

struct Loop<C: Controller> {
    controller: Arc<C>,
    queue: WorkQueue<C::Key>,
    metrics: Metrics,
}

impl<C: Controller> Clone for Loop<C> {
    fn clone(&self) -> Self {
        Self { controller: self.controller.clone(), queue: self.queue.clone(), metrics: self.metrics.clone() }
    }
}

impl<C: Controller> Loop<C> {
    async fn work(self) {
        self.controller.synced().await;
        let name = Name { name: self.controller.name() };
        while let Some(key) = self.queue.get().await {
            let started = base::clock::monotonic();
            let span = tracing::debug_span!("reconcile", controller = name.name, key = %key);
            let outcome = AssertUnwindSafe(self.controller.reconcile(&key)).catch_unwind().instrument(span).await;
            self.metrics.duration.get_or_create(&name).observe(started.elapsed().as_secs_f64());
            self.settle(&name, &key, outcome);
            self.metrics.depth.get_or_create(&name).set(i64::try_from(self.queue.len()).unwrap_or(i64::MAX));
        }
    }

    fn settle(&self, name: &Name, key: &C::Key, outcome: std::thread::Result<Result<Next>>) {
        match outcome {
            Ok(Ok(next)) => {
                self.queue.forget(key);
                if let Next::After(delay) = next {
                    self.queue.add_after(key.clone(), delay);
                }
            }
            failed => {
                match failed {
                    Ok(Err(error)) if error.is_conflict() => {
                        tracing::debug!(controller = name.name, %key, %error, "conflict, trying again")
                    }
                    Ok(Err(error)) => tracing::warn!(controller = name.name, %key, %error, "cannot reconcile, trying again"),
                    _ => tracing::error!(controller = name.name, %key, "reconcile panicked, trying again"),
                }
                self.metrics.retries.get_or_create(name).inc();
                self.queue.add_rate_limited(key.clone());
            }
        }
        self.queue.done(key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Flaky {
        runs: Arc<AtomicU32>,
    }

    impl Controller for Flaky {
        type Key = String;

        fn name(&self) -> &'static str {
            "flaky"
        }

        fn watch(&self, queue: &WorkQueue<String>) {
            queue.add("key".into());
        }

        async fn synced(&self) {}

        async fn reconcile(&self, _: &String) -> Result<Next> {
            match self.runs.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Error::Retry("not yet".into())),
                1 => panic!("boom"),
                2 => Ok(Next::After(Duration::from_secs(60))),
                _ => Ok(Next::Done),
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_and_panics_come_again() {
        let (runs, tasks) = (Arc::new(AtomicU32::new(0)), Tasks::new());
        run(Flaky { runs: runs.clone() }, 2, &tasks, &Metrics::new(&mut Registry::default()));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(runs.load(Ordering::SeqCst), 4);
        tasks.stop();
        tasks.join().await;
    }
}
