//! Watches: ordered, complete, atomic, resumable.

use super::*;

pub(super) async fn run(kv: &dyn Kv, prefix: &str) {
    from_now_and_from_then(kv, &format!("{prefix}start/")).await;
    whole_revisions(kv, &format!("{prefix}whole/")).await;
    previous_and_filters(kv, &format!("{prefix}filters/")).await;
    shapes(kv, &format!("{prefix}shapes/")).await;
    future(kv, &format!("{prefix}future/")).await;
    progress(kv, &format!("{prefix}progress/")).await;
    a_slow_watcher_misses_nothing(kv, &format!("{prefix}slow/")).await;
    compacted(kv, &format!("{prefix}compacted/")).await;
}

async fn watch(kv: &dyn Kv, prefix: &str, start: Revision) -> Box<dyn Watch> {
    kv.watch(WatchRequest::new(KeyRange::prefix(prefix.to_owned()), start)).await.unwrap()
}

async fn from_now_and_from_then(kv: &dyn Kv, prefix: &str) {
    let key = format!("{prefix}k");
    let first = put(kv, &key, "1").await;
    let mut now = watch(kv, prefix, 0).await;
    let mut then = watch(kv, prefix, first).await;
    let second = put(kv, &key, "2").await;
    let (third, _) = kv.delete(KeyRange::one(key.clone())).await.unwrap();
    let all = events_of(&mut then, 3).await;
    let seen: Vec<_> = all.iter().map(|event| (event.kind, event.kv.mod_revision, event.is_create())).collect();
    assert_eq!(seen, [(EventKind::Put, first, true), (EventKind::Put, second, false), (EventKind::Delete, third, false)]);
    assert_eq!(
        all[1].kv,
        KeyValue { key: key.clone().into(), value: "2".into(), create_revision: first, mod_revision: second, version: 2, lease: 0 }
    );
    assert_eq!(all[2].kv, KeyValue { key: key.into(), mod_revision: third, ..KeyValue::default() });
    assert!(all.iter().all(|event| event.prev_kv.is_none()));
    let late = events_of(&mut now, 2).await;
    assert_eq!(late[0].kv.mod_revision, second);
}

async fn whole_revisions(kv: &dyn Kv, prefix: &str) {
    let mut live = watch(kv, prefix, 0).await;
    let ops = (0..20).map(|n| Op::Put(PutRequest::new(format!("{prefix}{n:02}"), "v"))).collect();
    let revision = kv.txn(Txn { success: ops, ..Txn::default() }).await.unwrap().revision;
    let mut past = watch(kv, prefix, revision).await;
    for watch in [&mut live, &mut past] {
        let events = events(watch).await;
        assert_eq!(events.len(), 20, "a revision is delivered whole");
        assert!(events.iter().all(|event| event.kv.mod_revision == revision));
    }
}

async fn previous_and_filters(kv: &dyn Kv, prefix: &str) {
    let key = format!("{prefix}k");
    let request = |start| WatchRequest::new(KeyRange::one(key.clone()), start);
    let mut live = kv.watch(WatchRequest { prev_kv: true, ..request(0) }).await.unwrap();
    let first = put(kv, &key, "1").await;
    put(kv, &key, "2").await;
    kv.delete(KeyRange::one(key.clone())).await.unwrap();
    put(kv, &key, "3").await;
    let mut past = kv.watch(WatchRequest { prev_kv: true, ..request(first) }).await.unwrap();
    for watch in [&mut live, &mut past] {
        let events = events_of(watch, 4).await;
        let before: Vec<_> = events.iter().map(|event| event.prev_kv.as_ref().map(|kv| text(&kv.value).to_owned())).collect();
        assert_eq!(before, [None, Some("1".to_owned()), Some("2".to_owned()), None]);
    }
    let mut deletes = kv.watch(WatchRequest { no_put: true, ..request(first) }).await.unwrap();
    assert_eq!(events_of(&mut deletes, 1).await[0].kind, EventKind::Delete);
    let mut puts = kv.watch(WatchRequest { no_delete: true, ..request(first) }).await.unwrap();
    assert!(events_of(&mut puts, 3).await.iter().all(|event| event.kind == EventKind::Put));
}

