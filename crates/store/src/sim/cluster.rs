//! The part of a run that a single store does not have: time in which members talk, the delivery of what they say, and those who administer them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::clients::poll;
use super::network::{Network, Packet, Payload, Reply, SimTransport};
use super::node::{Live, start_member};
use super::world::{Node, World};
use crate::disk::sim::SimFiles;
use crate::kv::KvError;
use crate::options::EngineOptions;
use crate::raft::{Bootstrap, Member, MemberOptions, RaftStatus};

/// Members of a cluster at most, those included that are about to go.
const MOST_MEMBERS: usize = 5;
const CLUSTER_ID: u64 = 0xc1;
/// By how many parts of a thousand clocks run fast or slow.
pub(crate) const DRIFT_PERMILLE: i64 = 5;

type Errand = Pin<Box<dyn Future<Output = Result<(), KvError>>>>;

/// A question of a member to another, while that thinks.
struct Asked {
    from: u64,
    to: u64,
    answer: Pin<Box<dyn Future<Output = Result<Bytes, KvError>>>>,
    reply: Reply,
}

/// What an administrator waits for.
struct Change {
    what: String,
    done: Errand,
    /// To be started when it is done, or may be.
    joins: Option<u64>,
    /// Gone when it is done.
    goes: Option<u64>,
}

pub(crate) struct Cluster {
    pub network: Network,
    /// How often members come and go, or the lead changes hands.
    changes: u32,
    options: Settings,
    asked: Vec<Asked>,
    /// Members that say their names.
    publishing: Vec<(u64, Errand)>,
    change: Option<Change>,
    next_id: u64,
    said: Vec<(u64, u64, u64)>,
}

/// What all members of a run are started with.
#[derive(Clone, Copy, Debug)]
struct Settings {
    snapshot_count: u64,
    strict_reconfig: bool,
    lease_reads: bool,
}

/// What a node of a cluster has and a single store has not.
pub(crate) struct Seat {
    pub id: u64,
    joins: Vec<Member>,
    is_new: bool,
    /// How fast its clock runs, and from where.
    rate_permille: i64,
    offset_ms: u64,
}

impl Seat {
    fn new(rng: &mut StdRng, id: u64, joins: Vec<Member>, is_new: bool) -> Self {
        let rate_permille = 1000 + rng.random_range(-DRIFT_PERMILLE..=DRIFT_PERMILLE);
        Self { id, joins, is_new, rate_permille, offset_ms: rng.random_range(0..1_000_000) }
    }

    /// What this member's clock says.
    pub fn clock_ms(&self, now_ms: u64) -> u64 {
        self.offset_ms + now_ms * self.rate_permille.unsigned_abs() / 1000
    }
}

fn member(id: u64, is_learner: bool) -> Member {
    Member { id, peer_urls: vec![format!("sim://{id}")], is_learner, ..Member::default() }
}

impl Cluster {
    pub fn new(rng: &mut StdRng, members: usize) -> Self {
        let options =
            Settings { snapshot_count: [3, 20, 200][rng.random_range(0..3)], strict_reconfig: rng.random_bool(0.3), lease_reads: false };
        let network = Network::new(rng);
        let changes = if rng.random_bool(0.5) { rng.random_range(1..=15) } else { 0 };
        Self { network, changes, options, asked: vec![], publishing: vec![], change: None, next_id: members as u64 + 1, said: vec![] }
    }

    pub fn seats(rng: &mut StdRng, members: usize) -> Vec<Seat> {
        let first: Vec<Member> = (1..=members as u64).map(|id| member(id, false)).collect();
        (1..=members as u64).map(|id| Seat::new(rng, id, first.clone(), true)).collect()
    }

    pub fn describe(&self) -> String {
        format!("{:?} {:?} changes: {}", self.network.weather, self.options, self.changes)
    }

    /// Opens the member of this seat on its disk.
    pub fn start(&self, files: &SimFiles, seat: &Seat, options: &EngineOptions, seed: u64, now_ms: u64) -> Result<Live, KvError> {
        let bootstrap = if seat.is_new { Bootstrap::New(seat.joins.clone()) } else { Bootstrap::Join(seat.joins.clone()) };
        let member = MemberOptions {
            snapshot_count: self.options.snapshot_count,
            strict_reconfig: self.options.strict_reconfig,
            lease_reads: self.options.lease_reads,
            seed: Some(seed),
            ..MemberOptions::new(CLUSTER_ID, seat.id, bootstrap)
        };
        let transport = Arc::new(SimTransport { from: seat.id, files: files.clone(), wire: self.network.wire.clone() });
        start_member(files, options, member, transport, seat.clock_ms(now_ms))
    }

    /// A member that runs says its name to all.
    pub fn publish(&mut self, id: u64, live: &Live) {
        let engine = live.engine.clone();
        let done = async move { engine.publish(format!("m{id}"), vec![format!("sim://{id}/clients")]).await };
        self.publishing.push((id, Box::pin(done)));
    }

