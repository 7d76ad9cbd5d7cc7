//! What is written is read again; what is damaged is refused, never a panic.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;

use bbolt::{Bucket, Database, Error, Source, Tree, Value, Writer};
use bytes::Bytes;
use proptest::prelude::*;

type Buckets = BTreeMap<Vec<u8>, BTreeMap<Vec<u8>, Vec<u8>>>;

fn write(buckets: &Buckets, page_size: u32) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), page_size);
    let mut root = Tree::default();
    for (name, entries) in buckets {
        let mut tree = Tree::default();
        for (key, value) in entries {
            writer.put(&mut tree, key.clone().into(), value.clone().into()).unwrap();
        }
        let written = writer.end(tree).unwrap();
        writer.put_bucket(&mut root, name.clone().into(), written).unwrap();
    }
    let (body, layout) = writer.finish(root).unwrap();
    let file = [layout.head(), body].concat();
    assert_eq!(file.len() as u64, layout.size_bytes());
    file
}

/// Every key with the names of the buckets around it.
fn walk<S: Source>(bucket: &Bucket<'_, S>, prefix: &[u8], depth: usize, found: &mut Vec<(Vec<u8>, Bytes)>) -> Result<(), Error> {
    for entry in bucket.entries() {
        let entry = entry?;
        let name = [prefix, &entry.key].join(&b'/');
        match entry.value {
            Value::Bytes(value) => found.push((name, value)),
            Value::Bucket(inner) if depth < 8 => walk(&inner, &name, depth + 1, found)?,
            Value::Bucket(_) => {}
        }
    }
    Ok(())
}

fn read(file: Vec<u8>) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
    let database = Database::new(file)?;
    let mut found = Vec::new();
    walk(&database.root(), b"", 0, &mut found)?;
    Ok(found)
}

fn check(buckets: &Buckets, page_size: u32) {
    let database = Database::new(write(buckets, page_size)).unwrap();
    assert_eq!(database.check().unwrap(), Vec::<String>::new());
    let mut found = Buckets::new();
    for entry in database.root().entries() {
        let entry = entry.unwrap();
        let Value::Bucket(bucket) = entry.value else { panic!("only buckets are in the root") };
        let mut entries = BTreeMap::new();
        for entry in bucket.entries() {
            let entry = entry.unwrap();
            let Value::Bytes(value) = entry.value else { panic!("no buckets are in buckets") };
            assert_eq!(bucket.get(&entry.key).unwrap().unwrap(), value);
            entries.insert(entry.key.to_vec(), value.to_vec());
        }
        assert_eq!(bucket.last_key().unwrap().map(|key| key.to_vec()), entries.keys().next_back().cloned());
        assert!(bucket.get(b"\xff\xffabsent").unwrap().is_none());
        assert!(database.root().bucket(&entry.key).unwrap().is_some());
        found.insert(entry.key.to_vec(), entries);
    }
    assert_eq!(&found, buckets);
}

fn numbered(count: usize, value_bytes: impl Fn(usize) -> usize) -> BTreeMap<Vec<u8>, Vec<u8>> {
    (0..count).map(|n| (format!("key{n:08}").into_bytes(), vec![n as u8; value_bytes(n)])).collect()
}

#[test]
fn sizes_of_all_kinds() {
    for page_size in [1024, 4096, 65536] {
        check(&Buckets::new(), page_size);
        check(&Buckets::from([(b"empty".to_vec(), BTreeMap::new())]), page_size);
        for count in [1, 2, 3, 4, 5, 6, 50, 100, 5000] {
            check(&Buckets::from([(b"small".to_vec(), numbered(count, |_| 10)), (b"zero".to_vec(), numbered(count, |_| 0))]), page_size);
        }
        check(&Buckets::from([(b"large".to_vec(), numbered(30, |n| n * 3000))]), page_size);
        check(&Buckets::from([(b"mixed".to_vec(), numbered(300, |n| if n % 7 == 0 { 9000 } else { n % 50 }))]), page_size);
        check(&(0..300).map(|n| (format!("bucket{n}").into_bytes(), numbered(n % 9, |_| 100))).collect(), page_size);
    }
}

/// bbolt wants two children of each branch when it merges pages later (node.go, rebalance).
#[test]
fn branches_have_two_children() {
    for count in 1..700 {
        let file = write(&Buckets::from([(b"b".to_vec(), numbered(count, |n| n % 100))]), 1024);
        for page in file.chunks(1024).skip(2).filter(|page| page[8] == 1) {
            assert!(page[10] >= 2, "{count} keys make a branch with {} children", page[10]);
        }
    }
}

