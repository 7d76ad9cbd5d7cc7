//! A run: members, clients and watchers in one loop, with time and faults drawn from one seed. Nothing in it reads a clock or starts a thread.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::check::{self, LeaseRules};
use super::clients::{InFlight, Watcher, finish, new_call, poll, send};
use super::cluster::{Cluster, DRIFT_PERMILLE, Seat};
use super::faults::{Faults, damage};
use super::history::{History, Moment, Outcome, Response, is_unknown};
use super::node::{Live, start_single};
use super::tap::Tap;
use super::trace::Trace;
use super::truth::Truth;
use super::workload::{Mix, Workload};
use crate::disk::sim::SimFiles;
use crate::kv::*;
use crate::options::EngineOptions;

const CLIENTS: usize = 5;
const WATCHERS: usize = 5;
/// Virtual time in which a run without faults must come to rest.
const CALM_STEP_MS: u64 = 100;
const CALM_STEPS: u64 = 250;

pub(crate) struct Node {
    /// Its place in a cluster.
    pub seat: Option<Seat>,
    /// It was taken out of its cluster and does not come back.
    pub is_retired: bool,
    pub files: SimFiles,
    pub live: Option<Live>,
    /// The last command that was applied since the start.
    applied: u64,
    pub start_at_ms: u64,
    /// Does nothing until then: a disk that hangs, a process that is not scheduled.
    pub stalled_until_ms: u64,
}

impl Node {
    pub fn new(seat: Option<Seat>) -> Self {
        Self { seat, is_retired: false, files: SimFiles::new(), live: None, applied: 0, start_at_ms: 0, stalled_until_ms: 0 }
    }

    /// What its own clock says.
    pub fn clock_ms(&self, now_ms: u64) -> u64 {
        self.seat.as_ref().map_or(now_ms, |seat| seat.clock_ms(now_ms))
    }
}

pub(crate) struct World {
    pub seed: u64,
    pub rng: StdRng,
    pub now: Moment,
    pub nodes: Vec<Node>,
    pub faults: Faults,
    pub cluster: Option<Cluster>,
    options: EngineOptions,
    trace: Trace,
    truth: Truth,
    tap: Tap,
    workload: Workload,
    clients: Vec<Option<InFlight>>,
    watchers: Vec<Watcher>,
    history: History,
    pub wrong: Vec<String>,
    next_id: u64,
}

/// What came of a run.
pub(crate) struct Report {
    pub hash: u64,
    pub wrong: Vec<String>,
    pub lines: Vec<String>,
    pub calls: usize,
    pub answered: usize,
    pub commands: usize,
    pub events: usize,
    pub starts: usize,
}

/// Small files, so that the log turns over and is saved often.
fn options(rng: &mut StdRng) -> EngineOptions {
    EngineOptions {
        wal_segment_bytes: 1 << rng.random_range(12..16),
        checkpoint_wal_bytes: 4096,
        watch_progress_interval: std::time::Duration::from_secs(2),
        ..EngineOptions::default()
    }
}

impl World {
    pub fn new(seed: u64, members: usize, keep_trace: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let options = options(&mut rng);
        let faults = Faults::draw(&mut rng);
        let workload = Workload::new(Mix::draw(&mut rng), faults.slow_world);
        let cluster = (members > 1).then(|| Cluster::new(&mut rng, members));
        let nodes = match cluster {
            Some(_) => Cluster::seats(&mut rng, members).into_iter().map(|seat| Node::new(Some(seat))).collect(),
            None => vec![Node::new(None)],
        };
        Self {
            seed,
            rng,
            now: Moment::default(),
            nodes,
            faults,
            cluster,
            options,
            trace: Trace::new(keep_trace),
            truth: Truth::default(),
            tap: Tap::open(),
            workload,
            clients: (0..CLIENTS).map(|_| None).collect(),
            watchers: Vec::new(),
            history: History::default(),
            wrong: Vec::new(),
            next_id: 0,
        }
    }

    pub fn say(&mut self, line: &str) {
        self.trace.say(self.now, line);
    }

    pub fn wrong(&mut self, what: String) {
        self.say(&format!("WRONG {what}"));
        self.wrong.push(what);
    }

    fn tick(&mut self) -> Moment {
        self.now.step += 1;
        self.now
    }

