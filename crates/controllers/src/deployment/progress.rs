//! A Deployment's status: counts, the conditions Available, Progressing and ReplicaFailure, and when to look again for the progress deadline
//! (pkg/controller/deployment/progress.go). Pure.

use std::time::Duration;

use api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use api::meta::v1::Time;
use jiff::Timestamp;

use super::model::Model;
use crate::common::pods::seconds_between;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";

/// The progress deadline in seconds, if there is one.
fn deadline(deployment: &Deployment) -> Option<i64> {
    let seconds = deployment.spec.as_ref()?.progress_deadline_seconds?;
    (seconds != i32::MAX).then_some(i64::from(seconds))
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind)
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|condition| condition.type_ != kind);
    }
}

/// Sets a condition unless it has the same status and reason already (`SetDeploymentCondition`).
fn set(status: &mut DeploymentStatus, kind: &str, value: &str, reason: &str, message: String, now: Timestamp) {
    let old = find(status, kind);
    if old.is_some_and(|old| old.status == value && old.reason.as_deref() == Some(reason)) {
        return;
    }
    let since = old.filter(|old| old.status == value).and_then(|old| old.last_transition_time.clone()).unwrap_or(Time(now));
    remove(status, kind);
    status.conditions.get_or_insert_default().push(DeploymentCondition {
        type_: kind.into(),
        status: value.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(since),
    });
}

/// Pausing stops the deadline's clock, resuming starts it anew (`checkPausedConditions`).
pub fn note_pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    if deadline(deployment).is_none() {
        return;
    }
    let reason = find(status, PROGRESSING).and_then(|condition| condition.reason.clone());
    if reason.as_deref() == Some("ProgressDeadlineExceeded") {
        return;
    }
    let was_paused = reason.as_deref() == Some("DeploymentPaused");
    match (is_paused(deployment), was_paused) {
        (true, false) => set(status, PROGRESSING, "Unknown", "DeploymentPaused", "Deployment is paused".into(), now),
        (false, true) => set(status, PROGRESSING, "Unknown", "DeploymentResumed", "Deployment is resumed".into(), now),
        _ => {}
    }
}

pub fn is_paused(deployment: &Deployment) -> bool {
    deployment.spec.as_ref().and_then(|spec| spec.paused).unwrap_or(false)
}

/// The new set was found or created.
pub fn note_new_set(deployment: &Deployment, status: &mut DeploymentStatus, name: &str, created: bool, now: Timestamp) {
    if deadline(deployment).is_none() {
        return;
    }
    if created {
        set(status, PROGRESSING, "True", "NewReplicaSetCreated", format!("Created new replica set {name:?}"), now);
    } else if find(status, PROGRESSING).is_none() {
        set(status, PROGRESSING, "True", "FoundNewReplicaSet", format!("Found new replica set {name:?}"), now);
    }
}

/// The new set could not be created.
pub fn note_create_failure(deployment: &Deployment, status: &mut DeploymentStatus, name: &str, cause: &str, now: Timestamp) {
    if deadline(deployment).is_some() {
        let message = format!("Failed to create new replica set {name:?}: {cause}");
        set(status, PROGRESSING, "False", "ReplicaSetCreateError", message, now);
    }
}

