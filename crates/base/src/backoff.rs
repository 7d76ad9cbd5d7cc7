//! Exponential backoff with jitter, as a value: it only computes delays.

use std::time::Duration;

/// Delays that grow by `factor` from `initial` up to `max`, each stretched by a random share of up to `jitter`.
#[derive(Clone, Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    factor: f64,
    jitter: f64,
    current: Duration,
}

impl Backoff {
    /// Doubles from `initial` to `max` without jitter.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, factor: 2.0, jitter: 0.0, current: initial }
    }

    /// Stretches each delay by a random share between 0 and `jitter` (0.2 is 20 %).
    pub fn with_jitter(mut self, jitter: f64) -> Self {
        self.jitter = jitter;
        self
    }

    /// Multiplies by `factor` at each step; 2.0 unless told.
    pub fn with_factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// The next delay. Grows until `reset`.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.current.min(self.max);
        self.current = self.current.mul_f64(self.factor).min(self.max);
        if self.jitter > 0.0 { delay.mul_f64(1.0 + self.jitter * rand::random::<f64>()) } else { delay }
    }

    /// Starts again from the initial delay.
    pub fn reset(&mut self) {
        self.current = self.initial;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_maximum_and_resets() {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(60));
        let delays: Vec<u64> = (0..5).map(|_| backoff.next_delay().as_secs()).collect();
        assert_eq!(delays, [10, 20, 40, 60, 60]);
        backoff.reset();
        assert_eq!(backoff.next_delay().as_secs(), 10);
    }

    #[test]
    fn jitter_only_stretches() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1)).with_jitter(0.5);
        for _ in 0..100 {
            let delay = backoff.next_delay();
            assert!(delay >= Duration::from_secs(1) && delay <= Duration::from_millis(1500), "{delay:?}");
        }
    }
}
