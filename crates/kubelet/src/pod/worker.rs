//! The worker of one pod: looks, decides (`plan`, `status`), acts, and waits for the next reason to look. Its states are upstream's
//! (pkg/kubelet/pod_workers.go): syncing, terminating, terminated, and finished until the API object goes.

mod act;

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};

use super::container_status::{Input, Reasons};
use super::restart::{INITIAL_BACKOFF, RestartBackoff};
use super::status::{NodeView, Verdict, generate};
use super::{described, from_nanos, is_terminal_phase, kill, uid};
use crate::context::Context;
use crate::probes::{Prober, Results};
use crate::runtime::{self, RuntimePod, State};
use crate::volumes::Mounted;

/// The wait after something failed that has no delay of its own (upstream's backOffPeriod).
const RETRY: Duration = Duration::from_secs(10);
/// The wait after a failed pull, to show the backoff, and after a failed stop.
const SHORT_RETRY: Duration = Duration::from_secs(2);

/// What others want of the pod.
#[derive(Clone)]
pub struct Desired {
    pub pod: Arc<Pod>,
    /// The API (or the manifest folder) does not have the pod any more.
    pub removed: bool,
    /// Stop it with this phase, reason and message; the grace period in seconds, if not the pod's own.
    pub verdict: Option<(Verdict, Option<i64>)>,
}

/// What a worker shares with the rest of the kubelet.
pub struct Shared {
    desired: Mutex<Desired>,
    wake: Notify,
    urgent: watch::Sender<u64>,
    runtime: RwLock<Arc<RuntimePod>>,
    probes: Mutex<Results>,
}

impl Shared {
    pub fn new(pod: Arc<Pod>, removed: bool) -> Arc<Self> {
        Arc::new(Self {
            desired: Mutex::new(Desired { pod, removed, verdict: None }),
            wake: Notify::new(),
            urgent: watch::Sender::new(0),
            runtime: RwLock::default(),
            probes: Mutex::default(),
        })
    }

    pub fn pod(&self) -> Arc<Pod> {
        self.desired.lock().pod.clone()
    }

    pub fn desired(&self) -> Desired {
        self.desired.lock().clone()
    }

    /// What the runtime held when the worker last looked.
    pub fn runtime(&self) -> Arc<RuntimePod> {
        self.runtime.read().clone()
    }

    /// Look again soon.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// A newer version of the pod. A change that ends or shortens its life interrupts what the worker does.
    pub fn update(&self, pod: Arc<Pod>) {
        let (urgent, changed) = {
            let mut desired = self.desired.lock();
            let ending = |pod: &Pod| (pod.metadata.deletion_timestamp.is_some(), pod.metadata.deletion_grace_period_seconds);
            let urgent = ending(&desired.pod) != ending(&pod);
            let changed = desired.pod.spec != pod.spec
                || desired.pod.metadata.labels != pod.metadata.labels
                || desired.pod.metadata.annotations != pod.metadata.annotations
                || gates(&desired.pod) != gates(&pod);
            desired.pod = pod;
            (urgent, changed)
        };
        if urgent {
            self.interrupt();
        } else if changed {
            self.wake();
        }
    }

    pub fn remove(&self) {
        self.desired.lock().removed = true;
        self.interrupt();
    }

    pub fn stop_with(&self, verdict: Verdict, grace: Option<i64>) {
        let first = {
            let mut desired = self.desired.lock();
            let first = desired.verdict.is_none();
            desired.verdict.get_or_insert((verdict, grace));
            first
        };
        if first {
            self.interrupt();
        }
    }

    fn interrupt(&self) {
        self.urgent.send_modify(|count| *count += 1);
    }

    pub fn probe_results(&self) -> Results {
        self.probes.lock().clone()
    }

    /// Changes the probes' verdicts and has the worker look.
    pub fn set_probe(&self, change: impl FnOnce(&mut Results)) {
        let changed = {
            let mut results = self.probes.lock();
            let before = results.clone();
            change(&mut results);
            *results != before
        };
        if changed {
            self.wake();
        }
    }
}

/// Conditions that readiness gates look at.
fn gates(pod: &Pod) -> Vec<(&str, &str)> {
    let gates = super::spec(pod).readiness_gates.as_deref().unwrap_or_default();
    let conditions = super::api_status(pod).conditions.as_deref().unwrap_or_default();
    let shown =
        |type_: &str| conditions.iter().find(|condition| condition.type_ == type_).map_or("", |condition| condition.status.as_str());
    gates.iter().map(|gate| (gate.condition_type.as_str(), shown(&gate.condition_type))).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Syncing,
    Terminating,
    Terminated,
    /// Nothing runs; only the API object's deletion is awaited.
    Finished,
}