/// Counts and the condition Available (`calculateStatus`).
pub fn counts(model: &Model, old: &DeploymentStatus, now: Timestamp) -> DeploymentStatus {
    let statuses = || model.sets.iter().filter_map(|entry| entry.set.status.as_ref());
    let replicas: i32 = statuses().map(|status| status.replicas).sum();
    let available: i32 = model.available();
    let updated = model.new.and_then(|index| model.sets[index].set.status.as_ref()).map_or(0, |status| status.replicas);
    let mut status = DeploymentStatus {
        observed_generation: model.deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        ready_replicas: Some(statuses().filter_map(|status| status.ready_replicas).sum()),
        available_replicas: Some(available),
        unavailable_replicas: Some((replicas - available).max(0)),
        terminating_replicas: Some(statuses().filter_map(|status| status.terminating_replicas).sum()),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    let (value, reason, message) = if available >= model.replicas() - model.max_unavailable() {
        ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    } else {
        ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    };
    set(&mut status, AVAILABLE, value, reason, message.into(), now);
    status
}

/// Every pod is of the new template and available.
pub fn is_complete(model: &Model, status: &DeploymentStatus) -> bool {
    let wanted = Some(model.replicas());
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= model.deployment.metadata.generation
}

/// The condition Progressing after a rollout step, and ReplicaFailure (`syncRolloutStatus`). `old` is the status in the API.
pub fn progress(model: &Model, old: &DeploymentStatus, status: &mut DeploymentStatus, now: Timestamp) {
    let current = find(status, PROGRESSING).cloned();
    let Some(deadline) = deadline(&model.deployment) else {
        remove(status, PROGRESSING);
        return failures(model, status, now);
    };
    let reason = current.as_ref().and_then(|condition| condition.reason.as_deref());
    let settled = status.replicas == status.updated_replicas && reason == Some("NewReplicaSetAvailable");
    let subject = match model.new.map(|index| model.sets[index].name()) {
        Some(name) => format!("ReplicaSet {name:?}"),
        None => format!("Deployment {:?}", model.deployment.metadata.name.as_deref().unwrap_or_default()),
    };
    if settled {
    } else if is_complete(model, status) {
        set(status, PROGRESSING, "True", "NewReplicaSetAvailable", format!("{subject} has successfully progressed."), now);
    } else if has_progressed(old, status) {
        // Written anew at every step: its update time is where the deadline counts from.
        let since = current.filter(|condition| condition.status == "True").and_then(|condition| condition.last_transition_time);
        remove(status, PROGRESSING);
        set(status, PROGRESSING, "True", "ReplicaSetUpdated", format!("{subject} is progressing."), now);
        if let (Some(since), Some(last)) = (since, status.conditions.as_mut().and_then(|conditions| conditions.last_mut())) {
            last.last_transition_time = Some(since);
        }
    } else if timed_out(status, deadline, now) {
        set(status, PROGRESSING, "False", "ProgressDeadlineExceeded", format!("{subject} has timed out progressing."), now);
    }
    failures(model, status, now);
}

fn has_progressed(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let number = |count: Option<i32>| count.unwrap_or(0);
    let outdated = |status: &DeploymentStatus| number(status.replicas) - number(status.updated_replicas);
    number(new.updated_replicas) > number(old.updated_replicas)
        || outdated(new) < outdated(old)
        || number(new.ready_replicas) > number(old.ready_replicas)
        || number(new.available_replicas) > number(old.available_replicas)
}

fn timed_out(status: &DeploymentStatus, deadline: i64, now: Timestamp) -> bool {
    let Some(condition) = find(status, PROGRESSING) else { return false };
    match condition.reason.as_deref() {
        Some("NewReplicaSetAvailable") => false,
        Some("ProgressDeadlineExceeded") => true,
        _ => condition.last_update_time.as_ref().is_some_and(|from| seconds_between(from.0, now) > deadline),
    }
}

/// Copies a failure of a ReplicaSet, the new one's first.
fn failures(model: &Model, status: &mut DeploymentStatus, now: Timestamp) {
    let of = |set: &ReplicaSet| {
        let conditions = set.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == FAILURE && condition.status == "True").cloned()
    };
    let new = model.new.and_then(|index| of(&model.sets[index].set));
    match new.or_else(|| model.sets.iter().find_map(|entry| of(&entry.set))) {
        Some(failure) => {
            let reason = failure.reason.unwrap_or_default();
            set(status, FAILURE, "True", &reason, failure.message.unwrap_or_default(), now);
        }
        None => remove(status, FAILURE),
    }
}

/// When the deadline passes if nothing happens (`requeueStuckDeployment`).
pub fn next_check(model: &Model, status: &DeploymentStatus, now: Timestamp) -> Option<Duration> {
    let deadline = deadline(&model.deployment)?;
    let condition = find(status, PROGRESSING)?;
    if is_complete(model, status) || condition.reason.as_deref() == Some("ProgressDeadlineExceeded") || is_paused(&model.deployment) {
        return None;
    }
    let left = deadline - seconds_between(condition.last_update_time.as_ref()?.0, now);
    Some(Duration::from_secs(u64::try_from(left.max(0)).unwrap_or(0) + 1))
}

/// Absent and zero, absent and empty are the same.
pub fn is_current(old: &DeploymentStatus, new: &DeploymentStatus) -> bool {
    let numbers = |status: &DeploymentStatus| {
        [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas,
            status.unavailable_replicas,
            status.terminating_replicas,
            status.collision_count,
        ]
        .map(|count| count.unwrap_or(0))
    };
    numbers(old) == numbers(new)
        && old.observed_generation == new.observed_generation
        && old.conditions.as_deref().unwrap_or_default() == new.conditions.as_deref().unwrap_or_default()
}