    /// Runs `steps` steps with faults, then a quiet time, then judges.
    pub async fn run(mut self, steps: usize) -> Report {
        self.say(&format!("seed {} {:?} {:?}", self.seed, self.workload.mix, self.faults));
        if let Some(cluster) = &self.cluster {
            let line = cluster.describe();
            self.say(&line);
        }
        for _ in 0..steps {
            self.step().await;
            if !self.wrong.is_empty() {
                return self.report();
            }
        }
        let quiet_from = self.now.ms;
        self.calm().await;
        self.history.log = self.truth.entries().to_vec();
        self.history.watches.extend(self.watchers.drain(..).map(|watcher| watcher.log));
        let rules = LeaseRules {
            drift_permille: if self.cluster.is_some() { 2 * DRIFT_PERMILLE as u64 } else { 0 },
            slack_ms: if self.cluster.is_some() { 15_000 } else { 3_000 },
            quiet_ms: Some((quiet_from, self.now.ms)),
        };
        for what in check::check(&self.history, &rules) {
            self.wrong(what);
        }
        self.compare_states();
        self.report()
    }

    fn report(self) -> Report {
        Report {
            hash: self.trace.hash(),
            lines: self.trace.lines().to_vec(),
            calls: self.history.calls.len(),
            answered: self.history.calls.iter().filter(|call| call.answer().is_some()).count(),
            commands: self.truth.entries().len(),
            events: self.history.watches.iter().flat_map(|watch| &watch.responses).map(|(_, response)| response.events.len()).sum(),
            starts: self.faults.starts,
            wrong: self.wrong,
        }
    }

    async fn step(&mut self) {
        let roll = self.rng.random_range(0..100);
        // Members talk only while time passes.
        let roll = if self.cluster.is_some() && (30..65).contains(&roll) { 70 } else { roll };
        match roll {
            0..40 => self.begin_call(),
            40..70 => self.turn(),
            70..80 => {
                let most = match (&self.cluster, self.faults.slow_world) {
                    (_, true) => 6000,
                    (Some(_), false) => 40,
                    (None, false) => 100,
                };
                let ms = self.rng.random_range(1..most);
                self.pass(ms).await;
            }
            80 => {
                let most = if self.faults.slow_world { 120_000 } else { 4000 };
                let ms = self.rng.random_range(100..most);
                self.pass(ms).await;
            }
            81..85 => self.keep(),
            85..93 => self.watch(),
            93..96 if self.cluster.is_some() => self.trouble(),
            _ => self.fault(),
        }
        self.start_those_due();
        self.settle().await;
    }

    pub async fn pass(&mut self, ms: u64) {
        if self.cluster.is_some() {
            return self.pass_in_cluster(ms).await;
        }
        self.now.ms += ms;
        tokio::time::advance(std::time::Duration::from_millis(ms)).await;
    }

    /// Lets everything happen that needs no more time and no more turns.
    pub async fn settle(&mut self) {
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        self.hear();
        self.poll_clients();
        self.settle_cluster();
        self.hear();
    }

    /// Takes what members applied since the last time.
    pub fn hear(&mut self) {
        for (index, command) in self.tap.take() {
            let at = self.tick();
            // Single stores have no other speaker; clusters note who speaks before each turn.
            let node = self.faults.speaker;
            match self.truth.heard(node, index, &command, at) {
                Ok(true) => self.say(&format!("applied {index}: {command:?}")),
                Ok(false) => {}
                Err(what) => self.wrong(what),
            }
            if index <= self.nodes[node].applied {
                self.wrong(format!("member {node} applied command {index} after {}", self.nodes[node].applied));
            }
            self.nodes[node].applied = index;
        }
    }

    pub fn up(&mut self) -> Option<usize> {
        let up: Vec<usize> = (0..self.nodes.len()).filter(|node| self.nodes[*node].live.is_some()).collect();
        if up.is_empty() { None } else { Some(up[self.rng.random_range(0..up.len())]) }
    }

    fn begin_call(&mut self) {
        let idle: Vec<usize> = (0..CLIENTS).filter(|client| self.clients[*client].is_none()).collect();
        let Some(node) = self.up() else { return };
        if idle.is_empty() {
            return;
        }
        let client = idle[self.rng.random_range(0..idle.len())];
        self.next_id += 1;
        let request = self.workload.request(&mut self.rng, self.next_id);
        self.call(client, node, request);
    }

    fn call(&mut self, client: usize, node: usize, request: super::history::Request) {
        let Some(live) = &self.nodes[node].live else { return };
        let waiting = send(&live.engine, request.clone());
        let at = self.tick();
        self.say(&format!("call {} to {node}: {request:?}", self.next_id));
        self.clients[client] = Some(InFlight { call: self.history.calls.len(), waiting });
        self.history.calls.push(new_call(self.next_id, node, request, at));
    }

