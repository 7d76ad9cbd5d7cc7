//! What is compared, each with its target.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use testkit::wait;

use super::server::Server;
use super::wire::{Connection, Event, Message};
use super::{Bench, Load, VALUE_BYTES, drive};

const KV_WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEYS: u64 = 1_000_000;

/// One line: how many times as much ours is as etcd's.
fn ratio(what: &str, etcd: f64, ours: f64, unit: &str, target: f64, larger_is_better: bool) {
    let times = ours / etcd;
    let good = if larger_is_better { times >= target } else { times <= target };
    let sign = if larger_is_better { ">=" } else { "<=" };
    println!(
        "{what:<46} etcd {etcd:>10.1} ours {ours:>10.1} {unit:<8} {times:>6.2}x target {sign} {target:>4.2}x  {}",
        if good { "ok" } else { "MISSED" }
    );
}

fn absolute(what: &str, etcd: f64, ours: f64, unit: &str, target: f64) {
    let verdict = if ours <= target { "ok" } else { "MISSED" };
    println!("{what:<46} etcd {etcd:>10.2} ours {ours:>10.2} {unit:<8} target <= {target:>6.1}  {verdict}");
}

fn key(client: usize, n: u64) -> Vec<u8> {
    format!("/bench/{client}/{:04}", n % 1000).into_bytes()
}

fn put(key: &[u8], bytes: usize) -> Message {
    Message::default().bytes(1, key).bytes(2, &vec![b'v'; bytes])
}

/// All keys that start so.
fn prefix(message: Message, prefix: &[u8]) -> Message {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    message.bytes(1, prefix).bytes(2, &end)
}

/// The API server's create: a put where the key does not exist.
fn create(key: &[u8]) -> Message {
    // Compare: result EQUAL, target MOD, key, mod_revision 0.
    let compare = Message::default().number(2, 2).bytes(3, key).number(6, 0);
    let success = Message::default().bytes(2, &put(key, VALUE_BYTES).0);
    let failure = Message::default().bytes(1, &Message::default().bytes(1, key).0);
    Message::default().bytes(1, &compare.0).bytes(2, &success.0).bytes(3, &failure.0)
}

/// One part of the report.
type Phase = fn(&Bench) -> Result<()>;

impl Bench {
    pub fn run(&self, filter: &str) -> Result<()> {
        let phases: [(&str, Phase); 7] = [
            ("put", Self::puts),
            ("create", Self::creates),
            ("get", Self::gets),
            ("fan-out", Self::fan_out),
            ("memory", Self::memory),
            ("compaction", Self::compaction),
            ("watchers", Self::watchers),
        ];
        for (name, phase) in phases {
            if name.contains(filter) {
                phase(self).with_context(|| format!("measuring {name}"))?;
            }
        }
        Ok(())
    }

    fn puts(&self) -> Result<()> {
        let pair = self.pair("put")?;
        for (clients, target) in [(1, 1.2), (64, 1.6), (256, 1.5)] {
            let [etcd, ours] = pair.compare(clients, "Put", &|client, n| put(&key(client, n), VALUE_BYTES))?;
            ratio(&format!("put of 256 B, {clients} clients"), etcd.rate(), ours.rate(), "/s", target, true);
            ratio(&format!("  processor time of a put, {clients} clients"), etcd.cpu_us(), ours.cpu_us(), "us", 0.35, false);
        }
        Ok(())
    }

    fn creates(&self) -> Result<()> {
        let pair = self.pair("create")?;
        let [etcd, ours] = pair.compare(64, "Txn", &|client, n| create(format!("/create/{client}/{n}").as_bytes()))?;
        ratio("create transaction, 64 clients", etcd.rate(), ours.rate(), "/s", 1.6, true);
        Ok(())
    }

    fn gets(&self) -> Result<()> {
        let pair = self.pair("get")?;
        for server in pair.each() {
            fill(server, 1000, VALUE_BYTES, &|n| key(0, n))?;
        }
        let [etcd, ours] = pair.compare(64, "Range", &|_, n| Message::default().bytes(1, &key(0, n)))?;
        ratio("linearizable get, 64 clients", etcd.rate(), ours.rate(), "/s", 3.0, true);
        ratio("  processor time of a get", etcd.cpu_us(), ours.cpu_us(), "us", 0.35, false);
        let [etcd, ours] = pair.compare(4, "Range", &|_, _| prefix(Message::default(), b"/bench/0/"))?;
        ratio("range of 1,000 keys, 4 clients", etcd.rate(), ours.rate(), "/s", 3.0, true);
        Ok(())
    }

    fn fan_out(&self) -> Result<()> {
        let pair = self.pair("fan-out")?;
        let mut rates = [Vec::new(), Vec::new()];
        let mut cpu = [0.0; 2];
        for _ in 0..super::TURNS {
            for (n, server) in pair.each().into_iter().enumerate() {
                let load = fan_out(server, 10, 100, 500)?;
                rates[n].push(load.rate());
                cpu[n] += load.cpu_us() / super::TURNS as f64;
            }
        }
        let [etcd, ours] = rates.map(|rates| rates.iter().sum::<f64>() / rates.len() as f64);
        ratio("watch fan-out, 1,000 watchers", etcd, ours, "events/s", 3.0, true);
        ratio("  processor time of an event", cpu[0], cpu[1], "us", 0.35, false);
        Ok(())
    }

