//! What the stores of this process count of their own work, for whoever shows metrics. Counts only: nothing here decides anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Room for the largest number of bounds that anybody asks for.
const BUCKETS: usize = 16;

/// How long something took, in buckets of which each is twice as wide as the one before.
#[derive(Debug)]
pub struct Durations {
    first_us: u64,
    bounds: usize,
    buckets: [AtomicU64; BUCKETS],
    /// Longer than the last bound.
    longer: AtomicU64,
    sum_us: AtomicU64,
}

impl Durations {
    /// `bounds`: 16 at most.
    pub const fn new(first_us: u64, bounds: usize) -> Self {
        assert!(bounds <= BUCKETS, "more bounds than buckets");
        Self { first_us, bounds, buckets: [const { AtomicU64::new(0) }; BUCKETS], longer: AtomicU64::new(0), sum_us: AtomicU64::new(0) }
    }

    pub fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = (0..self.bounds).find(|bucket| us <= self.first_us << bucket);
        bucket.map_or(&self.longer, |bucket| &self.buckets[bucket]).fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// The upper bounds in seconds, each with how many took so long at most; then how many there are, and their sum in seconds.
    pub fn read(&self) -> (Vec<(f64, u64)>, u64, f64) {
        let mut count = 0;
        let bounds = (0..self.bounds).map(|bucket| {
            count += self.buckets[bucket].load(Ordering::Relaxed);
            ((self.first_us << bucket) as f64 / 1e6, count)
        });
        let bounds = bounds.collect();
        (bounds, count + self.longer.load(Ordering::Relaxed), self.sum_us.load(Ordering::Relaxed) as f64 / 1e6)
    }
}

#[derive(Debug)]
pub struct Stats {
    /// Syncs of the log, each for all the records that waited for it.
    pub log_syncs: Durations,
    /// Bytes written to the log since the process began.
    pub log_bytes: AtomicU64,
    /// Saves of the applied state.
    pub saves: Durations,
    /// Leases whose time ran out here.
    pub leases_expired: AtomicU64,
}

/// One for the process, as in etcd: a process serves one store.
static STATS: Stats = Stats {
    log_syncs: Durations::new(1000, 14),
    log_bytes: AtomicU64::new(0),
    saves: Durations::new(1000, 14),
    leases_expired: AtomicU64::new(0),
};

pub fn stats() -> &'static Stats {
    &STATS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_below_their_bounds() {
        let durations = Durations::new(1000, 3);
        for us in [0, 1000, 1001, 4000, 4001, 1_000_000] {
            durations.observe(Duration::from_micros(us));
        }
        let (bounds, count, sum) = durations.read();
        assert_eq!((bounds, count), (vec![(0.001, 2), (0.002, 3), (0.004, 4)], 6));
        assert!((sum - 1.010_002).abs() < 1e-9, "{sum}");
    }
}
