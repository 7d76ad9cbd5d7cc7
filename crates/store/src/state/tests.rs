//! The state machine against the naive model.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::model::{self, Model};

/// Everything that can still be read is what the model has.
pub(crate) fn assert_same(state: &State, model: &Model) {
    assert_eq!((state.revision, state.compact_revision), (model.revision(), model.compact_revision));
    let all = RangeRequest::new(KeyRange::between("\0", "\0"));
    for revision in state.compact_revision.max(1)..=state.revision {
        let mut found = Found::default();
        let mut from = None;
        loop {
            from = state.scan(&all, from.as_ref(), revision, 2, &mut found).next;
            if from.is_none() {
                break;
            }
        }
        state.index.shelf.fill(&mut found.items).unwrap();
        let kvs: Vec<_> = found.items.into_iter().map(Item::into_kv).collect();
        assert_eq!(kvs, model.at(revision).values().cloned().collect::<Vec<_>>(), "at revision {revision}");
    }
    let mut events = Vec::new();
    let first = state.compact_revision.max(1);
    let mut from = Some(first);
    while let Some(revision) = from {
        from = state.index.changes_from(revision, 3, |version| {
            let kv = (!version.is_deletion()).then(|| version.to_kv(state.index.shelf.value(version).unwrap()));
            events.push((version.mod_revision, Bytes::copy_from_slice(&version.key), kv));
            1
        });
    }
    let expected: Vec<_> = model.events.iter().filter(|event| event.0 >= first).cloned().collect();
    assert_eq!(events.iter().filter(|event| event.0 >= first).cloned().collect::<Vec<_>>(), expected);
    let mut leases = state.leases.ids();
    leases.sort_unstable();
    assert_eq!(leases, model.leases.iter().copied().collect::<Vec<_>>());
    for id in leases {
        let keys = state.leases.status(id, 0).unwrap().keys;
        let leased = model.at(model.revision()).values().filter(|kv| kv.lease == id);
        assert_eq!(keys, leased.map(|kv| kv.key.clone()).collect::<Vec<_>>());
    }
}

pub(crate) fn shown(result: &Result<Option<TxnResponse>, KvError>) -> String {
    format!("{result:?}")
}

pub(crate) fn shown_reply(result: Result<Reply, KvError>) -> String {
    shown(&result.and_then(|reply| if let Reply::Txn(pending) = reply { pending.finish_now().map(Some) } else { Ok(None) }))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(seeds in proptest::collection::vec(any::<u64>(), 0..120)) {
        let mut state = State::default();
        let mut model = Model::new();
        for (n, seed) in seeds.iter().enumerate() {
            let mut rng = StdRng::seed_from_u64(*seed);
            let command = model::command(&mut rng, model.revision());
            let expected = model.apply(&command);
            if let Command::Txn(txn) = &command && crate::check::is_read_only(txn) {
                prop_assert_eq!(shown(&state.read_txn(txn).and_then(Pending::finish_now).map(Some)), shown(&expected));
            }
            let applied = state.apply(n as u64 + 1, command, 0);
            prop_assert_eq!(shown_reply(applied.result), shown(&expected));
            if seed % 7 == 0 {
                let compacted = state.compact_revision;
                state.index.sweep(compacted, (seed % 200) as Revision, 2, &mut Vec::new());
            }
        }
        assert_same(&state, &model);
        let compacted = state.compact_revision;
        while state.index.sweep(compacted, Revision::MAX, 3, &mut Vec::new()) {}
        assert_same(&state, &model);
    }
}

/// Swept long enough, the state holds nothing but what can be read.
#[test]
fn nothing_is_left_behind() {
    let mut state = State::default();
    let mut rng = StdRng::seed_from_u64(1);
    for n in 0..3000 {
        let command = model::command(&mut rng, state.revision);
        state.apply(n + 1, command, 0);
    }
    let everything = Txn {
        success: vec![
            Op::Delete(DeleteRequest { range: KeyRange::between("\0", "\0"), prev_kv: false }),
            Op::Put(PutRequest::new("z", "z")),
        ],
        ..Txn::default()
    };
    assert!(crate::check::txn(&everything, 128).is_err(), "a key is written once, so this needs two transactions");
    for op in everything.success {
        state.apply(state.applied_index + 1, Command::Txn(Txn { success: vec![op], ..Txn::default() }), 0);
    }
    state.apply(state.applied_index + 1, Command::Compact(state.revision), 0);
    let compacted = state.compact_revision;
    while state.index.sweep(compacted, Revision::MAX, 100, &mut Vec::new()) {}
    let mut one = Index::default();
    let record = Record { revision: 1, sub: 0, key: b"z", create_revision: 1, version: 1, lease: 0, length: 0 };
    one.push(&record, "z".into());
    assert_eq!(state.index.size_bytes(), one.size_bytes());
}
