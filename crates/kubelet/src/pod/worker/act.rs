//! Carries a plan out: volumes, sandbox, stops and starts, in upstream's order (SyncPod).

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::Pod;
use client::EventType;
use futures::future::join_all;

use super::super::images::Failure;
use super::super::plan::{Plan, plan};
use super::super::start::{self, Place};
use super::super::{Slot, container_at, described, kill, spec, uid};
use super::{Next, RETRY, SHORT_RETRY, Worker, ended_ms};
use crate::runtime::{RuntimePod, State};
use crate::volumes;

impl Worker {
    /// One round: what the plan says, then when to look again.
    pub(super) async fn act(&mut self, pod: &Arc<Pod>, runtime: &Arc<RuntimePod>) -> Next {
        let plan = plan(pod, runtime, &self.shared.probe_results());
        if let Err(next) = self.prepare(pod).await {
            return next;
        }
        if plan.kill_pod && (runtime.has_running() || runtime.ready_sandbox().is_some()) {
            if let Err(cause) = kill::pod(&self.context, pod, runtime, kill::pod_grace(pod)).await {
                self.context.event(pod, None, EventType::Warning, "FailedKillPod", format!("error killing pod: {cause}"));
                return Next::Wait(SHORT_RETRY);
            }
            if plan.create_sandbox.is_none() {
                return Next::Again;
            }
        }
        self.kill_some(pod, runtime, &plan).await;
        if plan.start.is_empty() && plan.create_sandbox.is_none() {
            return if plan.kill.is_empty() { Next::Wait(self.resync_after()) } else { Next::Again };
        }
        self.start_some(pod, runtime, &plan).await
    }

    /// A minute, spread a little so that a node's pods do not look all at once.
    fn resync_after(&self) -> Duration {
        self.context.settings.sync_frequency.mul_f64(1.0 + 0.5 * rand::random::<f64>())
    }

    /// Folders, cgroup and volumes of the pod; also brings changed config maps and renewed tokens to its volumes.
    async fn prepare(&mut self, pod: &Arc<Pod>) -> Result<(), Next> {
        if let Err(cause) = start::make_pod_dirs(&self.context, pod) {
            tracing::warn!(pod = described(pod), cause, "the pod's folders cannot be made");
            self.context.event(pod, None, EventType::Warning, "Failed", format!("error: {cause}"));
            return Err(Next::Wait(RETRY));
        }
        if let Err(cause) = crate::cgroups::ensure_pod(&self.context.settings, pod) {
            tracing::warn!(pod = described(pod), cause, "the pod's cgroup cannot be made");
            let note = format!("unable to ensure pod container exists: {cause}");
            self.context.event(pod, None, EventType::Warning, "FailedCreatePodContainer", note);
            return Err(Next::Wait(RETRY));
        }
        match volumes::set_up(&self.context, pod).await {
            Ok(mounted) => {
                self.mounted = mounted;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(pod = described(pod), volume = error.volume, cause = error.cause, "a volume cannot be set up");
                let note = format!("MountVolume.SetUp failed for volume {:?} : {}", error.volume, error.cause);
                self.context.event(pod, None, EventType::Warning, "FailedMount", note);
                Err(Next::Wait(SHORT_RETRY))
            }
        }
    }

    async fn kill_some(&mut self, pod: &Pod, runtime: &RuntimePod, plan: &Plan) {
        let ip = runtime.sandboxes.first().and_then(|sandbox| sandbox.ips.first()).cloned().unwrap_or_default();
        let kills = plan.kill.iter().filter_map(|kill| {
            let record = runtime.containers.iter().find(|record| record.id == kill.id)?;
            Some((kill, record))
        });
        let stops = kills.map(|(kill, record)| {
            let grace = kill.grace_seconds.unwrap_or_else(|| kill::pod_grace(pod));
            kill::container(&self.context, pod, &ip, record, &kill.message, grace)
        });
        for cause in join_all(stops).await.into_iter().filter_map(Result::err) {
            tracing::warn!(pod = described(pod), cause, "a container cannot be stopped");
        }
    }

