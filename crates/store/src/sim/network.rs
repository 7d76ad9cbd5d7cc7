//! The network between the members of a run: it delays, loses, repeats and reorders, and parts of it do not hear others, in one direction or in both.
//! What one member sends another on one lane keeps its order, as on a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use crate::disk::sim::SimFiles;
use crate::kv::KvError;
use crate::raft::{Answer, Member, MessageKind, OutgoingSnapshot, Transport};

pub(crate) type Chunks = Vec<Result<Bytes, KvError>>;
pub(crate) type Reply = oneshot::Sender<Result<Bytes, KvError>>;

/// Something on its way.
pub(crate) enum Payload {
    Message(Bytes, MessageKind),
    Snapshot(Chunks),
    /// To the sender itself: whether the other has its snapshot.
    SnapshotSent {
        to: u64,
        ok: bool,
    },
    Question(Bytes, Reply),
    /// The answer goes where the question came from.
    Answer(Result<Bytes, KvError>, Reply),
}

pub(crate) struct Packet {
    pub from: u64,
    pub to: u64,
    pub payload: Payload,
}

/// What members have sent and the world has not taken yet, and who is cut off from whom.
#[derive(Default)]
pub(crate) struct Wire {
    outbox: Mutex<Vec<Packet>>,
    cut: Mutex<BTreeSet<(u64, u64)>>,
    removed: Mutex<BTreeSet<u64>>,
}

impl Wire {
    pub fn take(&self) -> Vec<Packet> {
        std::mem::take(&mut self.outbox.lock())
    }

    pub fn is_removed(&self, member: u64) -> bool {
        self.removed.lock().contains(&member)
    }

    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.lock().contains(&(from, to))
    }
}

/// A member's end of the network.
pub(crate) struct SimTransport {
    pub from: u64,
    /// Without power nothing is sent.
    pub files: SimFiles,
    pub wire: Arc<Wire>,
}

impl SimTransport {
    fn push(&self, to: u64, payload: Payload) {
        if !self.files.is_off() {
            self.wire.outbox.lock().push(Packet { from: self.from, to, payload });
        }
    }
}

impl Transport for SimTransport {
    fn send(&self, to: u64, message: Bytes, kind: MessageKind) {
        self.push(to, Payload::Message(message, kind));
    }

    fn send_snapshot(&self, to: u64, mut snapshot: OutgoingSnapshot) {
        let mut chunks = Vec::new();
        while let Some(chunk) = snapshot.next_chunk().transpose() {
            let failed = chunk.is_err();
            chunks.push(chunk);
            if failed {
                break;
            }
        }
        self.push(to, Payload::Snapshot(chunks));
    }

    fn ask(&self, to: u64, question: Bytes) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.push(to, Payload::Question(question, reply));
        let lost = || Err(KvError::Unavailable("the question or its answer was lost".into()));
        Box::pin(async move { answer.await.unwrap_or_else(|_| lost()) })
    }

    fn members_changed(&self, _members: &[Member]) {}

    fn removed(&self) {
        self.wire.removed.lock().insert(self.from);
    }

    fn connected_for(&self, peer: u64) -> Option<Duration> {
        let connected = !self.wire.is_cut(self.from, peer) && !self.wire.is_cut(peer, self.from);
        connected.then_some(Duration::from_secs(60))
    }
}

/// How bad the network is; each run draws its own.
#[derive(Debug)]
pub(crate) struct Weather {
    delay_ms: u64,
    loss: f64,
    repeats: f64,
    pub partitions: u32,
}

impl Weather {
    pub fn draw(rng: &mut StdRng) -> Self {
        let delay_ms = [1, 10, 50, 200][rng.random_range(0..4)];
        let loss = [0.0, 0.01, 0.1][rng.random_range(0..3)];
        let repeats = [0.0, 0.05][rng.random_range(0..2)];
        Self { delay_ms, loss, repeats, partitions: rng.random_range(0..=15) }
    }

    pub fn calm(&mut self) {
        (self.delay_ms, self.loss, self.repeats) = (5, 0.0, 0.0);
    }
}

/// Whether two packets of these payloads keep their order.
fn lane(payload: &Payload) -> u8 {
    match payload {
        Payload::Message(_, kind) => *kind as u8,
        Payload::Snapshot(_) => 10,
        Payload::SnapshotSent { .. } => 11,
        Payload::Question(..) | Payload::Answer(..) => 12,
    }
}

