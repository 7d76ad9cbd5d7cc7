//! Automatic compaction, by age or by number of revisions (server/etcdserver/api/v3compactor). What to forget is decided purely; here is only the clock.

use std::collections::VecDeque;
use std::time::Duration;

use store::{Engine, Kv, KvError, Revision};

use crate::options::AutoCompaction;

const REVISION_CHECK: Duration = Duration::from_secs(300);
/// A period, or an hour of a longer one, is sampled so many times.
const SAMPLES: u32 = 10;
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);

/// Compacts until the task is stopped.
pub async fn run(engine: Engine, mode: AutoCompaction) {
    match mode {
        AutoCompaction::Never => std::future::pending().await,
        AutoCompaction::Revisions(keep) => {
            let mut last = 0;
            loop {
                tokio::time::sleep(REVISION_CHECK).await;
                let target = engine.revision() - keep;
                if target > last && compact(&engine, target).await {
                    last = target;
                }
            }
        }
        AutoCompaction::Periodic(period) => {
            let mut samples = Samples::new(period);
            loop {
                tokio::time::sleep(samples.interval).await;
                if let Some(target) = samples.take(engine.revision())
                    && target > 0
                    && compact(&engine, target).await
                {
                    samples.compacted(target);
                }
            }
        }
    }
}

async fn compact(engine: &Engine, revision: Revision) -> bool {
    match engine.compact(revision, false).await {
        Ok(()) => {
            tracing::info!(revision, "compacted automatically");
            true
        }
        // Somebody else was faster.
        Err(KvError::Compacted { .. }) => true,
        Err(error) => {
            tracing::warn!(revision, %error, "the automatic compaction failed, trying again later");
            false
        }
    }
}

/// The revisions of the last period.
struct Samples {
    interval: Duration,
    capacity: usize,
    revisions: VecDeque<Revision>,
    compacted: Revision,
}

impl Samples {
    fn new(period: Duration) -> Self {
        let interval = (period.min(LONGEST_INTERVAL) / SAMPLES).max(Duration::from_millis(1));
        let capacity = usize::try_from(period.as_nanos() / interval.as_nanos()).unwrap_or(usize::MAX).saturating_add(1);
        Self { interval, capacity, revisions: VecDeque::new(), compacted: 0 }
    }

    /// Notes the revision of now; returns what a period ago was the newest, once there is such a one and it is not compacted.
    fn take(&mut self, revision: Revision) -> Option<Revision> {
        self.revisions.push_back(revision);
        if self.revisions.len() > self.capacity {
            self.revisions.pop_front();
        }
        let oldest = *self.revisions.front()?;
        (self.revisions.len() == self.capacity && oldest > self.compacted).then_some(oldest)
    }

    fn compacted(&mut self, revision: Revision) {
        self.compacted = revision;
    }
}

#[cfg(test)]
mod tests {
    use store::{EngineOptions, PutRequest};

    use super::*;

    #[test]
    fn samples_of_a_period() {
        let mut samples = Samples::new(Duration::from_secs(600));
        assert_eq!((samples.interval, samples.capacity), (Duration::from_secs(60), 11));
        assert_eq!((1..=10).find_map(|revision| samples.take(revision)), None);
        assert_eq!(samples.take(11), Some(1));
        samples.compacted(2);
        assert_eq!(samples.take(12), None, "that is compacted already");
        assert_eq!(samples.take(13), Some(3));
        let day = Samples::new(Duration::from_secs(86_400));
        assert_eq!((day.interval, day.capacity), (Duration::from_secs(360), 241));
    }

    #[tokio::test(start_paused = true)]
    async fn keeps_so_many_revisions() {
        let tasks = base::Tasks::new();
        let engine = Engine::in_memory(EngineOptions::default(), &tasks);
        for _ in 0..20 {
            engine.put(PutRequest::new("k", "v")).await.unwrap();
        }
        tasks.spawn("compactor", run(engine.clone(), AutoCompaction::Revisions(5)));
        while engine.status().await.unwrap().compact_revision == 0 {
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(engine.status().await.unwrap().compact_revision, 16);
        tasks.stop();
    }
}