/// What to do after a step.
enum Next {
    Again,
    Wait(Duration),
    Done,
}

pub struct Worker {
    context: Arc<Context>,
    shared: Arc<Shared>,
    phase: Phase,
    reasons: Reasons,
    backoff: RestartBackoff,
    prober: Prober,
    mounted: Mounted,
    /// Shown with a deleted pod's containers: all have ended.
    terminal: bool,
    verdict: Option<Verdict>,
}

impl Worker {
    pub fn new(context: Arc<Context>, shared: Arc<Shared>) -> Self {
        let backoff = RestartBackoff::new(INITIAL_BACKOFF.min(context.settings.max_restart_backoff), context.settings.max_restart_backoff);
        let prober = Prober::new(context.clone(), shared.clone());
        Self {
            context,
            shared,
            phase: Phase::Syncing,
            reasons: Reasons::new(),
            backoff,
            prober,
            mounted: Mounted::default(),
            terminal: false,
            verdict: None,
        }
    }

    /// Runs until nothing is left of the pod, here and in the API.
    pub async fn run(mut self) {
        let mut urgent = self.shared.urgent.subscribe();
        loop {
            urgent.borrow_and_update();
            // Once nothing runs there is nothing left to hurry: removals go through.
            let hurried = !matches!(self.phase, Phase::Terminated);
            let next = tokio::select! {
                next = self.step() => next,
                _ = urgent.changed(), if hurried => continue,
            };
            match next {
                Next::Again => {}
                Next::Done => return,
                Next::Wait(delay) => tokio::select! {
                    () = self.shared.wake.notified() => {}
                    _ = urgent.changed() => {}
                    () = tokio::time::sleep(delay) => {}
                },
            }
        }
    }

    async fn step(&mut self) -> Next {
        let desired = self.shared.desired();
        let pod = &desired.pod;
        if self.phase == Phase::Syncing && self.must_stop(&desired) {
            self.phase = Phase::Terminating;
        }
        match self.phase {
            Phase::Syncing => self.sync(pod).await,
            Phase::Terminating => self.terminate(&desired).await,
            Phase::Terminated => self.clean_up(&desired).await,
            Phase::Finished if desired.removed || pod.metadata.deletion_timestamp.is_some() => {
                self.phase = Phase::Terminated;
                Next::Again
            }
            Phase::Finished => Next::Wait(Duration::from_secs(3600)),
        }
    }

    fn must_stop(&mut self, desired: &Desired) -> bool {
        if let Some((verdict, _)) = &desired.verdict {
            self.verdict = Some(verdict.clone());
            return true;
        }
        let phase = super::api_status(&desired.pod).phase.as_deref();
        let over = is_terminal_phase(phase) && !super::is_static(&desired.pod);
        desired.removed || desired.pod.metadata.deletion_timestamp.is_some() || over
    }

    /// Asks the runtime what there is of the pod.
    async fn inspect(&mut self, pod: &Pod) -> Result<Arc<RuntimePod>, Next> {
        let known = self.shared.runtime();
        match runtime::inspect(&self.context.cri, uid(pod), &known).await {
            Ok(mut fresh) => {
                for record in &mut fresh.containers {
                    let already = known.containers.iter().any(|old| old.id == record.id && old.state == State::Exited);
                    if record.state == State::Exited && !already {
                        add_last_words(record);
                    }
                }
                let fresh = Arc::new(fresh);
                *self.shared.runtime.write() = fresh.clone();
                Ok(fresh)
            }
            Err(error) => {
                tracing::warn!(pod = described(pod), %error, "the runtime does not tell the pod's state");
                Err(Next::Wait(SHORT_RETRY))
            }
        }
    }