pub(crate) struct Network {
    pub wire: Arc<Wire>,
    pub weather: Weather,
    /// By the moment of arrival and a number that tells packets of one moment apart.
    under_way: BTreeMap<(u64, u64), Packet>,
    last_arrival: BTreeMap<(u64, u64, u8), u64>,
    next_number: u64,
}

impl Network {
    pub fn new(rng: &mut StdRng) -> Self {
        Self {
            wire: Arc::default(),
            weather: Weather::draw(rng),
            under_way: BTreeMap::new(),
            last_arrival: BTreeMap::new(),
            next_number: 0,
        }
    }

    /// Takes over what was sent; returns who could not send to whom and noticed.
    pub fn collect(&mut self, rng: &mut StdRng, now_ms: u64) -> Vec<(u64, u64)> {
        let mut failed = Vec::new();
        for packet in self.wire.take() {
            let lost = rng.random_bool(self.weather.loss);
            if lost || self.wire.is_cut(packet.from, packet.to) {
                if rng.random_bool(0.5) {
                    failed.push((packet.from, packet.to));
                }
                if matches!(packet.payload, Payload::Snapshot(_)) {
                    self.snapshot_sent(packet.from, packet.to, false, now_ms);
                }
                continue;
            }
            // A connection does not repeat what it carries. Raft's own messages bear it, requests that it forwards do not.
            if let Payload::Message(bytes, kind) = &packet.payload
                && *kind != MessageKind::Other
                && rng.random_bool(self.weather.repeats)
            {
                let again = Packet { from: packet.from, to: packet.to, payload: Payload::Message(bytes.clone(), *kind) };
                self.send(rng, now_ms, again);
            }
            self.send(rng, now_ms, packet);
        }
        failed
    }

    fn send(&mut self, rng: &mut StdRng, now_ms: u64, packet: Packet) {
        let delay = if rng.random_bool(0.05) { self.weather.delay_ms * 5 } else { self.weather.delay_ms };
        let lane = (packet.from, packet.to, lane(&packet.payload));
        let last = self.last_arrival.get(&lane).copied().unwrap_or(0);
        let at_ms = (now_ms + rng.random_range(0..=delay)).max(last);
        self.last_arrival.insert(lane, at_ms);
        self.put(at_ms, packet);
    }

    fn put(&mut self, at_ms: u64, packet: Packet) {
        self.next_number += 1;
        self.under_way.insert((at_ms, self.next_number), packet);
    }

    /// What arrives by now. What was under way when its link was cut is lost.
    pub fn arrivals(&mut self, now_ms: u64) -> Vec<Packet> {
        let mut arrived = Vec::new();
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= now_ms
        {
            let packet = first.remove();
            if !self.wire.is_cut(packet.from, packet.to) {
                arrived.push(packet);
            } else if matches!(packet.payload, Payload::Snapshot(_)) {
                self.snapshot_sent(packet.from, packet.to, false, now_ms + 1);
            }
        }
        arrived
    }

    /// The sender learns at once what became of a snapshot.
    pub fn snapshot_sent(&mut self, from: u64, to: u64, ok: bool, now_ms: u64) {
        self.put(now_ms, Packet { from, to: from, payload: Payload::SnapshotSent { to, ok } });
    }

    pub fn answer(&mut self, rng: &mut StdRng, from: u64, to: u64, answer: Result<Bytes, KvError>, reply: Reply, now_ms: u64) {
        self.send(rng, now_ms, Packet { from, to, payload: Payload::Answer(answer, reply) });
    }

    /// Some members do not hear some others from now on.
    pub fn cut(&mut self, rng: &mut StdRng, members: &[u64]) -> String {
        let mut cut = self.wire.cut.lock();
        let alone = members.get(rng.random_range(0..2 * members.len())).copied();
        let side: BTreeSet<u64> = members.iter().copied().filter(|id| alone.map_or_else(|| rng.random(), |alone| alone == *id)).collect();
        let one_way = rng.random_bool(0.3);
        for from in members {
            for to in members {
                if side.contains(from) != side.contains(to) && (!one_way || side.contains(from)) {
                    cut.insert((*from, *to));
                }
            }
        }
        format!("{side:?} are cut off{}", if one_way { " one way" } else { "" })
    }

    /// One member is cut off from all others.
    pub fn isolate(&mut self, id: u64, members: &[u64]) {
        let links = members.iter().filter(|other| **other != id).flat_map(|other| [(id, *other), (*other, id)]);
        self.wire.cut.lock().extend(links);
    }

    pub fn heal(&mut self) {
        self.wire.cut.lock().clear();
    }
}
