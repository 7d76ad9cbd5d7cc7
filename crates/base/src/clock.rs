//! The only place that reads the machine's clocks. Must never sleep: use `tokio::time`, which tests can pause.

/// The wall clock, for what is written into objects (UTC).
#[allow(clippy::disallowed_methods)]
pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// The monotonic clock, for durations. Under `tokio::time::pause` it stands still with the test.
pub fn monotonic() -> tokio::time::Instant {
    tokio::time::Instant::now()
}

/// Wall-clock milliseconds since the Unix epoch.
pub fn unix_ms() -> i64 {
    now().as_millisecond()
}