    /// Computes the status and hands it on; returns its phase.
    fn publish(&self, pod: &Arc<Pod>, runtime: &RuntimePod) -> String {
        let probes = self.shared.probe_results();
        // Our own latest word is newer than the informer's copy: transition times and restart counts follow it.
        let mut newest = pod.clone();
        if let Some(latest) = self.context.statuses.get(uid(pod)) {
            let conditions = foreign_conditions(pod, latest.conditions.clone().unwrap_or_default());
            Arc::make_mut(&mut newest).status = Some(api::core::v1::PodStatus { conditions: Some(conditions), ..latest });
        }
        let input = Input {
            pod: &newest,
            runtime,
            reasons: &self.reasons,
            probes: &probes,
            runtime_name: &self.context.cri.version().name,
            terminal: self.terminal,
        };
        let host_ips = self.context.machine.read().addresses.clone();
        let node = NodeView { host_ips: &host_ips, now: super::api_now() };
        let status = generate(&input, self.verdict.as_ref(), &node);
        let phase = status.phase.clone().unwrap_or_default();
        self.context.statuses.set(pod, status);
        phase
    }

    async fn sync(&mut self, pod: &Arc<Pod>) -> Next {
        let runtime = match self.inspect(pod).await {
            Ok(runtime) => runtime,
            Err(next) => return next,
        };
        self.prober.sync(pod, &runtime);
        let phase = self.publish(pod, &runtime);
        if is_terminal_phase(Some(&phase)) {
            self.phase = Phase::Terminating;
            return Next::Again;
        }
        let left = match deadline_left(pod, base::clock::now()) {
            Some(left) if left.is_zero() => {
                let message = "Pod was active on the node longer than the specified deadline".to_owned();
                self.context.event(pod, None, client::EventType::Normal, "DeadlineExceeded", message.clone());
                self.verdict = Some(Verdict { phase: "Failed", reason: "DeadlineExceeded".into(), message });
                self.phase = Phase::Terminating;
                return Next::Again;
            }
            left => left,
        };
        let next = self.act(pod, &runtime).await;
        match (next, left) {
            (Next::Wait(delay), Some(left)) => Next::Wait(delay.min(left)),
            (next, _) => next,
        }
    }

    async fn terminate(&mut self, desired: &Desired) -> Next {
        let pod = &desired.pod;
        self.prober.stop();
        let runtime = match self.inspect(pod).await {
            Ok(runtime) => runtime,
            Err(next) => return next,
        };
        if !desired.removed {
            self.publish(pod, &runtime);
        }
        let grace = match &desired.verdict {
            Some((_, Some(grace))) => *grace,
            _ if pod.spec.is_none() => kill::recorded_grace(&runtime),
            _ => kill::pod_grace(pod),
        };
        if let Err(cause) = kill::pod(&self.context, pod, &runtime, grace).await {
            tracing::warn!(pod = described(pod), cause, "the pod cannot be stopped, trying again");
            self.context.event(pod, None, client::EventType::Warning, "FailedKillPod", format!("error killing pod: {cause}"));
            return Next::Wait(SHORT_RETRY);
        }
        let runtime = match self.inspect(pod).await {
            Ok(runtime) if runtime.has_running() => return Next::Wait(SHORT_RETRY),
            Ok(runtime) => runtime,
            Err(next) => return next,
        };
        self.terminal = true;
        if !desired.removed {
            self.publish(pod, &runtime);
        }
        self.phase = Phase::Terminated;
        Next::Again
    }

    /// Nothing runs: volumes and cgroups go, then the API object, then what the runtime still keeps.
    async fn clean_up(&mut self, desired: &Desired) -> Next {
        let pod = &desired.pod;
        if let Err(cause) = crate::volumes::tear_down(&self.context.settings.root_dir, uid(pod)).await {
            tracing::warn!(pod = described(pod), cause, "the pod's volumes cannot be taken down, trying again");
            return Next::Wait(SHORT_RETRY);
        }
        self.context.tokens.forget(uid(pod));
        crate::cgroups::remove_pod(&self.context.settings, pod);
        let deleted = pod.metadata.deletion_timestamp.is_some();
        if !desired.removed
            && let Err(error) = self.finish_in_api(pod, deleted).await
        {
            tracing::warn!(pod = described(pod), error = crate::objects::api_text(&error), "the pod's end cannot be written, trying again");
            return Next::Wait(SHORT_RETRY);
        }
        if !desired.removed && !deleted {
            self.phase = Phase::Finished;
            return Next::Again;
        }
        if let Err(error) = self.remove_from_runtime().await {
            tracing::warn!(pod = described(pod), %error, "the pod's containers cannot be removed, trying again");
            return Next::Wait(SHORT_RETRY);
        }
        remove_dirs(&self.context, pod);
        self.context.statuses.forget(uid(pod));
        let of_pod = format!("pod_uid=\"{}\"", uid(pod));
        self.context.probe_totals.lock().retain(|labels, _| !labels.contains(&of_pod));
        Next::Done
    }