async fn shapes(kv: &dyn Kv, prefix: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    let start = kv.status().await.unwrap().revision + 1;
    let ranges = || {
        [
            (KeyRange::one(key("b")), "b"),
            (KeyRange::prefix(key("b")), "b b1 b2"),
            (KeyRange::between(key("a"), key("b1")), "a b"),
            (KeyRange::between(key("b2"), "\0"), "b2 c"),
            (KeyRange::prefix(prefix.to_owned()), "a b b1 b2 c"),
        ]
    };
    let mut watches = Vec::new();
    for (range, expected) in ranges() {
        watches.push((kv.watch(WatchRequest::new(range, 0)).await.unwrap(), expected));
    }
    for name in ["a", "b", "b1", "b2", "c"] {
        put(kv, &key(name), name).await;
    }
    for (range, expected) in ranges() {
        watches.push((kv.watch(WatchRequest::new(range, start)).await.unwrap(), expected));
    }
    for (mut watch, expected) in watches {
        let events = events_of(&mut watch, expected.split(' ').count()).await;
        assert_eq!(events.iter().map(|event| text(&event.kv.value)).collect::<Vec<_>>().join(" "), expected);
    }
}

async fn future(kv: &dyn Kv, prefix: &str) {
    let revision = put(kv, &format!("{prefix}k"), "0").await;
    let mut later = watch(kv, prefix, revision + 3).await;
    for value in ["1", "2", "3", "4"] {
        put(kv, &format!("{prefix}k"), value).await;
    }
    let events = events_of(&mut later, 2).await;
    assert_eq!(text(&events[0].kv.value), "3");
}

async fn progress(kv: &dyn Kv, prefix: &str) {
    let mut watch = watch(kv, prefix, 0).await;
    put(kv, &format!("{prefix}k"), "1").await;
    let elsewhere = put(kv, &format!("{}-elsewhere", prefix.trim_end_matches('/')), "1").await;
    watch.request_progress().await.unwrap();
    let mut seen = 0;
    loop {
        let response = tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("progress within a minute").unwrap();
        seen += response.events.len();
        if response.events.is_empty() && response.revision >= elsewhere {
            break;
        }
    }
    assert_eq!(seen, 1, "progress comes after the events that it covers");
}

async fn a_slow_watcher_misses_nothing(kv: &dyn Kv, prefix: &str) {
    const COUNT: usize = 6000;
    let mut slow = watch(kv, prefix, 0).await;
    let writes = (0..COUNT / 100).map(|batch| {
        let ops = (0..100).map(|n| Op::Put(PutRequest::new(format!("{prefix}{n:03}"), format!("{batch}")))).collect();
        kv.txn(Txn { success: ops, ..Txn::default() })
    });
    for write in writes {
        write.await.unwrap();
    }
    let events = events_of(&mut slow, COUNT).await;
    assert!(
        events
            .is_sorted_by(|a, b| a.kv.mod_revision < b.kv.mod_revision || (a.kv.mod_revision == b.kv.mod_revision && a.kv.key < b.kv.key))
    );
    let last = put(kv, &format!("{prefix}last"), "").await;
    assert_eq!(events_of(&mut slow, 1).await[0].kv.mod_revision, last);
}

async fn compacted(kv: &dyn Kv, prefix: &str) {
    let first = put(kv, &format!("{prefix}k"), "1").await;
    put(kv, &format!("{prefix}k"), "2").await;
    let last = put(kv, &format!("{prefix}k"), "3").await;
    kv.compact(last, true).await.unwrap();
    let error = failure(kv.watch(WatchRequest::new(KeyRange::prefix(prefix.to_owned()), first)).await).await;
    assert_eq!(error, KvError::Compacted { compact_revision: last });
    let mut from_last = watch(kv, prefix, last).await;
    assert_eq!(text(&events_of(&mut from_last, 1).await[0].kv.value), "3");
}