    fn memory(&self) -> Result<()> {
        let mut pair = self.pair("memory")?;
        for server in pair.each() {
            fill(server, KEYS, 1024, &|n| format!("/registry/things/namespace-{:03}/{n:08}", n % 500).into_bytes())?;
        }
        let [etcd, ours] = [pair.etcd.memory_mb()?, pair.ours.memory_mb()?];
        ratio("memory after 1,000,000 keys of 1 KiB", etcd, ours, "MB", 0.5, false);
        let (etcd, ours) = (pair.etcd.restart()?, pair.ours.restart()?);
        absolute("start with them, until it answers", etcd.as_secs_f64(), ours.as_secs_f64(), "s", 1.0);
        let [etcd, ours] = [pair.etcd.memory_mb()?, pair.ours.memory_mb()?];
        ratio("memory after that start", etcd, ours, "MB", 0.5, false);
        Ok(())
    }

    fn compaction(&self) -> Result<()> {
        let pair = self.pair("compaction")?;
        let mut p99 = [0.0; 2];
        let mut quiet = [0.0; 2];
        for (n, server) in pair.each().into_iter().enumerate() {
            for round in 0..KEYS / 100_000 {
                let done = std::cell::Cell::new(0u64);
                let next = |client: usize, n: u64| {
                    done.set(done.get() + 1);
                    put(format!("/bench/{:05}", (n * 256 + client as u64 + round) % 10_000).as_bytes(), VALUE_BYTES)
                };
                drive_count(server, 256, 100_000, &next)?;
            }
            let mut load = drive(server, 16, "Put", Duration::from_secs(2), &|client, n| put(&key(client, n), VALUE_BYTES))?;
            quiet[n] = load.percentile_ms(0.99);
            p99[n] = during_compaction(server)?.percentile_ms(0.99);
        }
        absolute("p99 of puts, 16 clients, before a compaction", quiet[0], quiet[1], "ms", 10.0);
        absolute("p99 of puts while 1,000,000 revisions go", p99[0], p99[1], "ms", 10.0);
        Ok(())
    }

    fn watchers(&self) -> Result<()> {
        let pair = self.pair("watchers")?;
        let mut used = [0.0; 2];
        let mut slow = [0.0; 2];
        for (n, server) in pair.each().into_iter().enumerate() {
            // Streams that nobody reads.
            let mut stuck = Vec::new();
            for _ in 0..20 {
                let mut connection = Connection::open(&server.address, KV_WATCH)?;
                open_watches(&mut connection, 500)?;
                stuck.push(connection);
            }
            let load = fan_out(server, 10, 10, 2000)?;
            slow[n] = load.rate();
            used[n] = server.memory_mb()?;
        }
        ratio("events/s of 100 watchers beside 10,000 stuck ones", slow[0], slow[1], "events/s", 1.0, true);
        absolute("memory with 10,000 stuck watchers", used[0], used[1], "MB", 300.0);
        Ok(())
    }
}

/// Writes `count` keys, forty in a transaction.
fn fill(server: &Server, count: u64, bytes: usize, key: &dyn Fn(u64) -> Vec<u8>) -> Result<()> {
    const EACH: u64 = 40;
    let mut connection = Connection::open(&server.address, "/etcdserverpb.KV/Txn")?;
    connection.set_patience(Duration::from_secs(60))?;
    let (mut next, mut done, mut answers) = (0, 0, 0);
    while done * EACH < count {
        while next * EACH < count && next - done < 16 {
            let mut txn = Message::default();
            for n in next * EACH..((next + 1) * EACH).min(count) {
                txn = txn.bytes(2, &Message::default().bytes(2, &put(&key(n), bytes).0).0);
            }
            connection.call(&txn.0, true);
            next += 1;
        }
        connection.turn(|_, event| match event {
            Event::Data(_) => answers += 1,
            Event::End => done += 1,
        })?;
    }
    ensure!(answers >= done, "{} of {done} transactions failed at {}", done - answers, server.name());
    Ok(())
}

/// Calls until so many are done.
fn drive_count(server: &Server, clients: usize, count: u64, request: &dyn Fn(usize, u64) -> Message) -> Result<()> {
    let mut connection = Connection::open(&server.address, "/etcdserverpb.KV/Put")?;
    connection.set_patience(Duration::from_secs(60))?;
    for client in 0..clients {
        connection.call(&request(client, 0).0, true);
    }
    let (mut begun, mut done) = (clients as u64, 0);
    while done < count {
        let mut ended = 0;
        connection.turn(|_, event| ended += u64::from(matches!(event, Event::End)))?;
        for _ in 0..ended {
            done += 1;
            if begun < count {
                connection.call(&request((begun % clients as u64) as usize, begun / clients as u64).0, true);
                begun += 1;
            }
        }
    }
    Ok(())
}

