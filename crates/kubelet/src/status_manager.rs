//! Brings pod statuses to the API: coalesced, retried, never to a newer pod of the same name (pkg/kubelet/status/status_manager.go).

use std::collections::HashMap;
use std::sync::Arc;

use api::core::v1::{Pod, PodCondition, PodStatus};
use client::{Client, Informer, WorkQueue};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::objects::has_reason;
use crate::pod::{self, status::OWNED};

/// How many patches are under way at once.
const WORKERS: usize = 8;

struct Entry {
    pod: Arc<Pod>,
    status: PodStatus,
    sent: Option<PodStatus>,
}

#[derive(Clone)]
pub struct StatusManager {
    client: Client,
    pods: Informer<Pod>,
    entries: Arc<Mutex<HashMap<String, Entry>>>,
    queue: Arc<WorkQueue<String>>,
}

impl StatusManager {
    pub fn new(client: Client, pods: Informer<Pod>) -> Self {
        Self { client, pods, entries: Arc::default(), queue: Arc::new(WorkQueue::new()) }
    }

    pub fn start(&self, tasks: &base::Tasks) {
        for _ in 0..WORKERS {
            let this = self.clone();
            tasks.spawn_restarting("pod-status", move || this.clone().work());
        }
    }

    async fn work(self) {
        while let Some(uid) = self.queue.get().await {
            match self.write(&uid).await {
                Ok(()) => self.queue.forget(&uid),
                Err(error) => {
                    tracing::warn!(uid, error = crate::objects::api_text(&error), "a pod's status cannot be written, trying again");
                    self.queue.add_rate_limited(uid.clone());
                }
            }
            self.queue.done(&uid);
        }
    }

    /// Takes the status that the API should show; writes it soon when it differs from what was written.
    pub fn set(&self, pod: &Arc<Pod>, status: PodStatus) {
        let uid = pod::uid(pod).to_owned();
        let changed = {
            let mut entries = self.entries.lock();
            match entries.get_mut(&uid) {
                Some(entry) => {
                    entry.pod = pod.clone();
                    let changed = entry.sent.as_ref() != Some(&status);
                    entry.status = status;
                    changed
                }
                None => {
                    entries.insert(uid.clone(), Entry { pod: pod.clone(), status, sent: None });
                    true
                }
            }
        };
        if changed {
            self.queue.add(uid);
        }
    }

    /// The status last decided on, which may be newer than the API's.
    pub fn get(&self, uid: &str) -> Option<PodStatus> {
        self.entries.lock().get(uid).map(|entry| entry.status.clone())
    }

    pub fn forget(&self, uid: &str) {
        self.entries.lock().remove(uid);
    }

    /// Somebody else changed the pod: writes again where its status is not what it should be.
    pub fn reconcile(&self, pod: &Pod) {
        let uid = pod::uid(pod).to_owned();
        let differs = {
            let mut entries = self.entries.lock();
            let Some(entry) = entries.get_mut(&uid) else { return };
            let differs = entry.sent.as_ref() == Some(&entry.status) && !same(pod::api_status(pod), &entry.status);
            if differs {
                entry.sent = None;
            }
            differs
        };
        if differs {
            self.queue.add(uid);
        }
    }

    /// Writes the pod's status now, if it has to be.
    pub async fn write(&self, uid: &str) -> Result<(), kube::Error> {
        let (target, status) = {
            let entries = self.entries.lock();
            let Some(entry) = entries.get(uid) else { return Ok(()) };
            (entry.pod.clone(), entry.status.clone())
        };
        let (namespace, name) = (pod::namespace(&target), pod::name(&target));
        let current = self.pods.get(Some(namespace), name);
        // A static pod is shown by its mirror, which has a UID of its own.
        let target_uid = match &current {
            Some(current) if pod::is_static(&target) && pod::is_mirror(current) => pod::uid(current).to_owned(),
            None if pod::is_static(&target) => return Ok(()),
            _ => uid.to_owned(),
        };
        let base = current.as_ref().filter(|current| pod::uid(current) == target_uid);
        let patch = status_patch(base.map(|pod| pod::api_status(pod)), &status, &target_uid);
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        match api.patch_status(name, &PatchParams::default(), &Patch::Strategic(&patch)).await {
            Ok(_) => {}
            // Gone, or another pod of that name by now: there is nobody to tell.
            Err(error) if has_reason(&error, "NotFound") || has_reason(&error, "Conflict") => {}
            Err(error) => return Err(error),
        }
        if let Some(entry) = self.entries.lock().get_mut(uid) {
            entry.sent = Some(status);
        }
        Ok(())
    }

