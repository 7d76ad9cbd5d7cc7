//! A token bucket as a value: callers pass the time (client-go/util/flowcontrol).

use std::time::Duration;

use tokio::time::Instant;

/// `burst` tokens at most, refilled at `rate` tokens a second. A rate of zero never refills.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    rate: f64,
    burst: f64,
    tokens: f64,
    updated: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub fn new(rate: f64, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst);
        Self { rate, burst, tokens: burst, updated: now }
    }

    /// Changes the rate, keeping the tokens that are there.
    pub fn set_rate(&mut self, rate: f64, now: Instant) {
        self.refill(now);
        self.rate = rate;
    }

    /// Takes one token if there is one.
    pub fn try_take(&mut self, now: Instant) -> bool {
        self.refill(now);
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }

    /// Takes one token, on credit if need be, and returns how long the caller has to wait for it.
    pub fn reserve(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= 1.0;
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64((-self.tokens / self.rate).min(3600.0)) }
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.tokens = (self.tokens + elapsed * self.rate).min(self.burst);
        self.updated = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn spends_the_burst_then_the_rate() {
        let start = base::clock::monotonic();
        let mut bucket = TokenBucket::new(2.0, 3, start);
        let taken: Vec<bool> = (0..4).map(|_| bucket.try_take(start)).collect();
        assert_eq!(taken, [true, true, true, false]);
        assert!(bucket.try_take(start + Duration::from_millis(500)));
        assert_eq!(bucket.reserve(start + Duration::from_millis(500)), Duration::from_millis(500));
        assert_eq!(bucket.reserve(start + Duration::from_millis(500)), Duration::from_millis(1000));
    }
}