    fn poll_clients(&mut self) {
        for client in 0..self.clients.len() {
            let Some(flight) = &mut self.clients[client] else { continue };
            let Some(outcome) = poll(flight.waiting.as_mut()) else { continue };
            let call = flight.call;
            self.clients[client] = None;
            // What it did itself while it was polled came first.
            self.hear();
            self.answered(call, outcome);
        }
    }

    fn answered(&mut self, call: usize, outcome: Outcome) {
        let at = self.tick();
        self.say(&format!("answer {}: {outcome:?}", self.history.calls[call].id));
        match (&outcome, &self.history.calls[call].request) {
            (Ok(Response::Range(range)), _) => self.workload.told(range.revision, &range.kvs),
            (Ok(Response::Txn(txn)), _) => {
                let kvs: Vec<KeyValue> = txn
                    .responses
                    .iter()
                    .filter_map(|op| if let OpResponse::Range(range) = op { Some(range.kvs.clone()) } else { None })
                    .flatten()
                    .collect();
                self.workload.told(txn.revision, &kvs);
            }
            (Ok(_), super::history::Request::Grant { id, .. }) => self.workload.granted(*id),
            _ => {}
        }
        self.history.calls[call].ended = Some((at, outcome));
    }

    fn turn(&mut self) {
        let Some(node) = self.up() else { return };
        let most = if self.rng.random_bool(0.3) { 1 } else { 64 };
        self.turn_of(node, most);
    }

    pub fn turn_of(&mut self, node: usize, most: usize) {
        if self.nodes[node].stalled_until_ms > self.now.ms {
            return;
        }
        self.faults.speaker = node;
        let clock_ms = self.nodes[node].clock_ms(self.now.ms);
        let Some(live) = &mut self.nodes[node].live else { return };
        live.driver.turn(clock_ms, most);
        let failed = live.has_failed();
        self.hear();
        self.collect();
        if self.nodes[node].files.is_off() {
            self.crash(node, "in a turn");
        } else if failed && self.nodes[node].start_at_ms == 0 {
            // Someone notices the failed member after a while and starts it again.
            self.nodes[node].start_at_ms = self.now.ms + 500;
            self.say(&format!("member {node} takes no more writes"));
        }
        self.collect();
    }

    fn keep(&mut self) {
        let Some(node) = self.up() else { return };
        let sweep = self.rng.random_bool(0.6);
        self.keep_of(node, sweep);
    }

    fn keep_of(&mut self, node: usize, sweep: bool) {
        if self.nodes[node].stalled_until_ms > self.now.ms {
            return;
        }
        let Some(live) = &mut self.nodes[node].live else { return };
        let result = live.driver.keep(sweep);
        self.say(&format!("member {node} saves (sweep: {sweep}): {:?}", result.as_ref().err()));
        if self.nodes[node].files.is_off() {
            self.crash(node, "while it saved");
        }
    }

    /// The member is gone: nobody hears of what it was asked.
    pub fn crash(&mut self, node: usize, when: &str) {
        if self.nodes[node].live.is_none() {
            return;
        }
        self.tick();
        self.say(&format!("member {node} crashes {when}"));
        self.nodes[node].files.power_off();
        for client in 0..self.clients.len() {
            if self.clients[client].as_ref().is_some_and(|flight| self.history.calls[flight.call].node == node) {
                self.clients[client] = None;
            }
        }
        if let (Some(cluster), Some(seat)) = (&mut self.cluster, &self.nodes[node].seat) {
            cluster.crashed(seat.id);
        }
        let (gone, stay) = self.watchers.drain(..).partition(|watcher| watcher.log.node == node);
        self.watchers = stay;
        self.nodes[node].live = None;
        let delay = self.rng.random_range(0..3000);
        self.nodes[node].start_at_ms = self.now.ms + delay;
        for watcher in gone {
            self.watch_again(watcher);
        }
    }

