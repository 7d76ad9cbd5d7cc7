//! Pod lifecycle events: tells which pods changed in the runtime. A stream of events where the runtime has one, otherwise (and beside it, slowly)
//! a relist. Must not know pods' specs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::{Cri, CriError, labels};

/// Relist period without an event stream (upstream's generic PLEG).
const RELIST: Duration = Duration::from_secs(1);
/// Relist period beside an event stream (upstream's evented PLEG).
const RELIST_WITH_EVENTS: Duration = Duration::from_secs(300);
/// A relist that has not succeeded for so long makes the node not ready.
const UNHEALTHY_AFTER: Duration = Duration::from_secs(180);

/// What the runtime holds of one pod, as far as a list tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub namespace: String,
    pub name: String,
    /// Sandbox or container id, with its state.
    pub parts: Vec<(String, i32)>,
}

/// The last relist, and whether it is recent.
pub struct Pleg {
    cri: Cri,
    seen: Mutex<HashMap<String, Seen>>,
    relisted: Mutex<Option<tokio::time::Instant>>,
    last_error: Mutex<Option<String>>,
    kick: Notify,
}

impl Pleg {
    pub fn new(cri: Cri) -> Arc<Self> {
        Arc::new(Self {
            cri,
            seen: Mutex::default(),
            relisted: Mutex::new(Some(base::clock::monotonic())),
            last_error: Mutex::default(),
            kick: Notify::new(),
        })
    }

    /// The pods that the runtime held at the last relist, by UID.
    pub fn pods(&self) -> HashMap<String, Seen> {
        self.seen.lock().clone()
    }

    /// The pod was removed from the runtime; the next list will say the same.
    pub fn forget(&self, uid: &str) {
        self.seen.lock().remove(uid);
    }

    /// `Err` says why the runtime's state is not trusted.
    pub fn healthy(&self) -> Result<(), String> {
        let age = self.relisted.lock().map_or(UNHEALTHY_AFTER, |at| at.elapsed());
        if age < UNHEALTHY_AFTER {
            return Ok(());
        }
        Err(format!("pleg was last seen active {}s ago; threshold is {}s", age.as_secs(), UNHEALTHY_AFTER.as_secs()))
    }

    /// What the last relist failed with, if it did.
    pub fn last_error(&self) -> Option<String> {
        self.last_error.lock().clone()
    }

    /// Sends the UID of each pod that changed, until the receiver is gone.
    pub async fn run(self: Arc<Self>, changed: mpsc::Sender<String>) {
        let mut events = self.open_events().await;
        let mut next = base::clock::monotonic();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next) => {
                    if events.is_none() && next.elapsed() > RELIST_WITH_EVENTS {
                        events = self.open_events().await;
                    }
                    if self.relist(&changed).await.is_err() {
                        return;
                    }
                    next = base::clock::monotonic() + if events.is_some() { RELIST_WITH_EVENTS } else { RELIST };
                }
                () = self.kick.notified() => next = base::clock::monotonic(),
                event = next_event(&mut events) => match event {
                    Some(uid) => if changed.send(uid).await.is_err() { return },
                    None => {
                        tracing::warn!("the runtime's event stream ended, falling back to relisting");
                        events = None;
                        next = base::clock::monotonic();
                    }
                },
            }
        }
    }

    async fn open_events(&self) -> Option<tonic::Streaming<k8s_cri::v1::ContainerEventResponse>> {
        match self.cri.events().await {
            Ok(stream) => Some(stream),
            Err(error) if error.code() == Some(tonic::Code::Unimplemented) => None,
            Err(error) => {
                tracing::warn!(%error, "the runtime's event stream cannot be opened, relisting instead");
                None
            }
        }
    }

    async fn relist(&self, changed: &mpsc::Sender<String>) -> Result<(), mpsc::error::SendError<String>> {
        match self.list().await {
            Ok(fresh) => {
                let differing = {
                    let mut seen = self.seen.lock();
                    let differing = differences(&seen, &fresh);
                    *seen = fresh;
                    differing
                };
                *self.relisted.lock() = Some(base::clock::monotonic());
                *self.last_error.lock() = None;
                for uid in differing {
                    changed.send(uid).await?;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the runtime's pods cannot be listed");
                *self.last_error.lock() = Some(error.to_string());
            }
        }
        Ok(())
    }

    async fn list(&self) -> Result<HashMap<String, Seen>, CriError> {
        let (sandboxes, containers) = tokio::try_join!(self.cri.list_sandboxes(None), self.cri.list_containers(None))?;
        let mut pods: HashMap<String, Seen> = HashMap::new();
        let parts = sandboxes
            .into_iter()
            .map(|sandbox| (sandbox.labels, sandbox.id, sandbox.state))
            .chain(containers.into_iter().map(|container| (container.labels, container.id, container.state + 16)));
        for (mut labels, id, state) in parts {
            let Some(uid) = labels.remove(labels::POD_UID) else { continue };
            let seen = pods.entry(uid).or_insert_with(|| Seen {
                namespace: labels.remove(labels::POD_NAMESPACE).unwrap_or_default(),
                name: labels.remove(labels::POD_NAME).unwrap_or_default(),
                parts: Vec::new(),
            });
            seen.parts.push((id, state));
        }
        for seen in pods.values_mut() {
            seen.parts.sort_unstable();
        }
        Ok(pods)
    }

    /// Lists and remembers at once: what start-up needs before any pod is decided on.
    pub async fn prime(&self) -> Result<(), CriError> {
        let fresh = self.list().await?;
        *self.seen.lock() = fresh;
        *self.relisted.lock() = Some(base::clock::monotonic());
        Ok(())
    }

    /// Relist soon.
    pub fn kick(&self) {
        self.kick.notify_one();
    }
}

/// The pods that appeared, changed or vanished.
fn differences(old: &HashMap<String, Seen>, new: &HashMap<String, Seen>) -> Vec<String> {
    let changed = new.iter().filter(|(uid, seen)| old.get(*uid) != Some(seen)).map(|(uid, _)| uid.clone());
    let vanished = old.keys().filter(|uid| !new.contains_key(*uid)).cloned();
    changed.chain(vanished).collect()
}

async fn next_event(events: &mut Option<tonic::Streaming<k8s_cri::v1::ContainerEventResponse>>) -> Option<String> {
    let Some(stream) = events else { return std::future::pending().await };
    loop {
        match stream.message().await {
            Ok(Some(event)) => {
                let uid = event.pod_sandbox_status.and_then(|status| status.metadata).map(|metadata| metadata.uid);
                if let Some(uid) = uid {
                    return Some(uid);
                }
            }
            Ok(None) => return None,
            Err(status) => {
                tracing::warn!(error = %cri_text(status), "the runtime's event stream failed");
                return None;
            }
        }
    }
}

fn cri_text(status: tonic::Status) -> String {
    CriError::from(status).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_new_changed_and_vanished_pods() {
        let pod = |state: i32| Seen { parts: vec![("a".into(), state)], ..Seen::default() };
        let old = HashMap::from([("same".to_owned(), pod(1)), ("changed".to_owned(), pod(1)), ("gone".to_owned(), pod(1))]);
        let new = HashMap::from([("same".to_owned(), pod(1)), ("changed".to_owned(), pod(2)), ("new".to_owned(), pod(1))]);
        let mut uids = differences(&old, &new);
        uids.sort();
        assert_eq!(uids, ["changed", "gone", "new"]);
    }
}
