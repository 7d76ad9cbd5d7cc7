//! The cluster that the tests drive.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::auth::Identity;
use crate::disk::Files;
use crate::disk::sim::SimFiles;
use crate::engine::Engine;
use crate::keeper::Keeper;
use crate::kv::*;
use crate::options::EngineOptions;
use crate::raft::*;

pub fn options() -> EngineOptions {
    EngineOptions { wal_segment_bytes: 4096, checkpoint_wal_bytes: 4096, ..EngineOptions::default() }
}

pub fn member(id: u64, is_learner: bool) -> Member {
    Member { id, peer_urls: vec![format!("http://member-{id}")], is_learner, ..Member::default() }
}

/// Delivers at once or not at all.
pub struct Net {
    engines: Mutex<BTreeMap<u64, Engine>>,
    cut: Mutex<HashSet<(u64, u64)>>,
    changed: Mutex<Instant>,
}

pub struct Port {
    net: Arc<Net>,
    id: u64,
}

impl Net {
    pub fn port(self: &Arc<Self>, id: u64) -> Arc<dyn Transport> {
        Arc::new(Port { net: self.clone(), id })
    }

    pub fn split(&self, some: &[u64], others: &[u64]) {
        let mut cut = self.cut.lock();
        for a in some {
            for b in others {
                cut.extend([(*a, *b), (*b, *a)]);
            }
        }
    }

    pub fn cut_off(&self, id: u64) {
        let others: Vec<u64> = self.engines.lock().keys().copied().filter(|other| *other != id).collect();
        self.split(&[id], &others);
    }

    pub fn heal(&self) {
        self.cut.lock().clear();
        *self.changed.lock() = Instant::now();
    }

    fn reach(&self, from: u64, to: u64) -> Option<Engine> {
        if self.cut.lock().contains(&(from, to)) { None } else { self.engines.lock().get(&to).cloned() }
    }
}

impl Transport for Port {
    fn send(&self, to: u64, message: Bytes, _: MessageKind) {
        if let Some(engine) = self.net.reach(self.id, to) {
            engine.receive(self.id, message);
        }
    }

    fn send_snapshot(&self, to: u64, mut snapshot: OutgoingSnapshot) {
        let (from, net) = (self.id, self.net.clone());
        tokio::task::spawn_blocking(move || {
            let mut chunks = std::iter::from_fn(|| snapshot.next_chunk().transpose());
            let ok = net.reach(from, to).is_some_and(|engine| engine.receive_snapshot(from, &mut chunks).is_ok());
            if let Some(engine) = net.reach(from, from) {
                engine.snapshot_sent(to, ok);
            }
        });
    }

    fn ask(&self, to: u64, question: Bytes) -> Answer {
        let (from, net) = (self.id, self.net.clone());
        Box::pin(async move {
            match net.reach(from, to) {
                Some(engine) => engine.answer(from, question).await,
                None => Err(KvError::Unavailable("cut off".into())),
            }
        })
    }

    fn members_changed(&self, _: &[Member]) {}

    fn connected_for(&self, peer: u64) -> Option<Duration> {
        self.net.reach(self.id, peer).map(|_| self.net.changed.lock().elapsed())
    }
}

struct Node {
    files: (SimFiles, SimFiles),
    engine: Engine,
    work: JoinHandle<()>,
}

pub struct Cluster {
    pub net: Arc<Net>,
    nodes: BTreeMap<u64, Node>,
    first: Vec<Member>,
    lives: u64,
}

impl Cluster {
    /// A new cluster of so many members, whose ids count from 1, with a leader.
    pub async fn start(size: u64) -> Self {
        Self::start_on(size, |_, _| (SimFiles::new(), SimFiles::new())).await
    }

    /// The same on files that are there, of each id in a cluster of these members.
    pub async fn start_on(size: u64, files: impl Fn(u64, &[Member]) -> (SimFiles, SimFiles)) -> Self {
        let net = Net { engines: Mutex::default(), cut: Mutex::default(), changed: Mutex::new(Instant::now()) };
        let first: Vec<Member> = (1..=size).map(|id| member(id, false)).collect();
        let mut cluster = Self { net: Arc::new(net), nodes: BTreeMap::new(), first: first.clone(), lives: 0 };
        for id in 1..=size {
            cluster.open(id, files(id, &first), Bootstrap::New(first.clone()));
        }
        for id in 1..=size {
            cluster.engine(id).publish(format!("m{id}"), vec![format!("http://client-{id}")]).await.unwrap();
        }
        cluster
    }

