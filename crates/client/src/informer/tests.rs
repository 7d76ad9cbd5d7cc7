//! Informers against a scripted server.

use api::core::v1::ConfigMap;
use base::Tasks;
use serde_json::json;

use super::*;
use crate::script::{Script, config_map, event, initial_events_end};

fn labelled(name: &str, revision: u64, label: &str) -> serde_json::Value {
    let mut object = config_map(name, revision);
    object["metadata"]["labels"] = json!({"app": label});
    object["metadata"]["managedFields"] = json!([{"manager": "kubectl"}]);
    object["data"] = json!({"key": "value"});
    object
}

fn replaced(name: &str, revision: u64) -> serde_json::Value {
    let mut object = config_map(name, revision);
    object["metadata"]["uid"] = json!("another");
    object
}

fn app(object: &ConfigMap) -> Vec<String> {
    object.metadata.labels.iter().filter_map(|labels| labels.get("app").cloned()).collect()
}

fn text(delta: &Delta<ConfigMap>) -> String {
    let name = delta.object().metadata.name.clone().unwrap_or_default();
    match delta {
        Delta::Added(_) => format!("added {name}"),
        Delta::Updated { .. } => format!("updated {name}"),
        Delta::Deleted(_) => format!("deleted {name}"),
    }
}

/// Starts informers on scripted answers; returns when all were used.
async fn run(script: &Script, informers: &Informers) -> Informer<ConfigMap> {
    let informer = informers.of::<ConfigMap>();
    script.used_up().await;
    informer
}

#[tokio::test(start_paused = true)]
async fn cache_index_and_trim_follow_the_server() {
    let script = Script::new([[
        event("ADDED", labelled("a", 1, "x")),
        event("ADDED", labelled("b", 2, "x")),
        initial_events_end(5),
        event("MODIFIED", labelled("a", 6, "y")),
        event("DELETED", labelled("b", 7, "x")),
    ]
    .concat()]);
    let informers = Informers::new(script.client(), Tasks::new());
    informers.trimmed::<ConfigMap>(|object| object.data = None);
    informers.of::<ConfigMap>().index("app", app);
    let informer = run(&script, &informers).await;
    informer.synced().await;
    assert_eq!(informer.len(), 1);
    let a = informer.get(Some("default"), "a").expect("a is cached");
    assert!(a.data.is_none() && a.metadata.managed_fields.is_none(), "trimmed");
    assert!(informer.by_index("app", "x").is_empty());
    assert_eq!(informer.by_index("app", "y").len(), 1);
    assert_eq!(informer.revision(), 7);
    assert!(informer.get(Some("other"), "a").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_new_list_finds_what_was_deleted_meanwhile() {
    let script = Script::new([
        [event("ADDED", config_map("a", 1)), event("ADDED", config_map("b", 2)), initial_events_end(5)].concat(),
        event("ERROR", json!({"kind": "Status", "status": "Failure", "message": "too old", "reason": "Expired", "code": 410})),
        [event("ADDED", config_map("b", 2)), event("ADDED", config_map("c", 8)), initial_events_end(9)].concat(),
    ]);
    let informers = Informers::new(script.client(), Tasks::new());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    informers.of::<ConfigMap>().on_change(move |delta| log.lock().push(text(delta)));
    run(&script, &informers).await;
    assert_eq!(*seen.lock(), ["added a", "added b", "added c", "deleted a"]);
}

#[tokio::test(start_paused = true)]
async fn waiting_changes_are_merged() {
    let script = Script::new([[
        event("ADDED", config_map("a", 1)),
        event("ADDED", config_map("b", 2)),
        event("ADDED", config_map("c", 3)),
        initial_events_end(5),
        event("MODIFIED", config_map("a", 6)),
        event("DELETED", config_map("b", 7)),
        event("ADDED", config_map("d", 8)),
        event("DELETED", config_map("c", 9)),
        event("ADDED", replaced("c", 10)),
    ]
    .concat()]);
    let informers = Informers::new(script.client(), Tasks::new());
    let mut subscription = informers.of::<ConfigMap>().subscribe();
    run(&script, &informers).await;
    let mut seen = Vec::new();
    while let Some(delta) = subscription.try_recv() {
        seen.push(text(&delta));
    }
    assert_eq!(seen, ["added a", "added c", "added d"], "b came and went, c is new to the reader");

    let mut late = informers.of::<ConfigMap>().subscribe();
    assert_eq!((0..3).map(|_| late.try_recv().is_some()).collect::<Vec<_>>(), [true; 3]);
    assert!(late.try_recv().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_replaced_object_is_deleted_then_added() {
    let informers = Informers::new(Script::new([]).client(), Tasks::new());
    let (sender, mut subscription) = subscription::new(informers.of::<ConfigMap>());
    let object = |value| Arc::new(serde_json::from_value::<ConfigMap>(value).expect("a config map"));
    let (old, new) = (object(config_map("c", 3)), object(replaced("c", 10)));
    sender.push(&Delta::Added(old.clone()));
    assert_eq!(text(&subscription.recv().await), "added c");
    sender.push(&Delta::Deleted(old));
    sender.push(&Delta::Added(new.clone()));
    assert_eq!([text(&subscription.recv().await), text(&subscription.recv().await)], ["deleted c", "added c"]);
    sender.push(&Delta::Updated { old: new.clone(), new: object(replaced("c", 11)) });
    sender.push(&Delta::Deleted(object(replaced("c", 12))));
    assert_eq!(text(&subscription.recv().await), "deleted c");
    assert!(subscription.try_recv().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_selection_is_shared_and_ends_with_its_last_handle() {
    let script = Script::new([]);
    let informers = Informers::new(script.client(), Tasks::new());
    let first = informers.selected::<ConfigMap>("metadata.name=a", "");
    let second = informers.selected::<ConfigMap>("metadata.name=a", "");
    assert!(Arc::ptr_eq(&first.shared, &second.shared));
    script.used_up().await;
    assert!(script.requests()[0].contains("fieldSelector=metadata.name%3Da"), "{:?}", script.requests());
    let weak = Arc::downgrade(&first.shared);
    drop((first, second));
    assert!(weak.upgrade().is_none());
}
