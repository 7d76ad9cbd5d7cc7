//! Whether a container that is not running is started again, and how long it waits for that. Pure.

use std::collections::HashMap;
use std::time::Duration;

use api::core::v1::{Container, Pod};

use super::{is_sidecar, spec};
use crate::runtime::{ContainerRecord, State};

/// First delay of CrashLoopBackOff (pkg/kubelet: backOffPeriod).
pub const INITIAL_BACKOFF: Duration = Duration::from_secs(10);
/// Longest delay of CrashLoopBackOff (MaxContainerBackOff).
pub const MAX_BACKOFF: Duration = Duration::from_secs(300);

/// The policy of one container: sidecars always restart, others may override the pod's (KEP-5307).
pub fn policy<'a>(pod: &'a Pod, container: &'a Container) -> &'a str {
    if is_sidecar(container) && container.restart_policy_rules.is_none() {
        return "Always";
    }
    container.restart_policy.as_deref().or(spec(pod).restart_policy.as_deref()).unwrap_or("Always")
}

/// Whether an exit with `code` is followed by a restart.
pub fn restarts_after(pod: &Pod, container: &Container, code: i32) -> bool {
    for rule in container.restart_policy_rules.as_deref().unwrap_or_default() {
        let Some(codes) = &rule.exit_codes else { continue };
        let listed = codes.values.as_deref().unwrap_or_default().contains(&code);
        if listed == (codes.operator == "In") && rule.action == "Restart" {
            return true;
        }
    }
    match policy(pod, container) {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// Upstream's ShouldContainerBeRestarted (pkg/kubelet/container/helpers.go).
pub fn should_start(pod: &Pod, container: &Container, record: Option<&ContainerRecord>) -> bool {
    if pod.metadata.deletion_timestamp.is_some() {
        return false;
    }
    match record.map(|record| record.state) {
        None | Some(State::Unknown | State::Created) => true,
        Some(State::Running) => false,
        Some(State::Exited) => restarts_after(pod, container, record.map_or(0, |record| record.exit_code)),
    }
}

/// Delays between starts of the containers of one pod, as client-go's flowcontrol.Backoff counts them: a delay doubles with each failure
/// and is forgotten after twice the longest delay without one.
#[derive(Debug)]
pub struct RestartBackoff {
    initial: Duration,
    max: Duration,
    entries: HashMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    delay: Duration,
    updated_ms: i64,
}

impl RestartBackoff {
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, entries: HashMap::new() }
    }

    /// How long `key` must still wait when it failed at `failed_ms`; `None` when it may start, and the next delay is then longer.
    pub fn wait(&mut self, key: &str, failed_ms: i64, now_ms: i64) -> Option<(Duration, Duration)> {
        if let Some(entry) = self.entries.get(key) {
            let expired = now_ms - failed_ms > as_ms(self.max) * 2;
            let since = now_ms - failed_ms;
            if !expired && since < as_ms(entry.delay) {
                let left = u64::try_from(as_ms(entry.delay) - since).unwrap_or(0);
                return Some((entry.delay, Duration::from_millis(left)));
            }
        }
        self.failed(key, failed_ms, now_ms);
        None
    }

    /// Counts a failure of `key`, whose last success ended at `event_ms`.
    pub fn failed(&mut self, key: &str, event_ms: i64, now_ms: i64) {
        let (initial, max) = (self.initial, self.max);
        let entry = self.entries.entry(key.to_owned()).or_insert(Entry { delay: Duration::ZERO, updated_ms: now_ms });
        let stale = event_ms - entry.updated_ms > as_ms(max) * 2;
        entry.delay = if entry.delay.is_zero() || stale { initial } else { (entry.delay * 2).min(max) };
        entry.updated_ms = now_ms;
    }

    /// How long `key` must still wait, counted from its last failure; it does not count as a new one.
    pub fn left_since_update(&self, key: &str, now_ms: i64) -> Option<Duration> {
        let entry = self.entries.get(key)?;
        let left = as_ms(entry.delay) - (now_ms - entry.updated_ms);
        u64::try_from(left).ok().filter(|left| *left > 0).map(Duration::from_millis)
    }

    pub fn forget(&mut self, key: &str) {
        self.entries.remove(key);
    }

    /// The delay that holds now, for messages.
    pub fn current(&self, key: &str) -> Option<Duration> {
        self.entries.get(key).map(|entry| entry.delay)
    }
}

fn as_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_to_the_maximum() {
        let mut backoff = RestartBackoff::new(INITIAL_BACKOFF, MAX_BACKOFF);
        let mut now = 1_000_000;
        assert_eq!(backoff.wait("a", now, now), None);
        let mut seen = Vec::new();
        for _ in 0..7 {
            let (delay, left) = backoff.wait("a", now, now).expect("it failed just now");
            assert_eq!(delay, left);
            seen.push(delay.as_secs());
            now += as_ms(delay);
            assert_eq!(backoff.wait("a", now - as_ms(delay), now), None);
        }
        assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_long_run_resets_the_delay() {
        let mut backoff = RestartBackoff::new(INITIAL_BACKOFF, MAX_BACKOFF);
        assert_eq!(backoff.wait("a", 0, 0), None);
        assert_eq!(backoff.wait("a", 0, 20_000), None);
        assert_eq!(backoff.current("a"), Some(Duration::from_secs(20)));
        let later = 20_000 + 700_000;
        assert!(backoff.wait("a", later, later).is_some());
        assert_eq!(backoff.wait("a", later, later + 20_000), None);
        assert_eq!(backoff.current("a"), Some(Duration::from_secs(10)));
    }

    #[test]
    fn policies() {
        let check = |pod_policy: &str, code: i32, expected: bool| {
            let mut pod = Pod { spec: Some(api::core::v1::PodSpec::default()), ..Pod::default() };
            pod.spec.as_mut().unwrap().restart_policy = Some(pod_policy.into());
            assert_eq!(restarts_after(&pod, &Container::default(), code), expected, "{pod_policy} {code}");
        };
        check("Always", 0, true);
        check("OnFailure", 0, false);
        check("OnFailure", 1, true);
        check("Never", 1, false);
    }
}
