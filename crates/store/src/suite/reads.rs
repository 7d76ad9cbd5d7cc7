//! Revisions, ranges, deletes, compaction.

use super::*;

pub(super) async fn run(kv: &dyn Kv, prefix: &str) {
    revisions(kv, &format!("{prefix}revisions/")).await;
    limits_and_order(kv, &format!("{prefix}limits/")).await;
    filters(kv, &format!("{prefix}filters/")).await;
    ranges(kv, &format!("{prefix}ranges/")).await;
    bad_requests(kv, &format!("{prefix}bad/")).await;
    compaction(kv, &format!("{prefix}compaction/")).await;
}

async fn revisions(kv: &dyn Kv, prefix: &str) {
    let key = format!("{prefix}k");
    assert_eq!(get(kv, &key).await, None);
    let first = put(kv, &key, "one").await;
    let second = put(kv, &key, "two").await;
    assert_eq!(second, first + 1);
    let now = get(kv, &key).await.unwrap();
    let expected =
        KeyValue { key: key.clone().into(), value: "two".into(), create_revision: first, mod_revision: second, version: 2, lease: 0 };
    assert_eq!(now, expected);
    let past = kv.range(RangeRequest::new(KeyRange::one(key.clone())).at(first)).await.unwrap();
    assert_eq!((past.kvs[0].value.as_ref(), past.kvs[0].version, past.revision), (b"one".as_slice(), 1, second));
    let (third, deleted) = kv.delete(KeyRange::one(key.clone())).await.unwrap();
    assert_eq!((third, deleted), (second + 1, 1));
    assert_eq!(kv.delete(KeyRange::one(key.clone())).await.unwrap(), (third, 0), "a delete of nothing makes no revision");
    assert_eq!(kv.range(RangeRequest::new(KeyRange::one(key.clone())).at(second)).await.unwrap().kvs, [now]);
    let fourth = put(kv, &key, "again").await;
    let reborn = get(kv, &key).await.unwrap();
    assert_eq!((reborn.create_revision, reborn.mod_revision, reborn.version), (fourth, fourth, 1));
    let future = kv.range(RangeRequest::new(KeyRange::one(key)).at(fourth + 1)).await;
    assert_eq!(future.unwrap_err(), KvError::FutureRevision);
}

async fn limits_and_order(kv: &dyn Kv, prefix: &str) {
    for (key, value) in [("a", "3"), ("b", "1"), ("c", "2"), ("b", "1")] {
        put(kv, &format!("{prefix}{key}"), value).await;
    }
    let page = kv.range(range(prefix).limit(2)).await.unwrap();
    assert_eq!((page.kvs.len(), page.more, page.count), (2, true, 3));
    let page = kv.range(range(prefix).limit(3)).await.unwrap();
    assert_eq!((page.kvs.len(), page.more, page.count), (3, false, 3));
    let count = kv.range(RangeRequest { count_only: true, ..range(prefix) }).await.unwrap();
    assert_eq!((count.kvs.len(), count.more, count.count), (0, false, 3));
    let bare = kv.range(RangeRequest { keys_only: true, ..range(prefix) }).await.unwrap();
    assert!(bare.kvs.iter().all(|kv| kv.value.is_empty() && kv.mod_revision > 0));
    let sorted = |sort_target, sort_order, limit| RangeRequest { sort_target, sort_order, ..range(prefix).limit(limit) };
    for (target, order, limit, expected) in [
        (SortTarget::Key, SortOrder::Descend, 0, ["c", "b", "a"].as_slice()),
        (SortTarget::Value, SortOrder::Ascend, 0, &["b", "c", "a"]),
        (SortTarget::ModRevision, SortOrder::Descend, 0, &["b", "c", "a"]),
        (SortTarget::CreateRevision, SortOrder::Descend, 2, &["c", "b"]),
        (SortTarget::Version, SortOrder::Descend, 1, &["b"]),
        (SortTarget::Value, SortOrder::None, 0, &["b", "c", "a"]),
    ] {
        assert_eq!(keys(kv, sorted(target, order, limit), prefix).await, expected, "{target:?} {order:?}");
    }
}