    /// Ends the pod's deletion: nothing of it runs any more.
    pub async fn delete(&self, pod: &Pod) -> Result<(), kube::Error> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), pod::namespace(pod));
        let uid = Some(pod::uid(pod).to_owned());
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid, resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(pod::name(pod), &params).await {
            Ok(_) => Ok(()),
            Err(error) if has_reason(&error, "NotFound") || has_reason(&error, "Conflict") => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn owned(condition: &&PodCondition) -> bool {
    OWNED.contains(&condition.type_.as_str())
}

/// Whether the API shows what it should, other writers' conditions aside.
fn same(shown: &PodStatus, wanted: &PodStatus) -> bool {
    let facts = |status: &PodStatus| -> Vec<(String, String, Option<String>)> {
        let own = status.conditions.iter().flatten().filter(owned);
        let mut list: Vec<_> = own.map(|c| (c.type_.clone(), c.status.clone(), c.reason.clone())).collect();
        list.sort();
        list
    };
    shown.phase == wanted.phase
        && shown.reason == wanted.reason
        && shown.pod_ip == wanted.pod_ip
        && shown.container_statuses == wanted.container_statuses
        && shown.init_container_statuses == wanted.init_container_statuses
        && facts(shown) == facts(wanted)
}

/// A strategic merge patch that makes the API's status the wanted one, whatever it is now, but keeps conditions of other writers.
fn status_patch(base: Option<&PodStatus>, wanted: &PodStatus, uid: &str) -> Value {
    let mut status = as_map(wanted);
    let own: Vec<&PodCondition> = wanted.conditions.iter().flatten().filter(owned).collect();
    status.insert("conditions".into(), json!(own));
    // These lists merge by their key; the marker replaces them.
    for field in ["podIPs", "hostIPs"] {
        if let Some(Value::Array(list)) = status.get_mut(field) {
            list.insert(0, json!({"$patch": "replace"}));
        }
    }
    for field in base.map(as_map).unwrap_or_default().keys() {
        if !status.contains_key(field) && field != "resize" {
            status.insert(field.clone(), Value::Null);
        }
    }
    json!({"metadata": {"uid": uid}, "status": status})
}

fn as_map(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_sets_all_and_removes_what_is_gone() {
        let base: PodStatus = serde_json::from_value(json!({"phase": "Pending", "message": "m", "podIP": "1.1.1.1"})).unwrap();
        let wanted: PodStatus = serde_json::from_value(json!({"phase": "Running", "podIP": "2.2.2.2", "podIPs": [{"ip": "2.2.2.2"}],
            "conditions": [{"type": "Ready", "status": "True"}, {"type": "example.org/gate", "status": "True"}]}))
        .unwrap();
        let patch = status_patch(Some(&base), &wanted, "u");
        assert_eq!(patch["metadata"]["uid"], "u");
        assert_eq!(patch["status"]["message"], Value::Null);
        assert!(patch["status"].as_object().unwrap().contains_key("message"));
        assert_eq!(patch["status"]["podIPs"][0]["$patch"], "replace");
        assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn other_writers_conditions_are_no_difference() {
        let shown: PodStatus = serde_json::from_value(
            json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}, {"type": "x", "status": "True"}]}),
        )
        .unwrap();
        let wanted: PodStatus =
            serde_json::from_value(json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})).unwrap();
        assert!(same(&shown, &wanted));
        assert!(!same(&PodStatus::default(), &wanted));
    }
}
