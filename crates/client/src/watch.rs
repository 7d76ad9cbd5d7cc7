//! List and watch as one endless loop (client-go's Reflector): reports every change of a collection to a sink, lists again when the server has forgotten
//! the revision, and never gives up. Keeps no objects.

use std::collections::BTreeMap;
use std::time::Duration;

use base::Backoff;
use futures::TryStreamExt;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::{Api, Error};

use crate::meta::{Object, revision_of};

/// Objects per page of a plain list.
const PAGE: u32 = 500;
/// Set on the bookmark that ends the initial events of a streaming list (metav1.InitialEventsAnnotationKey).
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A watch that ends sooner than this and brought nothing counts as a failure.
const SHORT_WATCH: Duration = Duration::from_secs(1);

/// Which objects of a collection: a field selector and a label selector, both may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    pub fields: String,
    pub labels: String,
}

impl Selection {
    pub fn new(fields: impl Into<String>, labels: impl Into<String>) -> Self {
        Self { fields: fields.into(), labels: labels.into() }
    }

    fn non_empty(text: &str) -> Option<String> {
        (!text.is_empty()).then(|| text.to_owned())
    }
}

/// What the loop reports, in order.
#[derive(Debug)]
pub enum Step<K> {
    /// A list begins; what was known is in doubt until `Listed` has named it again.
    Listing,
    /// An object that exists.
    Listed(K),
    /// The list is complete: everything not named since `Listing` is gone.
    Complete,
    /// Created or changed.
    Applied(K),
    /// Gone; this was its last state.
    Deleted(K),
    /// Everything up to this revision of the store has been reported.
    Seen(u64),
}

/// Why a watch ended.
enum End {
    /// By its timeout or by the server: go on from the last revision.
    Closed { short: bool },
    /// The revision is too old: list again.
    Expired,
    /// The server cannot stream lists.
    NoStreaming,
}

struct Follower<'a, K, F> {
    api: &'a Api<K>,
    selection: &'a Selection,
    sink: F,
    /// Where the next watch starts; none before the first list.
    revision: Option<String>,
    streaming: bool,
}

/// Follows the collection until the caller drops the future. `sink` must be quick and must not block.
pub async fn follow<K: Object>(api: &Api<K>, selection: &Selection, sink: impl FnMut(Step<K>) + Send) {
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30)).with_jitter(0.5);
    let mut follower = Follower { api, selection, sink, revision: None, streaming: true };
    loop {
        match follower.round().await {
            Ok(End::Closed { short: false }) => backoff.reset(),
            Ok(End::Closed { short: true }) => tokio::time::sleep(backoff.next_delay()).await,
            Ok(End::NoStreaming) => follower.streaming = false,
            Ok(End::Expired) => {
                tracing::debug!(resource = api.resource_url(), "the watch's revision is too old, listing again");
                follower.revision = None;
                tokio::time::sleep(backoff.next_delay()).await;
            }
            Err(error) => {
                tracing::warn!(resource = api.resource_url(), %error, "cannot list or watch, trying again");
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

impl<K: Object, F: FnMut(Step<K>) + Send> Follower<'_, K, F> {
    /// One list if need be and one watch.
    async fn round(&mut self) -> Result<End, Error> {
        if self.revision.is_none() && !self.streaming {
            self.list().await?;
        }
        self.watch().await
    }

    async fn list(&mut self) -> Result<(), Error> {
        let mut params = ListParams {
            field_selector: Selection::non_empty(&self.selection.fields),
            label_selector: Selection::non_empty(&self.selection.labels),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        (self.sink)(Step::Listing);
        loop {
            let page = self.api.list(&params).await?;
            for object in page.items {
                (self.sink)(Step::Listed(object));
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None => {
                    let revision = page.metadata.resource_version.unwrap_or_default();
                    (self.sink)(Step::Complete);
                    (self.sink)(Step::Seen(revision.parse().unwrap_or(0)));
                    self.revision = Some(revision);
                    return Ok(());
                }
            }
        }
    }

    async fn watch(&mut self) -> Result<End, Error> {
        let mut listing = self.revision.is_none();
        // Spread over a minute, so that not all watches of a process end together.
        let seconds = rand::random_range(230..290);
        let params = WatchParams {
            field_selector: Selection::non_empty(&self.selection.fields),
            label_selector: Selection::non_empty(&self.selection.labels),
            timeout: Some(seconds),
            bookmarks: true,
            send_initial_events: listing,
        };
        let started = base::clock::monotonic();
        // The server ends the watch by itself; one that does not is dead.
        let deadline = started + Duration::from_secs(u64::from(seconds) + 30);
        let from = self.revision.clone().unwrap_or_default();
        let events = match self.api.watch(&params, &from).await {
            Ok(events) => events,
            Err(Error::Api(status)) if listing && matches!(status.code, 400 | 422) => return Ok(End::NoStreaming),
            Err(error) => return expired_or(error),
        };
        let mut events = std::pin::pin!(events);
        if listing {
            (self.sink)(Step::Listing);
        }
        let mut quiet = true;
        loop {
            let event = match tokio::time::timeout_at(deadline, events.try_next()).await {
                Err(_) | Ok(Ok(None)) => break,
                Ok(Ok(Some(event))) => event,
                Ok(Err(error)) => return expired_or(error),
            };
            quiet = false;
            if let WatchEvent::Error(status) = event {
                return expired_or(Error::Api(status));
            }
            self.report(event, &mut listing);
        }
        Ok(End::Closed { short: quiet && started.elapsed() < SHORT_WATCH })
    }

    fn report(&mut self, event: WatchEvent<K>, listing: &mut bool) {
        let (step, revision, number) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) if *listing => {
                return (self.sink)(Step::Listed(object));
            }
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                let (text, number) = (object.meta().resource_version.clone(), revision_of(object.meta()));
                (Step::Applied(object), text, number)
            }
            WatchEvent::Deleted(object) => {
                let (text, number) = (object.meta().resource_version.clone(), revision_of(object.meta()));
                (Step::Deleted(object), text, number)
            }
            WatchEvent::Bookmark(mark) => {
                let number = mark.metadata.resource_version.parse().unwrap_or(0);
                if *listing && ends_initial_events(&mark.metadata.annotations) {
                    *listing = false;
                    (Step::Complete, Some(mark.metadata.resource_version), number)
                } else if *listing {
                    return;
                } else {
                    (Step::Seen(number), Some(mark.metadata.resource_version), number)
                }
            }
            WatchEvent::Error(_) => return,
        };
        (self.sink)(step);
        (self.sink)(Step::Seen(number));
        self.revision = revision.or(self.revision.take());
    }
}