    /// The member is gone and with it what it was doing.
    pub fn crashed(&mut self, id: u64) {
        self.asked.retain(|asked| asked.to != id);
        self.publishing.retain(|(member, _)| *member != id);
    }

    /// Lets members and administrators do what needs no more time; returns what an administrator is told.
    fn settle(&mut self, rng: &mut StdRng, now_ms: u64) -> Option<(Change, Result<(), KvError>)> {
        let mut place = 0;
        while place < self.asked.len() {
            match poll(self.asked[place].answer.as_mut()) {
                None => place += 1,
                Some(answer) => {
                    let Asked { from, to, reply, .. } = self.asked.remove(place);
                    self.network.answer(rng, to, from, answer, reply, now_ms);
                }
            }
        }
        self.publishing.retain_mut(|(_, done)| poll(done.as_mut()).is_none());
        let done = poll(self.change.as_mut()?.done.as_mut())?;
        self.change.take().map(|change| (change, done))
    }
}

impl World {
    fn node_of(&self, id: u64) -> Option<usize> {
        self.nodes.iter().position(|node| node.seat.as_ref().is_some_and(|seat| seat.id == id))
    }

    /// Time in which members take turns and hear each other.
    pub async fn pass_in_cluster(&mut self, ms: u64) {
        let mut left = ms;
        while left > 0 {
            let slice = if ms > 100 || self.faults.is_calm { 50 } else { self.rng.random_range(1..40) }.min(left);
            left -= slice;
            self.now.ms += slice;
            tokio::time::advance(std::time::Duration::from_millis(slice)).await;
            self.exchange().await;
            if !self.wrong.is_empty() {
                return;
            }
        }
    }

    /// Everybody hears what has arrived, and most take a turn.
    async fn exchange(&mut self) {
        self.deliver();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        order.shuffle(&mut self.rng);
        for node in order {
            if self.faults.is_calm || self.rng.random_bool(0.9) {
                self.turn_of(node, usize::MAX);
            }
        }
        self.settle().await;
    }

    /// After each turn: what was sent gets under way.
    pub fn collect(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        for (from, to) in cluster.network.collect(&mut self.rng, self.now.ms) {
            if let Some(live) = self.node_of(from).and_then(|node| self.nodes[node].live.as_ref()) {
                live.engine.unreachable(to);
            }
        }
    }

    fn deliver(&mut self) {
        let arrived = self.cluster.as_mut().map(|cluster| cluster.network.arrivals(self.now.ms));
        for packet in arrived.unwrap_or_default() {
            self.hand_over(packet);
        }
    }

    fn hand_over(&mut self, packet: Packet) {
        let Packet { from, to, payload } = packet;
        let Some(node) = self.node_of(to) else { return };
        let clock_ms = self.nodes[node].clock_ms(self.now.ms);
        let Some(cluster) = &mut self.cluster else { return };
        let Some(live) = &mut self.nodes[node].live else {
            if let Payload::Snapshot(_) = payload {
                cluster.network.snapshot_sent(from, to, false, self.now.ms);
            }
            return;
        };
        match payload {
            Payload::Message(bytes, _) => live.engine.receive(from, bytes),
            Payload::SnapshotSent { to, ok } => live.engine.snapshot_sent(to, ok),
            Payload::Question(question, reply) => {
                let engine = live.engine.clone();
                let answer = Box::pin(async move { engine.answer(from, question).await });
                cluster.asked.push(Asked { from, to, answer, reply });
            }
            // Whoever asked may be gone.
            Payload::Answer(answer, reply) => drop(reply.send(answer)),
            Payload::Snapshot(chunks) => {
                self.faults.speaker = node;
                let ok = live.receive_snapshot(from, chunks, clock_ms);
                self.hear();
                self.say(&format!("a snapshot of member {from} came to member {to}: {ok:?}"));
                if let Some(cluster) = &mut self.cluster {
                    cluster.network.snapshot_sent(from, to, ok.is_ok(), self.now.ms);
                }
            }
        }
    }

    /// What members and administrators do beside turns.
    pub fn settle_cluster(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        if let Some((change, done)) = cluster.settle(&mut self.rng, self.now.ms) {
            self.changed(change, done);
        }
        self.collect();
        self.note_leaders();
        self.retire_removed();
    }

    fn changed(&mut self, change: Change, done: Result<(), KvError>) {
        self.say(&format!("{}: {done:?}", change.what));
        if let Some(id) = change.joins {
            // Where the outcome is unknown it may be a member all the same.
            let refused = matches!(
                done,
                Err(KvError::UnhealthyCluster | KvError::NotEnoughStarted | KvError::TooManyLearners | KvError::MemberExists)
            );
            if !refused {
                let members = self.members();
                let seat = Seat::new(&mut self.rng, id, members, false);
                self.nodes.push(Node::new(Some(seat)));
            }
        }
        if let Some(id) = change.goes
            && done.is_ok()
            && let Some(node) = self.node_of(id)
            && self.rng.random_bool(0.5)
        {
            // Whoever removes a member stops it, sooner or later.
            self.retire(node);
        }
    }