    async fn finish_in_api(&self, pod: &Pod, deleted: bool) -> Result<(), kube::Error> {
        if super::is_static(pod) {
            return Ok(());
        }
        self.context.statuses.write(uid(pod)).await?;
        if deleted { self.context.statuses.delete(pod).await } else { Ok(()) }
    }

    async fn remove_from_runtime(&self) -> Result<(), runtime::CriError> {
        let runtime = self.shared.runtime();
        for record in &runtime.containers {
            self.context.cri.remove_container(&record.id).await?;
        }
        for sandbox in &runtime.sandboxes {
            self.context.cri.remove_sandbox(&sandbox.id).await?;
        }
        Ok(())
    }
}

/// Our own conditions from `latest`, everybody else's from the API.
fn foreign_conditions(pod: &Pod, latest: Vec<api::core::v1::PodCondition>) -> Vec<api::core::v1::PodCondition> {
    let owned = |type_: &str| super::status::OWNED.contains(&type_);
    let theirs = super::api_status(pod).conditions.iter().flatten().filter(|condition| !owned(&condition.type_)).cloned();
    latest.into_iter().filter(|condition| owned(&condition.type_)).chain(theirs).collect()
}

/// An exited container's message, its own words included (kuberuntime_container.go: getTerminationMessage's use).
fn add_last_words(record: &mut runtime::ContainerRecord) {
    let words = super::container_config::termination_message(&record.annotations, &record.mounts, record.exit_code, &record.log_path);
    if words.is_empty() {
        return;
    }
    record.message = if record.message.is_empty() { words } else { format!("{}: {words}", record.message) };
}

/// Time left of activeDeadlineSeconds; zero when it is over, `None` without a deadline.
fn deadline_left(pod: &Pod, now: jiff::Timestamp) -> Option<Duration> {
    let seconds = super::spec(pod).active_deadline_seconds?;
    let start = super::api_status(pod).start_time.as_ref()?.0;
    let end = start.as_second().saturating_add(seconds);
    Some(Duration::from_secs(u64::try_from(end - now.as_second()).unwrap_or(0)))
}

fn remove_dirs(context: &Context, pod: &Pod) {
    let logs = super::sandbox_config::log_directory(&context.settings.pod_logs_dir, pod);
    for folder in [crate::paths::pod(&context.settings.root_dir, uid(pod)), logs] {
        match std::fs::remove_dir_all(&folder) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(folder = %folder.display(), %error, "a pod's folder cannot be removed"),
        }
    }
}

/// When a container's last run ended, for its backoff; a container that never ran failed when it was made.
fn ended_ms(record: &runtime::ContainerRecord) -> i64 {
    from_nanos(if record.finished_ns > 0 { record.finished_ns } else { record.created_ns }).map_or(0, |time| time.0.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn deadlines() {
        let now = jiff::Timestamp::from_second(1000).unwrap();
        let check = |spec: serde_json::Value, expected: Option<u64>| {
            let pod: Pod = serde_json::from_value(json!({"spec": spec, "status": {"startTime": "1970-01-01T00:15:00Z"}})).unwrap();
            assert_eq!(deadline_left(&pod, now).map(|left| left.as_secs()), expected);
        };
        check(json!({"containers": []}), None);
        check(json!({"containers": [], "activeDeadlineSeconds": 150}), Some(50));
        check(json!({"containers": [], "activeDeadlineSeconds": 50}), Some(0));
    }

    #[test]
    fn only_real_changes_wake_and_deletions_interrupt() {
        let make = |value: serde_json::Value| -> Arc<Pod> { Arc::new(serde_json::from_value(value).unwrap()) };
        let shared = Shared::new(make(json!({"spec": {"containers": []}})), false);
        let mut urgent = shared.urgent.subscribe();
        shared.update(make(json!({"spec": {"containers": []}, "status": {"phase": "Running"}})));
        assert!(!urgent.has_changed().unwrap());
        shared.update(make(
            json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 3}, "spec": {"containers": []}}),
        ));
        assert!(urgent.has_changed().unwrap());
        urgent.borrow_and_update();
        shared.update(make(
            json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}, "spec": {"containers": []}}),
        ));
        assert!(urgent.has_changed().unwrap());
    }
}