fn ends_initial_events(annotations: &BTreeMap<String, String>) -> bool {
    annotations.get(INITIAL_EVENTS_END).is_some_and(|value| value == "true")
}

/// 410 means that the server no longer has the revision; anything else is a failure.
fn expired_or(error: Error) -> Result<End, Error> {
    match error {
        Error::Api(status) if status.code == 410 || status.reason == "Expired" || status.reason == "Gone" => Ok(End::Expired),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use api::core::v1::ConfigMap;
    use kube::ResourceExt;

    use super::*;
    use crate::script::{Script, config_map, event, initial_events_end, status};

    /// Runs the loop against scripted answers until they are used up, and returns what it reported.
    async fn check(script: Script, expected: &[&str]) {
        let client = script.client();
        let api = Api::<ConfigMap>::all(client);
        let mut seen = Vec::new();
        let selection = Selection::default();
        let following = follow(&api, &selection, |step: Step<ConfigMap>| {
            seen.push(match step {
                Step::Listing => "listing".to_owned(),
                Step::Listed(object) => format!("listed {}", object.name_any()),
                Step::Complete => "complete".to_owned(),
                Step::Applied(object) => format!("applied {}", object.name_any()),
                Step::Deleted(object) => format!("deleted {}", object.name_any()),
                Step::Seen(revision) => format!("seen {revision}"),
            });
        });
        tokio::select! {
            () = following => {}
            () = script.used_up() => {}
        }
        assert_eq!(seen, expected, "requests: {:#?}", script.requests());
    }

    #[tokio::test(start_paused = true)]
    async fn streams_the_list_then_changes() {
        let lines = [
            event("ADDED", config_map("a", 3)),
            initial_events_end(7),
            event("MODIFIED", config_map("a", 9)),
            event("DELETED", config_map("a", 12)),
        ];
        let script = Script::new([lines.concat()]);
        check(script, &["listing", "listed a", "complete", "seen 7", "applied a", "seen 9", "deleted a", "seen 12"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn goes_on_from_the_last_revision() {
        let script =
            Script::new([[event("ADDED", config_map("a", 3)), initial_events_end(7)].concat(), event("ADDED", config_map("b", 8))]);
        check(script.clone(), &["listing", "listed a", "complete", "seen 7", "applied b", "seen 8"]).await;
        assert!(script.requests()[1].contains("resourceVersion=7"), "{:?}", script.requests());
    }

    #[tokio::test(start_paused = true)]
    async fn lists_again_when_the_revision_is_gone() {
        let script = Script::new([
            [event("ADDED", config_map("a", 3)), initial_events_end(7), event("ERROR", status(410, "Expired"))].concat(),
            [event("ADDED", config_map("b", 20)), initial_events_end(21)].concat(),
        ]);
        check(script, &["listing", "listed a", "complete", "seen 7", "listing", "listed b", "complete", "seen 21"]).await;
    }

    #[tokio::test(start_paused = true)]
    async fn falls_back_to_pages_on_servers_without_streaming_lists() {
        let page = |name: &str, token: &str| {
            serde_json::json!({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": {"resourceVersion": "5", "continue": token},
                "items": [config_map(name, 2)]})
            .to_string()
        };
        let script =
            Script::new([status(422, "Invalid").to_string(), page("a", "more"), page("b", ""), event("ADDED", config_map("c", 6))]);
        script.code(0, 422);
        check(script, &["listing", "listed a", "listed b", "complete", "seen 5", "applied c", "seen 6"]).await;
    }
}