    fn open(&mut self, id: u64, files: (SimFiles, SimFiles), bootstrap: Bootstrap) {
        self.lives += 1;
        let member = MemberOptions { seed: Some(self.lives * 1000 + id), snapshot_count: 50, ..MemberOptions::new(0xc, id, bootstrap) };
        let (main, log): (Arc<dyn Files>, Arc<dyn Files>) = (Arc::new(files.0.clone()), Arc::new(files.1.clone()));
        let (engine, mut work, keeper) = Engine::member_on(main, log, options(), member, self.net.port(id), 0).unwrap();
        let desk = engine.sink().member().unwrap().keeper.clone();
        work.keeper_at_hand = Some(keeper.clone());
        let (healthy, _) = oneshot::channel();
        std::thread::spawn(move || Keeper::run(keeper, &desk, healthy, ()));
        let (healthy, _) = oneshot::channel();
        let work = tokio::spawn(work.run(healthy));
        self.net.engines.lock().insert(id, engine.clone());
        self.nodes.insert(id, Node { files, engine, work });
    }

    /// A member that was added begins with nothing.
    pub fn join(&mut self, id: u64, members: Vec<Member>) {
        self.open(id, (SimFiles::new(), SimFiles::new()), Bootstrap::Join(members));
    }

    /// The process dies: what its disk has is all that is left.
    pub fn crash(&mut self, id: u64) {
        self.net.engines.lock().remove(&id);
        let node = self.nodes.get_mut(&id).unwrap();
        node.work.abort();
        node.files.0.power_off();
        node.files.1.power_off();
        self.lives += 1;
        node.files = (node.files.0.crashed_copy(self.lives), node.files.1.crashed_copy(self.lives));
    }

    pub async fn shut(&mut self, id: u64) {
        self.net.engines.lock().remove(&id);
        let node = &self.nodes[&id];
        node.engine.close().await.unwrap();
    }

    pub fn restart(&mut self, id: u64) {
        let node = self.nodes.remove(&id).unwrap();
        self.open(id, node.files, Bootstrap::New(self.first.clone()));
    }

    pub fn forget(&mut self, id: u64) {
        self.crash(id);
        self.nodes.remove(&id);
    }

    pub fn files(&self, id: u64) -> (SimFiles, SimFiles) {
        self.nodes[&id].files.clone()
    }

    pub fn set_files(&mut self, id: u64, files: (SimFiles, SimFiles)) {
        self.nodes.get_mut(&id).unwrap().files = files;
    }

    pub fn engine(&self, id: u64) -> &Engine {
        &self.nodes[&id].engine
    }

    pub fn status(&self, id: u64) -> RaftStatus {
        self.engine(id).raft_status().unwrap()
    }

    pub fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub fn others(&self, id: u64) -> Vec<u64> {
        self.others_of(&[id])
    }

    pub fn others_of(&self, ids: &[u64]) -> Vec<u64> {
        self.ids().into_iter().filter(|id| !ids.contains(id)).collect()
    }

    pub fn follower(&self, leader: u64) -> u64 {
        self.others(leader)[0]
    }

    pub fn log_bytes(&self, id: u64) -> usize {
        let files = &self.nodes[&id].files.1;
        files.list().unwrap().iter().map(|name| files.open(name).unwrap().len().unwrap() as usize).sum()
    }

    pub async fn leader(&self) -> u64 {
        self.leader_among(&self.ids()).await
    }

    /// Waits until all of these follow one of them.
    pub async fn leader_among(&self, ids: &[u64]) -> u64 {
        for _ in 0..1000 {
            let leaders: HashSet<u64> = ids.iter().map(|id| self.status(*id).leader).collect();
            if let [leader] = leaders.into_iter().collect::<Vec<_>>()[..]
                && ids.contains(&leader)
            {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("no leader among {ids:?}");
    }

    /// Every member has the same state.
    pub async fn same_everywhere(&self) {
        let mut seen = HashSet::new();
        for id in self.ids() {
            let engine = self.engine(id).acting_as(Identity::Server);
            engine.read_barrier().await.unwrap();
            let all = engine.range(RangeRequest::new(KeyRange::between("\0", "\0"))).await.unwrap();
            seen.insert(format!("{:?} {:?}", all, engine.members()));
        }
        assert_eq!(seen.len(), 1);
    }

    pub async fn stop(self) {
        self.net.cut.lock().clear();
        for node in self.nodes.values() {
            node.engine.close().await.unwrap();
        }
    }
}