/// Puts while everything so far is compacted.
fn during_compaction(server: &Server) -> Result<Load> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let compaction = scope.spawn(|| {
            let result = compact(server);
            done.store(true, Ordering::Relaxed);
            result
        });
        let mut load = Load::default();
        while !done.load(Ordering::Relaxed) || load.seconds < 2.0 {
            load.add(drive(server, 16, "Put", Duration::from_millis(500), &|client, n| put(&key(client, n), VALUE_BYTES))?);
        }
        compaction.join().map_err(|_| anyhow::anyhow!("the compaction panicked"))??;
        println!("  compaction at {}: {:.1} s", server.name(), load.seconds);
        Ok(load)
    })
}

fn compact(server: &Server) -> Result<()> {
    let mut connection = Connection::open(&server.address, "/etcdserverpb.KV/Compact")?;
    connection.set_patience(Duration::from_secs(300))?;
    connection.call(&Message::default().number(1, KEYS).number(2, 1).0, true);
    let (mut answered, mut ended) = (false, false);
    while !ended {
        connection.turn(|_, event| match event {
            Event::Data(_) => answered = true,
            Event::End => ended = true,
        })?;
    }
    ensure!(answered, "the compaction failed at {}", server.name());
    Ok(())
}

/// Begins watches of `/fan/` on one stream and waits until they are there.
fn open_watches(connection: &mut Connection, count: usize) -> Result<()> {
    connection.set_patience(Duration::from_secs(60))?;
    let create = Message::default().bytes(1, &prefix(Message::default(), b"/fan/").0);
    let stream = connection.call(&create.0, false);
    for _ in 1..count {
        connection.send(stream, &create.0, false);
    }
    let mut messages = Messages::default();
    while messages.whole < count as u64 {
        connection.turn(|_, event| {
            if let Event::Data(data) = event {
                messages.add(data);
            }
        })?;
    }
    Ok(())
}

/// Counts what comes on a watch stream.
#[derive(Default)]
struct Messages {
    /// The message under way, behind its gRPC header.
    data: Vec<u8>,
    whole: u64,
    events: u64,
}

impl Messages {
    fn add(&mut self, data: &[u8]) {
        if self.data.is_empty() {
            let rest = self.count(data).to_vec();
            self.data = rest;
            return;
        }
        let mut whole = std::mem::take(&mut self.data);
        whole.extend_from_slice(data);
        let left = self.count(&whole).len();
        whole.drain(..whole.len() - left);
        self.data = whole;
    }

    /// Counts whole messages; returns what is left.
    fn count<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while let Some((header, after)) = rest.split_first_chunk::<5>() {
            let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
            let Some((message, after)) = after.split_at_checked(length) else { break };
            self.whole += 1;
            self.events += events(message);
            rest = after;
        }
        rest
    }
}

/// How many events a WatchResponse has: fields with number 11.
fn events(mut message: &[u8]) -> u64 {
    let mut count = 0;
    while let [tag, rest @ ..] = message {
        let (mut value, mut shift, mut rest) = (0usize, 0, rest);
        while let [byte, after @ ..] = rest {
            value |= usize::from(byte & 0x7f) << shift;
            (shift, rest) = (shift + 7, after);
            if byte < &0x80 {
                break;
            }
        }
        message = if tag & 7 == 2 { rest.get(value..).unwrap_or_default() } else { rest };
        count += u64::from(*tag == 11 << 3 | 2);
    }
    count
}

/// Each of `streams` times `each` watchers sees `puts` puts.
fn fan_out(server: &Server, streams: usize, each: usize, puts: usize) -> Result<Load> {
    let cpu = server.cpu()?;
    let ready = std::sync::Barrier::new(streams + 1);
    let seconds = std::thread::scope(|scope| -> Result<f64> {
        let watch = || -> Result<()> {
            let mut connection = Connection::open(&server.address, KV_WATCH)?;
            let opened = open_watches(&mut connection, each);
            ready.wait();
            opened?;
            let mut messages = Messages::default();
            while messages.events < (each * puts) as u64 {
                connection.turn(|_, event| {
                    if let Event::Data(data) = event {
                        messages.add(data);
                    }
                })?;
            }
            Ok(())
        };
        let watching: Vec<_> = (0..streams).map(|_| scope.spawn(watch)).collect();
        ready.wait();
        let began = wait::now();
        drive_count(server, 1, puts as u64, &|_, n| put(format!("/fan/{n}").as_bytes(), VALUE_BYTES))?;
        for watch in watching {
            watch.join().map_err(|_| anyhow::anyhow!("a watcher panicked"))??;
        }
        Ok(began.elapsed().as_secs_f64())
    })?;
    Ok(Load { calls: (streams * each * puts) as u64, seconds, cpu: server.cpu()? - cpu, latencies_us: Vec::new() })
}
