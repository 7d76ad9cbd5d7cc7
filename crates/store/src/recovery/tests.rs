//! The store on a disk that crashes: state machine, log and checkpoint together, driven from one seed, against the naive model.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

use super::*;
use crate::commit::Proposal;
use crate::disk::sim::SimFiles;
use crate::index::{Found, Keep};
use crate::kv::*;
use crate::model::{self, Model};
use crate::state::Command;
use crate::state::tests::{assert_same, shown, shown_reply};

fn options() -> EngineOptions {
    EngineOptions { wal_segment_bytes: 4096, checkpoint_wal_bytes: 4096, value_cache_bytes: 500, ..EngineOptions::default() }
}

fn start(files: &SimFiles) -> Result<Recovered, KvError> {
    recover(Arc::new(files.clone()), Arc::new(files.clone()), &options())
}

struct Simulation {
    rng: StdRng,
    files: SimFiles,
    /// What was acknowledged.
    model: Model,
    /// A batch whose fate the crash hid.
    unknown: Vec<Command>,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed), files: SimFiles::new(), model: Model::new(), unknown: Vec::new() }
    }

    /// From one start to the next crash.
    fn life(&mut self) {
        self.files.restart(self.rng.random());
        if self.rng.random_bool(0.2) {
            // The power may go while the store is still starting.
            self.files.power_off_after(self.rng.random_range(1..8));
            drop(start(&self.files));
            self.files.restart(self.rng.random());
        }
        let Recovered { shared, mut writer, mut keeper } = start(&self.files).expect("a crash never damages the store");
        self.settle(shared.state.read().applied_index);
        assert_same(&shared.state.read(), &self.model);
        self.files.power_off_after(self.rng.random_range(1..150));
        loop {
            let alive = match self.rng.random_range(0..12) {
                0 => keeper.save().is_ok(),
                1 => keeper.save().and_then(|()| keeper.sweep(&|_| ())).is_ok(),
                _ => self.batch(&mut writer),
            };
            if !alive {
                return;
            }
        }
    }

    /// Finds out whether the batch of the crash was done: whole or not at all.
    fn settle(&mut self, applied: u64) {
        let unknown = std::mem::take(&mut self.unknown);
        if applied == self.model.applied {
            return;
        }
        assert_eq!(applied, self.model.applied + unknown.len() as u64, "nothing acknowledged is lost, a batch is done whole");
        for command in &unknown {
            let _ = self.model.apply(command);
        }
    }

    fn batch(&mut self, writer: &mut Writer) -> bool {
        let mut answers = Vec::new();
        let mut batch = Vec::new();
        for _ in 0..self.rng.random_range(1..5) {
            let command = model::command(&mut self.rng, self.model.revision());
            let (reply, answer) = oneshot::channel();
            self.unknown.push(command.clone());
            answers.push(answer);
            batch.push(Proposal { encoded: codec::encode(&command), command, reply });
        }
        writer.commit(batch);
        let mut done = Vec::new();
        for mut answer in answers {
            match answer.try_recv().expect("the writer answers") {
                Err(KvError::Unavailable(_)) => return false,
                answer => done.push(answer),
            }
        }
        for (command, answer) in std::mem::take(&mut self.unknown).iter().zip(done) {
            assert_eq!(shown_reply(answer), shown(&self.model.apply(command)), "{command:?}");
        }
        true
    }
}