#[test]
fn buckets_in_buckets() {
    let mut writer = Writer::new(Vec::new(), 4096);
    let mut inner = Tree::default();
    writer.put(&mut inner, "a".into(), "1".into()).unwrap();
    let inner = writer.end(inner).unwrap();
    let mut outer = Tree::default();
    writer.put_bucket(&mut outer, "in".into(), inner).unwrap();
    writer.put(&mut outer, "z".into(), "2".into()).unwrap();
    let outer = writer.end(outer).unwrap();
    let mut root = Tree::default();
    writer.put_bucket(&mut root, "out".into(), outer).unwrap();
    let (body, layout) = writer.finish(root).unwrap();
    let file = [layout.head(), body].concat();
    let found = read(file.clone()).unwrap();
    assert_eq!(found, [(b"/out/in/a".to_vec(), Bytes::from("1")), (b"/out/z".to_vec(), Bytes::from("2"))]);
    assert_eq!(Database::new(file).unwrap().check().unwrap(), Vec::<String>::new());
}

#[test]
fn the_writer_refuses() {
    let mut writer = Writer::new(Vec::new(), 4096);
    let mut tree = Tree::default();
    writer.put(&mut tree, "b".into(), "".into()).unwrap();
    assert!(matches!(writer.put(&mut tree, "b".into(), "".into()), Err(Error::Order)));
    assert!(matches!(writer.put(&mut tree, "a".into(), "".into()), Err(Error::Order)));
    assert!(matches!(writer.put(&mut tree, "".into(), "".into()), Err(Error::Size { .. })));
    assert!(matches!(writer.put(&mut tree, vec![b'c'; 32_769].into(), "".into()), Err(Error::Size { .. })));
}

#[test]
fn damage_is_named() {
    let good = write(&Buckets::from([(b"b".to_vec(), numbered(1000, |_| 50))]), 4096);
    let change = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] ^= byte;
        file
    };
    let fails = |file: Vec<u8>, expected: &str| {
        let said = read(file.clone()).expect_err(expected).to_string();
        assert!(said.contains(expected), "{said} instead of {expected}");
        let checked = Database::new(file).and_then(|database| database.check());
        assert!(checked.map_or(true, |faults| !faults.is_empty()), "{expected}");
    };
    // One meta page is enough.
    assert_eq!(read(change(20, 1)).unwrap().len(), 1000);
    assert_eq!(read(change(4096 + 20, 1)).unwrap().len(), 1000);
    fails(vec![], "invalid database");
    fails(vec![0; 20_000], "invalid database");
    fails(good[..good.len() - 1].to_vec(), "it was cut off");
    fails(change(2 * 4096, 1), "page 2: its header has another number");
    fails(change(2 * 4096 + 8, 0xff), "page 2: invalid type");
    fails(change(2 * 4096 + 11, 0x7f), "page 2: its elements do not fit");
    fails(change(2 * 4096 + 15, 1), "page 2: its overflow is outside of the file");
    fails(change(2 * 4096 + 16 + 7, 1), "page 2: an element reaches beyond its end");
}

fn files() -> Vec<Vec<u8>> {
    vec![
        write(&Buckets::from([(b"b".to_vec(), numbered(200, |n| n % 60)), (b"c".to_vec(), numbered(3, |_| 2000))]), 1024),
        write(&(0..40).map(|n| (format!("bucket{n}").into_bytes(), numbered(n % 9, |_| 10))).collect(), 4096),
    ]
}

/// Numbers that are likely to lead somewhere: small ones are pages, flags and sizes.
fn number() -> impl Strategy<Value = u8> {
    prop_oneof![0..32u8, any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files_never_panic(which in 0..2usize, changes in proptest::collection::vec((any::<prop::sample::Index>(), number()), 1..20)) {
        let mut file = files().swap_remove(which);
        // Behind the meta pages, whose checksum would refuse most changes.
        let start = if which == 0 { 2048 } else { 8192 };
        for (at, byte) in changes {
            let at = start + at.index((file.len() - start).min(6000));
            file[at] = byte;
        }
        let _ = read(file.clone());
        if let Ok(database) = Database::new(file) {
            let _ = database.check();
            let _ = database.root().bucket(b"b").map(|bucket| bucket.map(|bucket| bucket.get(b"key00000100").map(|_| ())));
        }
    }

    #[test]
    fn any_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        let _ = read(bytes);
    }
}
