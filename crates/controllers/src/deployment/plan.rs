//! The next step of a Deployment: sizes of its ReplicaSets, what to create and clean up, and its status (pkg/controller/deployment/{sync,rolling,
//! recreate}.go). Pure; one plan is one step, the changes that it causes bring the next.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use jiff::Timestamp;

use super::model::{Entry, Model, REVISION};
use super::progress;

pub struct Snapshot {
    pub deployment: Arc<Deployment>,
    /// The ReplicaSets that it controls.
    pub sets: Vec<Arc<ReplicaSet>>,
    /// The uids of those that have pods which are neither finished nor gone.
    pub with_pods: HashSet<String>,
}

pub struct Plan {
    /// Changed, new and superfluous sets.
    pub writes: Vec<Entry>,
    /// The revision annotation, if the Deployment has another one.
    pub revision: Option<String>,
    pub status: DeploymentStatus,
    pub next_check: Option<Duration>,
}

pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Plan {
    let deployment = &snapshot.deployment;
    let mut model = Model::new(deployment.clone(), snapshot.sets.clone());
    let old_status = deployment.status.clone().unwrap_or_default();
    let mut status = old_status.clone();

    let deleted = deployment.metadata.deletion_timestamp.is_some();
    let mut rollout = false;
    if !deleted {
        progress::note_pause(deployment, &mut status, now);
        let paused = progress::is_paused(deployment);
        if paused || is_resized(&model) {
            model.sync_new(false);
            resize(&mut model);
            if paused {
                clean_up(&mut model);
            }
        } else {
            rollout = true;
            roll(&mut model, &snapshot.with_pods, &old_status);
        }
        note_new_set(&model, &mut status, now);
    }
    let mut status = progress::counts(&model, &status, now);
    if rollout {
        progress::progress(&model, &old_status, &mut status, now);
    }
    let next_check = if rollout { progress::next_check(&model, &status, now) } else { None };
    Plan {
        revision: new_revision(&model),
        next_check,
        status,
        writes: model.sets.into_iter().filter(|entry| entry.delete || entry.changed()).collect(),
    }
}

fn note_new_set(model: &Model, status: &mut DeploymentStatus, now: Timestamp) {
    if let Some(index) = model.new {
        let entry = &model.sets[index];
        progress::note_new_set(&model.deployment, status, entry.name(), entry.origin.is_none(), now);
    }
}

fn new_revision(model: &Model) -> Option<String> {
    let wanted = model.sets[model.new?].set.metadata.annotations.as_ref()?.get(REVISION)?;
    let current = model.deployment.metadata.annotations.as_ref().and_then(|all| all.get(REVISION));
    (current != Some(wanted)).then(|| wanted.clone())
}

/// Whether the Deployment's size changed since its sets were last scaled (`isScalingEvent`).
fn is_resized(model: &Model) -> bool {
    let active = model.sets.iter().filter(|entry| entry.replicas() > 0);
    active.filter_map(Entry::desired).any(|desired| desired != model.replicas())
}

fn roll(model: &mut Model, with_pods: &HashSet<String>, status: &DeploymentStatus) {
    if model.is_rolling() {
        model.sync_new(true);
        if scale_new(model) || scale_old(model) {
            return;
        }
    } else {
        model.sync_new(false);
        let active = model.active_old();
        if !active.is_empty() {
            active.into_iter().for_each(|index| {
                model.scale(index, 0);
            });
            return;
        }
        let running = |index: usize| model.sets[index].set.metadata.uid.as_ref().is_some_and(|uid| with_pods.contains(uid));
        if model.old().into_iter().any(running) {
            return;
        }
        model.sync_new(true);
        if scale_new(model) {
            return;
        }
    }
    if progress::is_complete(model, status) {
        clean_up(model);
    }
}

fn scale_new(model: &mut Model) -> bool {
    let Some(index) = model.new else { return false };
    let size = model.sets[index].replicas();
    match size.cmp(&model.replicas()) {
        std::cmp::Ordering::Equal => false,
        std::cmp::Ordering::Greater => model.scale(index, model.replicas()),
        std::cmp::Ordering::Less => model.scale(index, model.new_size(size)),
    }
}

