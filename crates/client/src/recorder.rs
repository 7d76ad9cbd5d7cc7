//! Writes Events about objects (client-go/tools/record): repeated ones are counted, similar ones combined, floods dropped. Never blocks its caller.

mod correlate;

use api::core::v1::{Event, EventSource, ObjectReference};
use api::meta::v1::{MicroTime, ObjectMeta, Time};
use base::Tasks;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Error};
use serde_json::json;
use tokio::sync::mpsc;

use self::correlate::{Correlator, Occurrence, Outcome};

/// Events that may wait to be written; more are dropped.
const QUEUE: usize = 1000;
const TRIES: u32 = 12;
const RETRY: std::time::Duration = std::time::Duration::from_secs(10);
/// Upstream's limit of a note (pkg/apis/core/validation/events.go).
const MAX_NOTE: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

impl EventType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Cheap to clone. The writing task ends with the last clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Occurrence>,
}

impl Recorder {
    /// `component` is `kubelet`, `deployment-controller`, ...; `host` the node's name or empty. Must be called within a Tokio runtime.
    pub fn new(client: Client, component: impl Into<String>, host: impl Into<String>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let writer = Writer { client, component: component.into(), host: host.into() };
        Tasks::new().spawn("event recorder", writer.run(receiver));
        Self { sender }
    }

    /// A recorder that writes nowhere, and what it would have written, for tests: type, reason and note.
    pub fn sink() -> (Self, mpsc::Receiver<Occurrence>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self { sender }, receiver)
    }

    /// Records that something happened to `regarding`. `action` is what the component did or tried, `note` a sentence for people.
    pub fn event(&self, regarding: &ObjectReference, event_type: EventType, reason: &str, action: &str, note: impl Into<String>) {
        let mut note = note.into();
        if note.len() > MAX_NOTE {
            let end = (0..=MAX_NOTE).rev().find(|&end| note.is_char_boundary(end)).unwrap_or(0);
            note.truncate(end);
        }
        let occurrence = Occurrence {
            regarding: regarding.clone(),
            event_type,
            reason: reason.to_owned(),
            action: action.to_owned(),
            note,
            at: base::clock::now(),
        };
        if self.sender.try_send(occurrence).is_err() {
            tracing::warn!(reason, "too many events wait to be written, dropping one");
        }
    }
}

struct Writer {
    client: Client,
    component: String,
    host: String,
}

impl Writer {
    async fn run(self, mut receiver: mpsc::Receiver<Occurrence>) {
        let mut correlator = Correlator::default();
        while let Some(occurrence) = receiver.recv().await {
            tracing::debug!(object = ?occurrence.regarding.name, reason = occurrence.reason, note = occurrence.note, "event");
            let Some(outcome) = correlator.correlate(occurrence, base::clock::monotonic()) else { continue };
            if let Some(name) = self.write_with_retries(&outcome).await {
                correlator.written(&outcome, name);
            }
        }
    }

    /// The name of the Event in the API, if it could be written.
    async fn write_with_retries(&self, outcome: &Outcome) -> Option<String> {
        for _ in 0..TRIES {
            match self.write(outcome).await {
                Ok(name) => return Some(name),
                Err(Error::Api(status)) if !matches!(status.code, 429 | 500..) => {
                    // A namespace that ends, a missing permission: trying again would not help.
                    tracing::debug!(reason = outcome.occurrence.reason, error = status.message, "the server refused an event");
                    return None;
                }
                Err(error) => tracing::warn!(%error, "cannot write an event, trying again"),
            }
            tokio::time::sleep(RETRY).await;
        }
        tracing::warn!(reason = outcome.occurrence.reason, "gave up writing an event");
        None
    }

    async fn write(&self, outcome: &Outcome) -> Result<String, Error> {
        let namespace = outcome.occurrence.regarding.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let events = Api::<Event>::namespaced(self.client.clone(), namespace);
        if let Some(name) = &outcome.known_as {
            let patch = json!({"count": outcome.count, "lastTimestamp": Time(outcome.occurrence.at), "message": outcome.occurrence.note});
            match events.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await {
                Ok(_) => return Ok(name.clone()),
                // Expired meanwhile: write it anew.
                Err(Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        let event = self.event(outcome, namespace);
        events.create(&PostParams::default(), &event).await?;
        Ok(event.metadata.name.unwrap_or_default())
    }

    fn event(&self, outcome: &Outcome, namespace: &str) -> Event {
        let occurrence = &outcome.occurrence;
        let name = format!("{}.{:x}", occurrence.regarding.name.as_deref().unwrap_or_default(), base::clock::now().as_nanosecond());
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Event {
            metadata: ObjectMeta { name: Some(name), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() },
            involved_object: occurrence.regarding.clone(),
            type_: Some(occurrence.event_type.as_str().to_owned()),
            reason: Some(occurrence.reason.clone()),
            action: some(&occurrence.action),
            message: Some(occurrence.note.clone()),
            count: Some(outcome.count),
            first_timestamp: Some(Time(outcome.first)),
            last_timestamp: Some(Time(occurrence.at)),
            event_time: None::<MicroTime>,
            source: Some(EventSource { component: some(&self.component), host: some(&self.host) }),
            reporting_component: some(&self.component),
            reporting_instance: some(&self.host),
            ..Event::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[tokio::test(start_paused = true)]
    async fn the_second_time_an_event_is_counted() {
        let event = serde_json::json!({"kind": "Event", "apiVersion": "v1", "metadata": {"name": "e"}, "involvedObject": {}}).to_string();
        let script = Script::new([event.clone(), event]);
        let recorder = Recorder::new(script.client(), "deployment-controller", "");
        let web = ObjectReference {
            kind: Some("Deployment".into()),
            namespace: Some("ns".into()),
            name: Some("web".into()),
            ..ObjectReference::default()
        };
        for _ in 0..2 {
            recorder.event(&web, EventType::Normal, "ScalingReplicaSet", "", "Scaled up replica set web-1 from 0 to 3");
        }
        recorder.event(&web, EventType::Normal, "Another", "", "note");
        script.used_up().await;
        let requests = script.requests();
        assert!(requests[0].starts_with("POST /api/v1/namespaces/ns/events"), "{requests:?}");
        assert!(requests[0].contains("\"source\":{\"component\":\"deployment-controller\"}"), "{requests:?}");
        assert!(requests[1].starts_with("PATCH /api/v1/namespaces/ns/events/web.") && requests[1].contains("\"count\":2"), "{requests:?}");
    }
}
