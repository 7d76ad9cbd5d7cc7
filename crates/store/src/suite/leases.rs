//! Leases: attaching, renewing, ending.

use super::*;

pub(super) async fn run(kv: &dyn Kv, prefix: &str) {
    grants(kv).await;
    revoking_deletes(kv, &format!("{prefix}revoke/")).await;
    attaching(kv, &format!("{prefix}attach/")).await;
    ending(kv, &format!("{prefix}end/")).await;
}

const HOUR: Duration = Duration::from_secs(3600);

async fn put_leased(kv: &dyn Kv, key: &str, lease: LeaseId) -> Revision {
    kv.put(PutRequest { lease, ..PutRequest::new(key.to_owned(), "v") }).await.unwrap()
}

async fn grants(kv: &dyn Kv) {
    let chosen = kv.lease_grant(0, HOUR).await.unwrap();
    assert!(chosen.id > 0);
    assert_eq!(chosen.granted_ttl, HOUR);
    assert_eq!(kv.lease_grant(chosen.id, HOUR).await.unwrap_err(), KvError::LeaseExists);
    assert_eq!(kv.lease_grant(0, Duration::from_secs(9_000_000_001)).await.unwrap_err(), KvError::LeaseTtlTooLarge);
    assert!(kv.leases().await.unwrap().contains(&chosen.id));
    assert_eq!(kv.lease_keep_alive(chosen.id).await.unwrap(), HOUR);
    kv.lease_revoke(chosen.id).await.unwrap();
    assert_eq!(kv.lease_revoke(chosen.id).await.unwrap_err(), KvError::LeaseNotFound);
    assert_eq!(kv.lease_keep_alive(chosen.id).await.unwrap_err(), KvError::LeaseNotFound);
    assert_eq!(kv.lease_status(chosen.id).await.unwrap_err(), KvError::LeaseNotFound);
    assert!(!kv.leases().await.unwrap().contains(&chosen.id));
}

async fn revoking_deletes(kv: &dyn Kv, prefix: &str) {
    let lease = kv.lease_grant(0, HOUR).await.unwrap().id;
    for name in ["b", "a", "c"] {
        put_leased(kv, &format!("{prefix}{name}"), lease).await;
    }
    let before = kv.status().await.unwrap().revision;
    let mut watch = kv.watch(WatchRequest::new(KeyRange::prefix(prefix.to_owned()), 0)).await.unwrap();
    kv.lease_revoke(lease).await.unwrap();
    let gone = events(&mut watch).await;
    assert_eq!(gone.len(), 3);
    assert!(gone.iter().all(|event| event.kind == EventKind::Delete && event.kv.mod_revision == before + 1), "{gone:?}");
    assert_eq!(kv.range(range(prefix)).await.unwrap().count, 0);
}

async fn attaching(kv: &dyn Kv, prefix: &str) {
    let first = kv.lease_grant(0, HOUR).await.unwrap().id;
    let second = kv.lease_grant(0, HOUR).await.unwrap().id;
    let key = |name: &str| format!("{prefix}{name}");
    for name in ["moved", "freed", "deleted", "kept"] {
        put_leased(kv, &key(name), first).await;
    }
    put_leased(kv, &key("moved"), second).await;
    put(kv, &key("freed"), "").await;
    kv.delete(KeyRange::one(key("deleted"))).await.unwrap();
    let keep = PutRequest { ignore_lease: true, ..PutRequest::new(key("kept"), "new") };
    kv.put(keep).await.unwrap();
    let kept = get(kv, &key("kept")).await.unwrap();
    assert_eq!((kept.lease, text(&kept.value)), (first, "new"));
    let revalue = PutRequest { ignore_value: true, lease: second, ..PutRequest::new(key("freed"), "") };
    kv.put(revalue).await.unwrap();
    assert_eq!(kv.lease_status(first).await.unwrap().keys, [key("kept")]);
    let mut of_second = kv.lease_status(second).await.unwrap().keys;
    of_second.sort();
    assert_eq!(of_second, [key("freed"), key("moved")]);
    kv.lease_revoke(first).await.unwrap();
    let left = kv.range(range(prefix)).await.unwrap();
    assert_eq!(left.kvs.iter().map(|kv| text(&kv.key).to_owned()).collect::<Vec<_>>(), [key("freed"), key("moved")]);
    kv.lease_revoke(second).await.unwrap();
    assert_eq!(kv.range(range(prefix)).await.unwrap().count, 0);
}

async fn ending(kv: &dyn Kv, prefix: &str) {
    let lease = kv.lease_grant(0, Duration::from_secs(2)).await.unwrap();
    assert_eq!(lease.granted_ttl, Duration::from_secs(2));
    put_leased(kv, &format!("{prefix}a"), lease.id).await;
    put_leased(kv, &format!("{prefix}b"), lease.id).await;
    let status = kv.lease_status(lease.id).await.unwrap();
    assert!(status.remaining_ttl <= status.granted_ttl);
    let mut watch = kv.watch(WatchRequest::new(KeyRange::prefix(prefix.to_owned()), 0)).await.unwrap();
    let gone = events(&mut watch).await;
    assert_eq!(gone.len(), 2);
    assert_eq!(gone[0].kv.mod_revision, gone[1].kv.mod_revision, "one revision");
    assert_eq!(kv.lease_status(lease.id).await.unwrap_err(), KvError::LeaseNotFound);
}