/// Takes pods from old sets as far as availability allows: unhealthy ones first (`reconcileOldReplicaSets`).
fn scale_old(model: &mut Model) -> bool {
    let old = model.active_old();
    let Some(new) = model.new.filter(|_| !old.is_empty()) else { return false };
    let min_available = model.replicas() - model.max_unavailable();
    let new_unavailable = model.sets[new].replicas() - model.sets[new].available();
    let mut surplus = model.total() - min_available - new_unavailable;
    if surplus <= 0 {
        return false;
    }
    let mut scaled = false;
    for &index in &old {
        let (size, available) = (model.sets[index].replicas(), model.sets[index].available());
        let unhealthy = (size - available).clamp(0, surplus.max(0));
        surplus -= unhealthy;
        scaled |= unhealthy > 0 && model.scale(index, size - unhealthy);
    }
    let mut spare = model.available() - min_available;
    for &index in &old {
        let size = model.sets[index].replicas();
        let fewer = size.min(spare).max(0);
        spare -= fewer;
        scaled |= fewer > 0 && model.scale(index, size - fewer);
    }
    scaled
}

/// Spreads a changed size over the sets of a rollout in proportion to their sizes (`scale` in sync.go).
fn resize(model: &mut Model) {
    let active: Vec<usize> = (0..model.sets.len()).filter(|&index| model.sets[index].replicas() > 0).collect();
    let only = match active.as_slice() {
        [] => model.new.or_else(|| model.old().last().copied()),
        [one] => Some(*one),
        _ => None,
    };
    let wanted = model.replicas();
    if let Some(index) = only {
        if model.sets[index].replicas() != wanted {
            model.scale(index, wanted);
        }
        return;
    }
    if model.new.is_some_and(|index| is_saturated(model, &model.sets[index])) {
        for index in model.active_old() {
            model.scale(index, 0);
        }
        return;
    }
    if model.is_rolling() {
        resize_in_proportion(model, active);
    }
}

fn is_saturated(model: &Model, new: &Entry) -> bool {
    let wanted = model.replicas();
    new.replicas() == wanted && new.desired() == Some(wanted) && new.available() == wanted
}

fn resize_in_proportion(model: &mut Model, mut active: Vec<usize>) {
    let allowed = if model.replicas() > 0 { model.replicas() + model.max_surge() } else { 0 };
    let to_add = allowed - active.iter().map(|&index| model.sets[index].replicas()).sum::<i32>();
    // The biggest first; of equal ones the newest gets more and the oldest loses more.
    active.sort_by_key(|&index| (-model.sets[index].replicas(), if to_add > 0 { -(index as i64) } else { index as i64 }));
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for &index in &active {
        let entry = &model.sets[index];
        let left = to_add - added;
        let share = share_of(model, entry);
        let proportion = if left == 0 {
            0
        } else if to_add > 0 {
            share.min(left)
        } else {
            share.max(left)
        };
        added += proportion;
        sizes.push(entry.replicas() + proportion);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (index, size) in active.into_iter().zip(sizes) {
        model.scale(index, size.max(0));
    }
}

/// How many pods a set gains or loses when all grow alike (`getReplicaSetFraction`).
fn share_of(model: &Model, entry: &Entry) -> i32 {
    if model.replicas() == 0 {
        return -entry.replicas();
    }
    let before = entry.max().filter(|&max| max > 0);
    let before = before.or_else(|| model.deployment.status.as_ref().and_then(|status| status.replicas)).filter(|&max| max > 0);
    let Some(before) = before else { return 0 };
    let after = f64::from(entry.replicas()) * f64::from(model.replicas() + model.max_surge()) / f64::from(before);
    // Sizes fit: they are bounded by the sum of two i32 that passed validation.
    after.round() as i32 - entry.replicas()
}

/// Deletes the oldest finished sets beyond the history limit (`cleanupDeployment`).
fn clean_up(model: &mut Model) {
    let Some(limit) = model.spec().revision_history_limit.filter(|&limit| limit != i32::MAX) else { return };
    let mut old = model.old();
    old.retain(|&index| model.sets[index].set.metadata.deletion_timestamp.is_none());
    let surplus = old.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    old.sort_by_key(|&index| model.sets[index].revision());
    for index in old.into_iter().take(surplus) {
        let entry = &mut model.sets[index];
        let status = entry.set.status.as_ref();
        let busy = entry.replicas() != 0
            || status.is_some_and(|status| status.replicas != 0)
            || entry.set.metadata.generation > status.and_then(|status| status.observed_generation);
        entry.delete = !busy;
    }
}