async fn filters(kv: &dyn Kv, prefix: &str) {
    let a = put(kv, &format!("{prefix}a"), "").await;
    let b = put(kv, &format!("{prefix}b"), "").await;
    let a2 = put(kv, &format!("{prefix}a"), "").await;
    let check = async |request: RangeRequest, expected: &[&str]| assert_eq!(keys(kv, request, prefix).await, expected);
    check(RangeRequest { min_mod_revision: b, ..range(prefix) }, &["a", "b"]).await;
    check(RangeRequest { min_mod_revision: a2, ..range(prefix) }, &["a"]).await;
    check(RangeRequest { max_mod_revision: b, ..range(prefix) }, &["b"]).await;
    check(RangeRequest { min_create_revision: b, ..range(prefix) }, &["b"]).await;
    check(RangeRequest { max_create_revision: a, ..range(prefix) }, &["a"]).await;
    let filtered = kv.range(RangeRequest { max_mod_revision: b, ..range(prefix) }).await.unwrap();
    assert_eq!(filtered.count, 2, "the count is that of the range");
}

async fn ranges(kv: &dyn Kv, prefix: &str) {
    for key in ["a", "b", "b/1", "b/2", "b0", "c"] {
        put(kv, &format!("{prefix}{key}"), "").await;
    }
    let between = |from: &str, to: &str| RangeRequest::new(KeyRange::between(format!("{prefix}{from}"), format!("{prefix}{to}")));
    assert_eq!(keys(kv, between("b", "c"), prefix).await, ["b", "b/1", "b/2", "b0"]);
    assert_eq!(keys(kv, between("c", "b"), prefix).await, [] as [&str; 0]);
    assert_eq!(keys(kv, between("b", "b"), prefix).await, [] as [&str; 0]);
    assert_eq!(keys(kv, range(&format!("{prefix}b/")), prefix).await, ["b/1", "b/2"]);
    let on = kv.range(RangeRequest::new(KeyRange::between(format!("{prefix}c"), "\0")).limit(1)).await.unwrap();
    assert_eq!(text(&on.kvs[0].key), format!("{prefix}c"));
    let (revision, deleted) = kv.delete(KeyRange::prefix(format!("{prefix}b"))).await.unwrap();
    assert_eq!(deleted, 4);
    assert_eq!(keys(kv, range(prefix), prefix).await, ["a", "c"]);
    assert_eq!(kv.range(range(prefix).at(revision - 1)).await.unwrap().count, 6, "all keys went at one revision");
}

async fn bad_requests(kv: &dyn Kv, prefix: &str) {
    let key = format!("{prefix}missing");
    let put = |change: fn(&mut PutRequest)| {
        let mut request = PutRequest::new(key.clone(), "v");
        change(&mut request);
        request
    };
    for (request, expected) in [
        (put(|request| request.key = Bytes::new()), KvError::EmptyKey),
        (put(|request| request.lease = 4_242_424_242), KvError::LeaseNotFound),
        (put(|request| request.ignore_value = true), KvError::ValueProvided),
        (put(|request| (request.ignore_lease, request.lease) = (true, 1)), KvError::LeaseProvided),
        (put(|request| request.ignore_lease = true), KvError::KeyNotFound),
        (put(|request| (request.ignore_value, request.value) = (true, Bytes::new())), KvError::KeyNotFound),
        (put(|request| request.value = vec![0u8; 4 << 20].into()), KvError::RequestTooLarge),
    ] {
        assert_eq!(kv.put(request).await.unwrap_err(), expected);
    }
    assert_eq!(kv.range(RangeRequest::new(KeyRange::one(""))).await.unwrap_err(), KvError::EmptyKey);
    assert_eq!(get(kv, &key).await, None);
}

async fn compaction(kv: &dyn Kv, prefix: &str) {
    let (a, b) = (format!("{prefix}a"), format!("{prefix}b"));
    let first = put(kv, &a, "1").await;
    put(kv, &a, "2").await;
    put(kv, &b, "1").await;
    let (gone, _) = kv.delete(KeyRange::one(b.clone())).await.unwrap();
    let last = put(kv, &a, "3").await;
    assert_eq!(kv.compact(last + 1, false).await.unwrap_err(), KvError::FutureRevision);
    kv.compact(gone, true).await.unwrap();
    let again = kv.compact(gone, false).await.unwrap_err();
    assert!(matches!(again, KvError::Compacted { .. }), "{again:?}");
    for revision in [first, gone - 1] {
        let error = kv.range(range(prefix).at(revision)).await.unwrap_err();
        assert!(matches!(error, KvError::Compacted { .. }), "{error:?}");
    }
    let kept = kv.range(range(prefix).at(gone)).await.unwrap();
    assert_eq!(kept.kvs.iter().map(|kv| text(&kv.value)).collect::<Vec<_>>(), ["2"]);
    assert_eq!(get(kv, &a).await.unwrap().version, 3);
    put(kv, &b, "2").await;
    assert_eq!(get(kv, &b).await.unwrap().version, 1);
}
