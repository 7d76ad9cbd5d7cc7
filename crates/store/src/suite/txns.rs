//! Transactions: compares, branches, atomicity, nesting.

use super::*;

pub(super) async fn run(kv: &dyn Kv, prefix: &str) {
    create_update_delete(kv, &format!("{prefix}cas/")).await;
    compares(kv, &format!("{prefix}compares/")).await;
    range_compares(kv, &format!("{prefix}ranges/")).await;
    one_revision(kv, &format!("{prefix}atomic/")).await;
    nested(kv, &format!("{prefix}nested/")).await;
    refused_whole(kv, &format!("{prefix}refused/")).await;
}

fn put_op(key: &str, value: &str) -> Op {
    Op::Put(PutRequest::new(key.to_owned(), value.to_owned()))
}

fn get_op(key: &str) -> Op {
    Op::Range(RangeRequest::new(KeyRange::one(key.to_owned())))
}

fn delete_op(range: KeyRange) -> Op {
    Op::Delete(DeleteRequest { range, prev_kv: true })
}

fn when(compare: Vec<Compare>, success: Vec<Op>, failure: Vec<Op>) -> Txn {
    Txn { compare, success, failure }
}

/// The API server's three writes.
async fn create_update_delete(kv: &dyn Kv, prefix: &str) {
    let key = format!("{prefix}k");
    let at = |revision| vec![Compare::mod_revision(key.clone(), revision)];
    let created = kv.txn(when(at(0), vec![put_op(&key, "1")], vec![get_op(&key)])).await.unwrap();
    assert!(created.succeeded);
    let clash = kv.txn(when(at(0), vec![put_op(&key, "x")], vec![get_op(&key)])).await.unwrap();
    assert!(!clash.succeeded);
    assert_eq!(clash.revision, created.revision, "a read makes no revision");
    let OpResponse::Range(found) = &clash.responses[0] else { panic!("{clash:?}") };
    assert_eq!((found.kvs[0].value.as_ref(), found.kvs[0].mod_revision), (b"1".as_slice(), created.revision));
    let updated = kv.txn(when(at(created.revision), vec![put_op(&key, "2")], vec![get_op(&key)])).await.unwrap();
    assert!(updated.succeeded);
    assert_eq!(updated.revision, created.revision + 1);
    let deleted = kv.txn(when(at(updated.revision), vec![delete_op(KeyRange::one(key.clone()))], vec![])).await.unwrap();
    let OpResponse::Delete { deleted: 1, prev_kvs } = &deleted.responses[0] else { panic!("{deleted:?}") };
    assert_eq!((prev_kvs[0].value.as_ref(), prev_kvs[0].version), (b"2".as_slice(), 2));
    assert_eq!(get(kv, &key).await, None);
}

async fn compares(kv: &dyn Kv, prefix: &str) {
    let (key, missing) = (format!("{prefix}k"), format!("{prefix}missing"));
    let created = put(kv, &key, "a").await;
    let modified = put(kv, &key, "m").await;
    use CompareOp::{Equal, Greater, Less, NotEqual};
    use CompareTarget::{Create, Lease, Mod, Value, Version};
    for (key, op, target, expected) in [
        (&key, Equal, Version(2), true),
        (&key, Less, Version(2), false),
        (&key, Greater, Version(1), true),
        (&key, Equal, Create(created), true),
        (&key, NotEqual, Create(created), false),
        (&key, Less, Mod(modified + 1), true),
        (&key, Equal, Value("m".into()), true),
        (&key, Less, Value("n".into()), true),
        (&key, Greater, Value("b".into()), true),
        (&key, NotEqual, Value("m".into()), false),
        (&key, Equal, Lease(0), true),
        (&missing, Equal, Version(0), true),
        (&missing, Greater, Create(0), false),
        (&missing, Equal, Value("".into()), false),
        (&missing, NotEqual, Value("x".into()), false),
    ] {
        let compare = Compare { range: KeyRange::one(key.clone()), op, target };
        let shown = format!("{compare:?}");
        assert_eq!(kv.txn(when(vec![compare], vec![], vec![])).await.unwrap().succeeded, expected, "{shown}");
    }
}