    /// The members that most know of.
    pub fn members(&self) -> Vec<Member> {
        let known = self.nodes.iter().filter_map(|node| node.live.as_ref());
        known
            .map(|live| (live.engine.raft_status().map_or(0, |status| status.applied_index), live.engine.members()))
            .max_by_key(|(applied, _)| *applied)
            .map(|(_, members)| members)
            .unwrap_or_default()
    }

    fn retire(&mut self, node: usize) {
        self.crash(node, "for ever");
        self.nodes[node].is_retired = true;
    }

    fn retire_removed(&mut self) {
        for node in 0..self.nodes.len() {
            let Some(seat) = &self.nodes[node].seat else { continue };
            let removed = self.cluster.as_ref().is_some_and(|cluster| cluster.network.wire.is_removed(seat.id));
            if removed && !self.nodes[node].is_retired {
                self.retire(node);
            }
        }
    }

    fn note_leaders(&mut self) {
        let mut now = Vec::new();
        for live in self.nodes.iter().filter_map(|node| node.live.as_ref()) {
            let RaftStatus { member_id, leader, term, .. } = live.engine.raft_status().unwrap_or_default();
            now.push((member_id, leader, term));
        }
        let Some(cluster) = &mut self.cluster else { return };
        if now != cluster.said {
            cluster.said.clone_from(&now);
            self.say(&format!("member, leader, term: {now:?}"));
        }
    }

    /// A member that hangs, for long, and is cut off: others go on without it, and it does not know.
    pub fn forget(&mut self, node: usize) -> u64 {
        let ids: Vec<u64> = self.nodes.iter().filter_map(|node| node.seat.as_ref()).map(|seat| seat.id).collect();
        if let (Some(cluster), Some(seat)) = (&mut self.cluster, &self.nodes[node].seat)
            && self.rng.random_bool(0.5)
        {
            cluster.network.isolate(seat.id, &ids);
            return self.rng.random_range(2000..15_000);
        }
        self.rng.random_range(100..4000)
    }

    /// Something that only clusters suffer.
    pub fn trouble(&mut self) {
        let Some(cluster) = &mut self.cluster else { return };
        let (partitions, changes) = (cluster.network.weather.partitions, cluster.changes);
        match self.rng.random_range(0..100) {
            roll if roll < partitions => {
                let ids: Vec<u64> = self.nodes.iter().filter_map(|node| node.seat.as_ref()).map(|seat| seat.id).collect();
                let line = cluster.network.cut(&mut self.rng, &ids);
                self.say(&line);
            }
            roll if roll < 2 * partitions + 5 => {
                cluster.network.heal();
                self.say("the network is whole");
            }
            roll if roll < 2 * partitions + 5 + changes => self.change_members(),
            _ => {}
        }
    }

    fn change_members(&mut self) {
        let members = self.members();
        let Some(node) = self.up() else { return };
        let (Some(cluster), Some(live)) = (&mut self.cluster, &self.nodes[node].live) else { return };
        if cluster.change.is_some() || members.is_empty() {
            return;
        }
        let engine = live.engine.clone();
        let some = members[self.rng.random_range(0..members.len())].clone();
        let learner = members.iter().find(|member| member.is_learner).map(|member| member.id);
        let (what, joins, goes, done): (String, Option<u64>, Option<u64>, Errand) = match self.rng.random_range(0..4) {
            0 if members.len() < MOST_MEMBERS => {
                let id = cluster.next_id;
                cluster.next_id += 1;
                let new = member(id, self.rng.random());
                (format!("add {new:?}"), Some(id), None, Box::pin(async move { engine.add_member(new).await.map(|_| ()) }))
            }
            1 if members.len() > 3 => (
                format!("remove {}", some.id),
                None,
                Some(some.id),
                Box::pin(async move { engine.remove_member(some.id).await.map(|_| ()) }),
            ),
            2 if learner.is_some() => {
                let id = learner.expect("seen just now");
                (format!("promote {id}"), None, None, Box::pin(async move { engine.promote_member(id).await.map(|_| ()) }))
            }
            _ => (format!("give the lead to {}", some.id), None, None, Box::pin(async move { engine.transfer_leader(some.id).await })),
        };
        cluster.change = Some(Change { what: what.clone(), done, joins, goes });
        self.say(&format!("asked of {node}: {what}"));
    }

    /// Whether all members have everything.
    pub fn is_level(&self) -> bool {
        let ids: Vec<u64> = self.members().iter().map(|member| member.id).collect();
        let mut applied = Vec::new();
        for node in self.nodes.iter().filter(|node| node.seat.as_ref().is_some_and(|seat| ids.contains(&seat.id))) {
            let Some(status) = node.live.as_ref().and_then(|live| live.engine.raft_status()) else { return false };
            applied.push((status.applied_index, status.leader));
        }
        applied.windows(2).all(|pair| pair[0] == pair[1]) && applied.iter().all(|(_, leader)| *leader != 0)
    }
}
