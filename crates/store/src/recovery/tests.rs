//! The store on a disk that crashes: state machine, log and checkpoint together, driven from one seed, against the naive model.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;

use super::*;
use crate::commit::Proposal;
use crate::disk::sim::SimFiles;
use crate::kv::*;
use crate::model::{self, Model};
use crate::state::Command;
use crate::state::tests::{assert_same, shown, shown_reply};

fn options() -> EngineOptions {
    EngineOptions { wal_segment_bytes: 4096, checkpoint_wal_bytes: 4096, ..EngineOptions::default() }
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
                1 => keeper.save().and_then(|()| keeper.sweep()).is_ok(),
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
    keeper.save().and_then(|()| keeper.sweep()).unwrap();
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
    assert_eq!(Checkpoint::open(Arc::new(files.copy())).unwrap().1.unwrap().versions.len(), 200);
    let revision = shared.state.read().revision;
    send(&mut writer, Command::Compact(revision)).unwrap();
    keeper.save().and_then(|()| keeper.sweep()).unwrap();
    let loaded = Checkpoint::open(Arc::new(files.copy())).unwrap().1.unwrap();
    assert_eq!((loaded.versions.len(), loaded.meta.compact_revision), (10, revision));
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
        let keys = (0..20).map(|n| state.index.get(n.to_string().as_bytes(), Revision::MAX).map(|version| version.to_kv()));
        Ok::<_, KvError>(keys.collect::<Vec<_>>())
    };
    let good = values(&files.copy()).unwrap();
    let at: Vec<usize> = files.edit("checkpoint.redb", |data| (0..data.len()).filter(|at| data[*at] != 0).step_by(13).collect());
    let mut refused = 0;
    for at in at {
        let files = files.copy();
        files.edit("checkpoint.redb", |data| data[at] ^= 0x10);
        match values(&files) {
            Ok(values) => assert_eq!(values, good, "at {at}"),
            Err(error) => {
                assert!(error.to_string().contains("checkpoint"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "{refused}");
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