async fn range_compares(kv: &dyn Kv, prefix: &str) {
    put(kv, &format!("{prefix}a"), "x").await;
    put(kv, &format!("{prefix}b"), "x").await;
    put(kv, &format!("{prefix}b"), "x").await;
    let check = async |prefix: &str, op, target, expected| {
        let compare = Compare { range: KeyRange::prefix(prefix.to_owned()), op, target };
        assert_eq!(kv.txn(when(vec![compare], vec![], vec![])).await.unwrap().succeeded, expected);
    };
    check(prefix, CompareOp::Equal, CompareTarget::Value("x".into()), true).await;
    check(prefix, CompareOp::Equal, CompareTarget::Version(1), false).await;
    check(prefix, CompareOp::Greater, CompareTarget::Version(0), true).await;
    let nothing = format!("{prefix}none/");
    check(&nothing, CompareOp::Equal, CompareTarget::Version(0), true).await;
    check(&nothing, CompareOp::Equal, CompareTarget::Value("x".into()), false).await;
}

async fn one_revision(kv: &dyn Kv, prefix: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    let before = put(kv, &key("old"), "0").await;
    let ops = vec![
        put_op(&key("a"), "1"),
        get_op(&key("a")),
        put_op(&key("b"), "2"),
        delete_op(KeyRange::one(key("old"))),
        Op::Range(range(prefix)),
        Op::Put(PutRequest { prev_kv: true, ..PutRequest::new(key("c"), "3") }),
    ];
    let response = kv.txn(when(vec![], ops, vec![])).await.unwrap();
    assert_eq!((response.succeeded, response.revision), (true, before + 1));
    let OpResponse::Range(own) = &response.responses[1] else { panic!("{response:?}") };
    assert_eq!((own.kvs[0].value.as_ref(), own.kvs[0].mod_revision), (b"1".as_slice(), before + 1), "it sees its own writes");
    let OpResponse::Range(all) = &response.responses[4] else { panic!("{response:?}") };
    assert_eq!(all.count, 2);
    assert!(matches!(&response.responses[5], OpResponse::Put(None)));
    let now = kv.range(range(prefix)).await.unwrap();
    assert!(now.kvs.iter().all(|kv| kv.mod_revision == before + 1 && kv.version == 1), "{now:?}");
}

async fn nested(kv: &dyn Kv, prefix: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    put(kv, &key("a"), "1").await;
    let inner = |expected: i64, name: &str| {
        let compare = Compare { range: KeyRange::one(key("a")), op: CompareOp::Equal, target: CompareTarget::Version(expected) };
        Op::Txn(when(vec![compare], vec![put_op(&key(name), "then")], vec![put_op(&key(name), "else")]))
    };
    // Every compare sees the state before the whole transaction.
    let response = kv.txn(when(vec![], vec![put_op(&key("a"), "2"), inner(1, "b"), inner(2, "c")], vec![])).await.unwrap();
    let OpResponse::Txn(first) = &response.responses[1] else { panic!("{response:?}") };
    let OpResponse::Txn(second) = &response.responses[2] else { panic!("{response:?}") };
    assert_eq!((first.succeeded, second.succeeded), (true, false));
    let all = kv.range(range(prefix)).await.unwrap();
    let values: Vec<_> = all.kvs.iter().map(|kv| text(&kv.value)).collect();
    assert_eq!(values, ["2", "then", "else"]);
    assert!(all.kvs.iter().all(|kv| kv.mod_revision == response.revision));
}

/// A transaction with one bad operation does nothing at all.
async fn refused_whole(kv: &dyn Kv, prefix: &str) {
    let key = |name: &str| format!("{prefix}{name}");
    let revision = put(kv, &key("a"), "1").await;
    let no_lease = Op::Put(PutRequest { lease: 4_242_424_242, ..PutRequest::new(key("b"), "") });
    let too_late = Op::Range(RangeRequest::new(KeyRange::one(key("a"))).at(revision + 10));
    let overlap = Op::Txn(when(vec![], vec![put_op(&key("x"), "")], vec![]));
    for (ops, expected) in [
        (vec![put_op(&key("x"), ""), no_lease], KvError::LeaseNotFound),
        (vec![put_op(&key("x"), ""), too_late], KvError::FutureRevision),
        (vec![put_op(&key("x"), ""), put_op(&key("x"), "")], KvError::DuplicateKey),
        (vec![put_op(&key("x"), ""), delete_op(KeyRange::prefix(prefix.to_owned()))], KvError::DuplicateKey),
        (vec![put_op(&key("x"), ""), overlap], KvError::DuplicateKey),
        ((0..200).map(|n| put_op(&key(&n.to_string()), "")).collect(), KvError::TooManyOps),
        (vec![put_op(&key("x"), ""), put_op("", "")], KvError::EmptyKey),
    ] {
        assert_eq!(kv.txn(when(vec![], ops, vec![])).await.unwrap_err(), expected);
    }
    let all = kv.range(range(prefix)).await.unwrap();
    assert_eq!((all.count, all.revision), (1, revision));
}