    async fn start_some(&mut self, pod: &Arc<Pod>, runtime: &Arc<RuntimePod>, plan: &Plan) -> Next {
        let attempt = plan.create_sandbox.or_else(|| runtime.sandboxes.first().map(|sandbox| sandbox.attempt)).unwrap_or(0);
        let sandbox_config = match start::sandbox(&self.context, pod, attempt) {
            Ok(config) => config,
            Err(cause) => return self.sandbox_failed(pod, &cause),
        };
        let (sandbox_id, pod_ips) = match (&plan.create_sandbox, &plan.sandbox_id) {
            (None, Some(id)) => {
                let ips = runtime.sandboxes.iter().find(|sandbox| sandbox.id == *id).map(|sandbox| sandbox.ips.clone());
                (id.clone(), ips.unwrap_or_default())
            }
            _ => match self.make_sandbox(pod, &sandbox_config).await {
                Ok(made) => made,
                Err(cause) => return self.sandbox_failed(pod, &cause),
            },
        };
        // What stopped just now must be seen, or its restart would take its old state for a fresh failure.
        let runtime = if plan.kill.is_empty() {
            runtime.clone()
        } else {
            match self.inspect(pod).await {
                Ok(runtime) => runtime,
                Err(next) => return next,
            }
        };
        let mut wait: Option<Duration> = None;
        let mut started = false;
        for slot in &plan.start {
            let mounted = self.mounted.clone();
            let place =
                Place { sandbox_id: &sandbox_id, sandbox_config: &sandbox_config, pod_ips: &pod_ips, mounted: &mounted, runtime: &runtime };
            match self.start_one(pod, *slot, &place).await {
                Ok(()) => started = true,
                Err(delay) => wait = Some(wait.map_or(delay, |wait| wait.min(delay))),
            }
        }
        if started || wait.is_none() {
            return Next::Again;
        }
        self.publish(pod, &runtime);
        Next::Wait(wait.unwrap_or(RETRY))
    }

    fn sandbox_failed(&self, pod: &Pod, cause: &str) -> Next {
        tracing::warn!(pod = described(pod), cause, "the pod's sandbox cannot be made");
        self.context.event(pod, None, EventType::Warning, "FailedCreatePodSandBox", format!("Failed to create pod sandbox: {cause}"));
        Next::Wait(SHORT_RETRY)
    }

    /// The sandbox's id and addresses.
    async fn make_sandbox(&self, pod: &Pod, config: &k8s_cri::v1::PodSandboxConfig) -> Result<(String, Vec<String>), String> {
        let handler = match spec(pod).runtime_class_name.as_deref().filter(|name| !name.is_empty()) {
            None => String::new(),
            Some(name) => self.context.objects.runtime_class(name).await.map_err(|error| error.to_string())?.handler,
        };
        let id = self.context.cri.run_sandbox(config.clone(), handler).await.map_err(|error| error.to_string())?;
        let status = self.context.cri.sandbox_status(&id).await.map_err(|error| error.to_string())?;
        let status = status.ok_or_else(|| format!("sandbox {id} vanished after its start"))?;
        Ok((id, crate::runtime::SandboxRecord::from_status(status).ips))
    }

    /// Starts a container unless it must still wait; the error is when to try again.
    async fn start_one(&mut self, pod: &Arc<Pod>, slot: Slot, place: &Place<'_>) -> Result<(), Duration> {
        let Some((container, field)) = container_at(pod, slot) else { return Ok(()) };
        let last = place.runtime.containers.iter().find(|record| record.name == container.name && record.state == State::Exited);
        let key = format!("{}_{}_{}", uid(pod), container.name, container.image.as_deref().unwrap_or_default());
        if let Some(last) = last
            && let Some((delay, left)) = self.backoff.wait(&key, ended_ms(last), base::clock::unix_ms())
        {
            let note = format!("Back-off restarting failed container {} in pod {}", container.name, described(pod));
            self.context.event(pod, Some(&field), EventType::Warning, "BackOff", note);
            let message =
                format!("back-off {} restarting failed container={} pod={}", base::duration::format(delay), container.name, described(pod));
            self.reasons.insert(container.name, ("CrashLoopBackOff".into(), message));
            return Err(left + Duration::from_millis(10));
        }
        match start::container(&self.context, pod, slot, place).await {
            Ok(()) => {
                self.reasons.remove(&container.name);
                Ok(())
            }
            Err(Failure { reason, message }) => {
                tracing::warn!(pod = described(pod), container = container.name, reason, message, "the container does not start");
                self.reasons.insert(container.name, (reason.to_owned(), message));
                Err(match reason {
                    "ErrImagePull" | "PostStartHookError" => SHORT_RETRY,
                    _ => RETRY,
                })
            }
        }
    }
}