#[test]
fn crashes_lose_nothing() {
    for seed in 0..60 {
        let mut simulation = Simulation::new(seed);
        let lives = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..8 {
                simulation.life();
            }
        }));
        if let Err(panic) = lives {
            eprintln!("seed {seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn put(writer: &mut Writer, key: &str) -> Result<(), KvError> {
    let command = Command::Txn(Txn { success: vec![Op::Put(PutRequest::new(key.to_owned(), vec![1; 400]))], ..Txn::default() });
    send(writer, command)
}

fn send(writer: &mut Writer, command: Command) -> Result<(), KvError> {
    let (reply, mut answer) = oneshot::channel();
    writer.commit(vec![Proposal { encoded: codec::encode(&command), command, reply }]);
    answer.try_recv().unwrap().map(|_| ())
}

/// On a full disk puts are refused, reads and what makes room go on, and with space everything does.
#[test]
fn a_full_disk() {
    let files = SimFiles::new();
    let Recovered { shared, mut writer, mut keeper } = start(&files).unwrap();
    put(&mut writer, "a").unwrap();
    files.set_free(Some(0));
    let mut key = 0;
    let refused = loop {
        key += 1;
        match put(&mut writer, &key.to_string()) {
            Ok(()) => assert!(key < 100, "a full disk takes no more"),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, KvError::NoSpace);
    assert!(shared.state.read().index.get(b"a", Revision::MAX).is_some());
    let everything = DeleteRequest { range: KeyRange::between("\0", "\0"), prev_kv: false };
    send(&mut writer, Command::Txn(Txn { success: vec![Op::Delete(everything)], ..Txn::default() })).unwrap();
    let revision = shared.state.read().revision;
    send(&mut writer, Command::Compact(revision)).unwrap();
    files.set_free(None);
    keeper.save().and_then(|()| keeper.sweep(&|_| ())).unwrap();
    put(&mut writer, "b").unwrap();
    drop((writer, keeper));
    let again = start(&files).unwrap();
    assert!(again.shared.state.read().index.get(b"b", Revision::MAX).is_some());
    assert!(again.shared.state.read().index.get(b"a", Revision::MAX).is_none());
}

/// A checkpoint makes the log short, and what is compacted leaves the checkpoint.
#[test]
fn a_checkpoint_replaces_the_log() {
    let files = SimFiles::new();
    let Recovered { shared, mut writer, mut keeper } = start(&files).unwrap();
    for n in 0..200 {
        put(&mut writer, &(n % 10).to_string()).unwrap();
    }
    let before = writer.wal.segments().size_bytes();
    keeper.save().unwrap();
    assert!(writer.wal.segments().size_bytes() < before / 4);
    assert_eq!(Checkpoint::open(Arc::new(files.copy()), 4096).unwrap().1.unwrap().versions.len(), 200);
    let revision = shared.state.read().revision;
    send(&mut writer, Command::Compact(revision)).unwrap();
    keeper.save().and_then(|()| keeper.sweep(&|_| ())).unwrap();
    let loaded = Checkpoint::open(Arc::new(files.copy()), 4096).unwrap().1.unwrap();
    assert_eq!((loaded.versions.len(), loaded.saved.meta.compact_revision), (10, revision));
}

/// Damage anywhere in the checkpoint is refused or harmless, never a wrong value.
#[test]
fn a_damaged_checkpoint_is_refused() {
    let files = SimFiles::new();
    let Recovered { mut writer, mut keeper, .. } = start(&files).unwrap();
    for n in 0..20 {
        put(&mut writer, &n.to_string()).unwrap();
    }
    keeper.save().unwrap();
    drop((writer, keeper));
    let values = |files: &SimFiles| {
        let recovered = start(files)?;
        let state = recovered.shared.state.read();
        let keys = (0..20).map(|n| {
            let version = state.index.get(n.to_string().as_bytes(), Revision::MAX).expect("the key is there");
            Ok(version.to_kv(state.index.shelf.value(version)?))
        });
        keys.collect::<Result<Vec<_>, KvError>>()
    };
    let good = values(&files.copy()).unwrap();
    for name in ["checkpoint", "0000000001.segment"] {
        let length = files.edit(name, |data| data.len());
        for at in (0..length).step_by(7) {
            let files = files.copy();
            files.edit(name, |data| data[at] ^= 0x10);
            match values(&files) {
                // Unused bytes.
                Ok(values) => assert_eq!(values, good, "{name} at {at}"),
                Err(error) => assert!(matches!(&error, KvError::Corrupt(text) if text.contains("checkpoint")), "{name} at {at}: {error}"),
            }
        }
        let gone = files.copy();
        gone.edit(name, |data| data.truncate(length / 2));
        assert!(matches!(values(&gone), Err(KvError::Corrupt(_))), "{name} is cut off");
        files.copy().remove(name).unwrap();
    }
}

/// Values come from the disk when there is no memory for them, and damage of one is seen when it is read.
#[test]
fn values_are_read_from_the_disk() {
    let files = SimFiles::new();
    let options = EngineOptions { value_cache_bytes: 1000, ..options() };
    let Recovered { shared, mut writer, mut keeper } = recover(Arc::new(files.clone()), Arc::new(files.clone()), &options).unwrap();
    for n in 0..50 {
        put(&mut writer, &n.to_string()).unwrap();
    }
    let resident = || {
        (0..50)
            .filter(|n: &u32| shared.state.read().index.get(n.to_string().as_bytes(), Revision::MAX).unwrap().resident().is_some())
            .count()
    };
    assert_eq!(resident(), 50, "what is not saved stays");
    keeper.save().unwrap();
    assert!(resident() < 4, "what is saved makes room");
    let all = || {
        let state = shared.state.read();
        let mut found = Found::default();
        state.index.scan(&KeyRange::between("\0", "\0"), None, Revision::MAX, Keep::ALL, usize::MAX, &mut found);
        let shelf = state.index.shelf.clone();
        drop(state);
        shelf.fill(&mut found.items).map(|()| found.items)
    };
    assert!(all().unwrap().iter().all(|item| item.value.as_deref() == Some(&[1; 400])));
    let revision = shared.state.read().revision;
    send(
        &mut writer,
        Command::Txn(Txn {
            success: vec![Op::Delete(DeleteRequest { range: KeyRange::between("0", "4"), prev_kv: true })],
            ..Txn::default()
        }),
    )
    .unwrap();
    send(&mut writer, Command::Compact(revision + 1)).unwrap();
    let before = all().unwrap().len();
    keeper.save().and_then(|()| keeper.sweep(&|_| ())).unwrap();
    assert_eq!(all().unwrap().len(), before);
    let bytes: u64 =
        files.list().unwrap().iter().filter(|name| name.ends_with(".segment")).map(|name| files.open(name).unwrap().len().unwrap()).sum();
    assert!(bytes < 20 * 450, "compaction gives the space back: {bytes}");
    let last = files.list().unwrap().into_iter().rfind(|name| name.ends_with(".segment")).unwrap();
    files.edit(&last, |data| *data.last_mut().unwrap() ^= 1);
    let damaged = (0..50).any(|_| matches!(all(), Err(KvError::Corrupt(_))));
    assert!(damaged);
}

#[test]
fn leases_and_their_keys_survive() {
    let files = SimFiles::new();
    let Recovered { mut writer, mut keeper, .. } = start(&files).unwrap();
    send(&mut writer, Command::LeaseGrant { id: 5, ttl_ms: 3_600_000 }).unwrap();
    let leased = |key: &'static str| {
        Command::Txn(Txn { success: vec![Op::Put(PutRequest { lease: 5, ..PutRequest::new(key, "v") })], ..Txn::default() })
    };
    send(&mut writer, leased("a")).unwrap();
    keeper.save().unwrap();
    send(&mut writer, leased("b")).unwrap();
    send(&mut writer, Command::LeaseCheckpoint(vec![(5, 1000)])).unwrap();
    drop((writer, keeper));
    let again = start(&files).unwrap();
    let status = again.shared.state.read().leases.status(5, 0).unwrap();
    assert_eq!(status.keys, ["a", "b"]);
    assert_eq!(status.granted_ttl.as_secs(), 3600);
}