    fn start_those_due(&mut self) {
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_retired {
                continue;
            }
            let due = self.nodes[node].start_at_ms <= self.now.ms;
            let failed = self.nodes[node].live.as_ref().is_some_and(|live| live.has_failed());
            if failed && due && self.nodes[node].start_at_ms > 0 {
                self.crash(node, "to be started again");
                self.nodes[node].start_at_ms = 0;
            }
            if self.nodes[node].live.is_none() && due {
                self.start(node);
            }
        }
    }

    fn start(&mut self, node: usize) {
        let seed = self.rng.random();
        self.nodes[node].files.restart(seed);
        self.nodes[node].files.heal();
        self.nodes[node].start_at_ms = 0;
        self.nodes[node].applied = 0;
        self.faults.starts += 1;
        self.faults.speaker = node;
        if self.rng.random_bool(self.faults.crash_at_start) {
            let after = self.rng.random_range(1..12);
            self.nodes[node].files.power_off_after(after);
        }
        self.tick();
        self.say(&format!("member {node} starts"));
        if self.rng.random_bool(self.faults.rot) {
            let files = self.nodes[node].files.copy();
            let seed = self.rng.random();
            let found = damage(&files, seed, &|files| self.open(node, files, seed));
            let _ = self.tap.take();
            if let Some(cluster) = &self.cluster {
                // What the copy said is not said.
                cluster.network.wire.take();
            }
            match found {
                Ok(line) => self.say(&line),
                Err(what) => self.wrong(what),
            }
        }
        let seed = self.rng.random();
        match self.open(node, &self.nodes[node].files, seed) {
            Ok(live) => {
                if let (Some(cluster), Some(seat)) = (&mut self.cluster, &self.nodes[node].seat) {
                    cluster.publish(seat.id, &live);
                }
                self.nodes[node].live = Some(live);
                self.hear();
                self.collect();
                if self.nodes[node].files.is_off() {
                    self.crash(node, "after its start");
                }
            }
            Err(error) if self.nodes[node].files.is_off() => {
                let _ = self.tap.take();
                self.say(&format!("member {node} crashes while it starts: {error}"));
            }
            Err(error) => self.wrong(format!("member {node} cannot be started after a crash: {error}")),
        }
    }

    fn open(&self, node: usize, files: &SimFiles, seed: u64) -> Result<Live, KvError> {
        match (&self.cluster, &self.nodes[node].seat) {
            (Some(cluster), Some(seat)) => cluster.start(files, seat, &self.options, seed, self.now.ms),
            _ => start_single(files, &self.options),
        }
    }

    fn watch(&mut self) {
        match self.rng.random_range(0..10) {
            0 if self.watchers.len() < WATCHERS => {
                let Some(node) = self.up() else { return };
                let request = self.workload.watch(&mut self.rng);
                self.create_watch(node, request);
            }
            1 if !self.watchers.is_empty() && self.rng.random_bool(0.2) => {
                let place = self.rng.random_range(0..self.watchers.len());
                let watcher = self.watchers.remove(place);
                self.say(&format!("watch {} is dropped", watcher.log.id));
                self.history.watches.push(watcher.log);
            }
            2 if !self.watchers.is_empty() => {
                let place = self.rng.random_range(0..self.watchers.len());
                self.watchers[place].request_progress();
            }
            _ if !self.watchers.is_empty() => {
                let place = self.rng.random_range(0..self.watchers.len());
                self.read_watch(place);
            }
            _ => {}
        }
    }

    fn create_watch(&mut self, node: usize, request: WatchRequest) {
        let at = self.tick();
        self.next_id += 1;
        let id = self.next_id;
        let Some(live) = &self.nodes[node].live else { return };
        match Watcher::create(&live.engine, id, node, request.clone(), at) {
            Some(Ok(watcher)) => {
                self.say(&format!("watch {id} at {node}: {request:?}"));
                self.watchers.push(watcher);
            }
            Some(Err(error)) if is_unknown(&error) => {}
            other => self.wrong(format!("a watch was not created: {:?}", other.and_then(Result::err))),
        }
    }

    /// Returns whether something came.
    fn read_watch(&mut self, place: usize) -> bool {
        let Some(next) = self.watchers[place].next() else { return false };
        let at = self.tick();
        let id = self.watchers[place].log.id;
        self.say(&format!("watch {id}: {next:?}"));
        match next {
            Ok(response) => {
                self.workload.told(response.revision, &[]);
                self.watchers[place].log.responses.push((at, response));
            }
            Err(error) => {
                let mut watcher = self.watchers.remove(place);
                watcher.log.error = Some((at, error));
                self.watch_again(watcher);
            }
        }
        true
    }

    /// A client whose watch has ended goes on behind what it has, or starts anew where that is compacted.
    fn watch_again(&mut self, watcher: Watcher) {
        let resume_at = match &watcher.log.error {
            Some((_, KvError::Compacted { compact_revision })) => *compact_revision,
            _ => watcher.resume_at(),
        };
        let request = WatchRequest { start_revision: resume_at, ..watcher.log.request.clone() };
        self.history.watches.push(watcher.log);
        if let Some(node) = self.up() {
            self.create_watch(node, request);
        }
    }

    /// Without faults everything must be answered, delivered, ended.
    async fn calm(&mut self) {
        self.say("quiet");
        for node in 0..self.nodes.len() {
            if self.rng.random_bool(0.5) {
                self.crash(node, "at the end");
            }
            self.nodes[node].files.heal();
            self.nodes[node].start_at_ms = self.now.ms;
            self.nodes[node].stalled_until_ms = 0;
        }
        self.faults.calm();
        if let Some(cluster) = &mut self.cluster {
            cluster.network.heal();
            cluster.network.weather.calm();
        }
        for round in 0..CALM_STEPS {
            if !self.wrong.is_empty() {
                return;
            }
            self.pass(CALM_STEP_MS).await;
            self.start_those_due();
            for node in 0..self.nodes.len() {
                self.turn_of(node, 64);
            }
            self.settle().await;
            if round % 50 == 0 {
                (0..self.nodes.len()).for_each(|node| self.keep_of(node, true));
            }
            if round == CALM_STEPS / 2 || round == CALM_STEPS - 20 {
                self.last_reads();
            }
        }
        for client in 0..self.clients.len() {
            if let Some(flight) = self.clients[client].take() {
                let call = self.history.calls[flight.call].clone();
                self.wrong(format!("call {} of step {} was never answered: {:?}", call.id, call.began.step, call.request));
            }
        }
        let present = self.present();
        let mut place = 0;
        while place < self.watchers.len() {
            let id = self.watchers[place].log.id;
            // A watch that reads its history may come back without anything and go on at once.
            let mut quiet = 0;
            while quiet < 8 && self.watchers.get(place).is_some_and(|watcher| watcher.log.id == id) {
                quiet = if self.read_watch(place) { 0 } else { quiet + 1 };
            }
            if let Some(watcher) = self.watchers.get_mut(place).filter(|watcher| watcher.log.id == id) {
                watcher.log.complete = present.contains(&watcher.log.node);
                place += 1;
            }
        }
    }

    /// The nodes that should be there at the end.
    fn present(&self) -> Vec<usize> {
        let members: Vec<u64> = self.members().iter().map(|member| member.id).collect();
        let is_member = |node: &Node| node.seat.as_ref().is_none_or(|seat| members.contains(&seat.id));
        (0..self.nodes.len()).filter(|node| is_member(&self.nodes[*node])).collect()
    }

    fn last_reads(&mut self) {
        for node in self.present() {
            let Some(client) = self.clients.iter().position(Option::is_none) else { return };
            self.next_id += 1;
            let everything = RangeRequest::new(KeyRange::between("\0", "\0"));
            self.call(client, node, super::history::Request::Range(everything));
        }
    }

    /// What every member holds at the end is what the log made.
    fn compare_states(&mut self) {
        let replay = check::Replay::new(&self.history);
        if self.cluster.is_some() && !self.is_level() {
            let status: Vec<_> = self.nodes.iter().map(|node| node.live.as_ref().and_then(|live| live.engine.raft_status())).collect();
            return self.wrong(format!("the members are not level at the end: {status:?}"));
        }
        for node in self.present() {
            let Some(live) = &self.nodes[node].live else {
                self.wrong(format!("member {node} is not there at the end"));
                continue;
            };
            let Some(Ok(history)) = finish(live.engine.history(0)) else {
                self.wrong(format!("member {node} cannot show its history"));
                continue;
            };
            if let Err(what) = same_state(history, &replay) {
                self.wrong(format!("member {node} at the end: {what}"));
            }
        }
    }
}

