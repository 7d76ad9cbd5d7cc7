//! A ControllerRevision per pod template that a DaemonSet had, for `kubectl rollout history` and `undo` (pkg/controller/history). Pure.

use std::collections::HashSet;
use std::sync::Arc;

use api::apps::v1::{ControllerRevision, DaemonSet};
use api::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use super::pod::{REVISION_HASH, template_of};
use crate::common::template;

/// What to do about the revisions before pods are looked at.
#[derive(Debug)]
pub enum Current {
    /// It is there; its hash.
    Known(String),
    /// An old one is the current one again: it gets the highest number.
    Raise(Box<ControllerRevision>),
    Create(Box<ControllerRevision>),
}

/// The part of the object that a rollback restores.
fn data(set: &DaemonSet) -> Value {
    // Serializing a typed value cannot fail.
    let mut template = serde_json::to_value(template_of(set)).expect("a pod template is plain data");
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

pub fn hash_of(revision: &ControllerRevision) -> Option<&str> {
    revision.metadata.labels.as_ref()?.get(REVISION_HASH).map(String::as_str)
}

pub fn current(set: &DaemonSet, revisions: &[Arc<ControllerRevision>]) -> Current {
    let data = data(set);
    let highest = revisions.iter().map(|revision| revision.revision).max().unwrap_or(0);
    let same = revisions
        .iter()
        .filter(|revision| revision.data.as_ref().is_some_and(|known| known.0 == data))
        .max_by_key(|revision| revision.revision);
    match same {
        Some(known) if known.revision == highest => Current::Known(hash_of(known).unwrap_or_default().to_owned()),
        Some(known) => Current::Raise(Box::new(ControllerRevision { revision: highest + 1, ..ControllerRevision::clone(known) })),
        None => {
            let collisions = set.status.as_ref().and_then(|status| status.collision_count);
            let hash = template::hash(&template_of(set), collisions);
            let mut labels = template_of(set).metadata.and_then(|meta| meta.labels).unwrap_or_default();
            labels.insert(REVISION_HASH.into(), hash.clone());
            let metadata = ObjectMeta {
                name: Some(format!("{}-{hash}", set.metadata.name.as_deref().unwrap_or_default())),
                namespace: set.metadata.namespace.clone(),
                labels: Some(labels),
                annotations: set.metadata.annotations.clone(),
                owner_references: Some(vec![client::owner_reference(set)]),
                ..ObjectMeta::default()
            };
            Current::Create(Box::new(ControllerRevision { metadata, data: Some(RawExtension(data)), revision: highest + 1 }))
        }
    }
}

/// The oldest revisions beyond the limit that no pod and not the current template needs.
pub fn superfluous(revisions: &[Arc<ControllerRevision>], live: &HashSet<String>, limit: usize) -> Vec<Arc<ControllerRevision>> {
    let mut old: Vec<&Arc<ControllerRevision>> =
        revisions.iter().filter(|revision| !hash_of(revision).is_some_and(|hash| live.contains(hash))).collect();
    old.sort_by_key(|revision| revision.revision);
    let surplus = old.len().saturating_sub(limit);
    old.into_iter().take(surplus).cloned().collect()
}
