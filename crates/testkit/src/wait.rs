//! Waiting for a state with a limit, for tests against real processes. A wait that runs out says what was last seen.

use std::time::Duration;

use anyhow::{Context, Result};

/// Calls `check` every 100 ms until it is `Ok`; after `limit` its last error is the error.
pub fn until<T>(limit: Duration, what: &str, mut check: impl FnMut() -> Result<T>) -> Result<T> {
    let started = now();
    loop {
        match check() {
            Ok(value) => return Ok(value),
            Err(error) if started.elapsed() > limit => {
                return Err(error).with_context(|| format!("{what}: not so after {} s", limit.as_secs()));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

#[allow(clippy::disallowed_methods)]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