fn same_state(history: crate::History, replay: &check::Replay) -> Result<(), String> {
    let model = &replay.model;
    if (history.revision, history.compact_revision) != (model.revision(), model.compact_revision) {
        return Err(format!(
            "revision {} and compaction {}, not {} and {}",
            history.revision,
            history.compact_revision,
            model.revision(),
            model.compact_revision
        ));
    }
    let compacted = model.compact_revision.max(1);
    let kept = model.at(compacted).values().cloned();
    let later = model.events.iter().filter(|(revision, ..)| *revision > compacted).map(|(revision, key, kv)| {
        kv.clone().unwrap_or_else(|| KeyValue { key: key.clone(), mod_revision: *revision, ..KeyValue::default() })
    });
    let order = |kv: &KeyValue| (kv.mod_revision, kv.key.clone());
    let mut expected: Vec<KeyValue> = kept.chain(later).collect();
    let found = history.read().map_err(|error| format!("its history cannot be read: {error}"))?;
    let mut found: Vec<KeyValue> = found.into_iter().map(|(kv, _)| kv).collect();
    expected.sort_by_key(order);
    found.sort_by_key(order);
    if let Some((expected, found)) = expected.iter().zip(&found).find(|(expected, found)| expected != found) {
        return Err(format!("{found:?} where {expected:?} belongs"));
    }
    if expected.len() == found.len() { Ok(()) } else { Err(format!("{} versions, not {}", found.len(), expected.len())) }
}
