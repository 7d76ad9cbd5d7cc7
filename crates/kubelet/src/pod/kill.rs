//! Stopping containers: hooks first, then the signal and the grace period; sidecars after the main containers, in reverse order.

use std::time::Duration;

use api::core::v1::{ContainerPort, LifecycleHandler, Pod};
use client::EventType;
use futures::future::join_all;

use super::{hooks, init_containers, is_sidecar, slots, spec};
use crate::context::Context;
use crate::runtime::{ContainerRecord, RuntimePod, labels};

/// A container gets at least so long after its preStop hook took the whole grace period (kuberuntime_container.go).
const MINIMUM_GRACE: i64 = 2;

/// The pod's grace period in seconds: what its deletion said, else its spec.
pub fn pod_grace(pod: &Pod) -> i64 {
    if pod.metadata.deletion_timestamp.is_some()
        && let Some(seconds) = pod.metadata.deletion_grace_period_seconds
    {
        return seconds;
    }
    spec(pod).termination_grace_period_seconds.unwrap_or(30)
}

/// The grace period that the containers of a pod without a spec were started with.
pub fn recorded_grace(runtime: &RuntimePod) -> i64 {
    let recorded = |record: &ContainerRecord| record.annotations.get(labels::GRACE_PERIOD)?.parse().ok();
    runtime.containers.iter().filter_map(recorded).max().unwrap_or(30)
}

/// Stops one container. `message` empty: upstream's plain text.
pub async fn container(context: &Context, pod: &Pod, ip: &str, record: &ContainerRecord, message: &str, grace: i64) -> Result<(), String> {
    let field = super::find_container(pod, &record.name).map(|(_, _, field)| field);
    let note = if message.is_empty() { format!("Stopping container {}", record.name) } else { message.to_owned() };
    context.event(pod, field.as_deref(), EventType::Normal, "Killing", note);
    let started = base::clock::monotonic();
    if grace > 0 {
        pre_stop(context, pod, field.as_deref(), ip, record, grace).await;
    }
    let used = i64::try_from(started.elapsed().as_secs()).unwrap_or(grace);
    // The hook and the signal share the grace period.
    let left = if grace > 0 { (grace - used).max(MINIMUM_GRACE.min(grace)) } else { 0 };
    context.cri.stop_container(&record.id, left).await.map_err(|error| error.to_string())
}

/// Runs the hook that the container was started with; a failure is an event, the stop goes on.
async fn pre_stop(context: &Context, pod: &Pod, field: Option<&str>, ip: &str, record: &ContainerRecord, grace: i64) {
    let Some(text) = record.annotations.get(labels::PRE_STOP) else { return };
    let Ok(handler) = serde_json::from_str::<LifecycleHandler>(text) else {
        tracing::warn!(container = record.id, "the container's preStop annotation is not a lifecycle handler");
        return;
    };
    let ports: Vec<ContainerPort> =
        record.annotations.get(labels::PORTS).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
    match tokio::time::timeout(limit, hooks::run(&context.cri, &handler, &record.id, ip, &ports)).await {
        Ok(Ok(())) => {}
        Ok(Err(cause)) => {
            tracing::warn!(pod = super::described(pod), container = record.name, cause, "the preStop hook failed");
            context.event(pod, field, EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
        }
        Err(_) => tracing::warn!(pod = super::described(pod), container = record.name, "the preStop hook outlived the grace period"),
    }
}

/// Stops every container of the pod, then its sandboxes. The error is the first failure; what could be stopped is.
pub async fn pod(context: &Context, pod: &Pod, runtime: &RuntimePod, grace: i64) -> Result<(), String> {
    let ip = runtime.sandboxes.first().and_then(|sandbox| sandbox.ips.first()).cloned().unwrap_or_default();
    let started = base::clock::monotonic();
    let order: Vec<String> = slots(pod).filter_map(|slot| super::container_at(pod, slot)).map(|(container, _)| container.name).collect();
    let sidecars: Vec<&str> = init_containers(pod).iter().filter(|c| is_sidecar(c)).map(|c| c.name.as_str()).collect();
    let living = || runtime.containers.iter().filter(|record| record.state != crate::runtime::State::Exited);
    let main = living().filter(|record| !sidecars.contains(&record.name.as_str()));
    let results = join_all(main.map(|record| container(context, pod, &ip, record, "", grace))).await;
    let mut failure = results.into_iter().find_map(Result::err);
    let mut last: Vec<&ContainerRecord> = living().filter(|record| sidecars.contains(&record.name.as_str())).collect();
    last.sort_by_key(|record| std::cmp::Reverse(order.iter().position(|name| *name == record.name)));
    for record in last {
        let used = i64::try_from(started.elapsed().as_secs()).unwrap_or(grace);
        let left = if grace > 0 { (grace - used).max(MINIMUM_GRACE.min(grace)) } else { 0 };
        let stopped = container(context, pod, &ip, record, "", left).await;
        failure = failure.or(stopped.err());
    }
    if let Some(cause) = failure {
        return Err(cause);
    }
    for sandbox in &runtime.sandboxes {
        context.cri.stop_sandbox(&sandbox.id).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
