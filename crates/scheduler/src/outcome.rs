//! Writing decisions to the API: bindings, and why a pod could not be placed.

use api::core::v1::{Binding, ObjectReference, Pod};
use api::meta::v1::ObjectMeta;
use client::EventType;
use client::{Client, Recorder};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use crate::state::PodInfo;

pub(crate) struct Outcomes {
    client: Client,
    recorder: Recorder,
}

pub(crate) enum BindError {
    /// The pod is deleted or was bound by somebody else: nothing is left to do.
    Gone,
    Failed(String),
}

impl Outcomes {
    pub fn new(client: Client, recorder: Recorder) -> Self {
        Self { client, recorder }
    }

    fn api(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.key.namespace)
    }

    /// Plugin DefaultBinder, and the Scheduled event.
    pub async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), BindError> {
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(pod.key.name.clone()),
                namespace: Some(pod.key.namespace.clone()),
                uid: Some(pod.uid.clone()),
                ..ObjectMeta::default()
            },
            target: ObjectReference { kind: Some("Node".into()), name: Some(node.into()), ..ObjectReference::default() },
        };
        let result: Result<api::meta::v1::Status, kube::Error> =
            self.api(pod).create_subresource("binding", &pod.key.name, &PostParams::default(), &binding).await;
        match result {
            Ok(_) => {
                let note = format!("Successfully assigned {} to {node}", pod.key);
                self.recorder.event(&client::object_ref(pod.pod.as_ref()), EventType::Normal, "Scheduled", "Binding", note);
                Ok(())
            }
            Err(kube::Error::Api(status)) if status.reason == "NotFound" || status.reason == "Conflict" => Err(BindError::Gone),
            Err(error) => Err(BindError::Failed(error.to_string())),
        }
    }

    /// The PodScheduled condition and the FailedScheduling event. A failure to write is only logged: the next attempt reports again.
    pub async fn report(&self, pod: &PodInfo, reason: &str, message: &str) {
        self.recorder.event(&client::object_ref(pod.pod.as_ref()), EventType::Warning, "FailedScheduling", "Scheduling", message);
        let known = pod.pod.status.iter().flat_map(|status| status.conditions.iter().flatten()).any(|condition| {
            condition.type_ == "PodScheduled"
                && condition.reason.as_deref() == Some(reason)
                && condition.message.as_deref() == Some(message)
        });
        if known {
            return;
        }
        let patch = json!({ "metadata": { "uid": pod.uid }, "status": { "conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "observedGeneration": pod.pod.metadata.generation, "lastProbeTime": null, "lastTransitionTime": base::clock::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        }] } });
        match self.api(pod).patch_status(&pod.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.reason == "NotFound" || status.reason == "Conflict" => {}
            Err(error) => tracing::warn!(pod = %pod.key, %error, "the pod's condition cannot be written"),
        }
    }
}
