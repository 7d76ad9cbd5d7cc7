//! `oxikube etcd` beside a real etcd: the same client, the same disk, in turns. Each line says how many times as good ours is.

mod phases;
mod server;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use testkit::wait;

use server::{Kind, Server};
use wire::{Connection, Event, Message};

/// Turns of each server in a phase, and how long one takes.
const TURNS: usize = 3;
const TURN: Duration = Duration::from_secs(2);
const VALUE_BYTES: usize = 256;

/// Runs the phases whose names contain `filter`.
pub fn run(binary: &Path, filter: &str) -> Result<()> {
    let dir = std::env::temp_dir().join(format!("oxi-bench-etcd-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = Bench { binary: binary.to_owned(), dir: dir.clone() }.run(filter);
    std::fs::remove_dir_all(&dir)?;
    result
}

struct Bench {
    binary: PathBuf,
    dir: PathBuf,
}

/// The two servers.
struct Pair {
    etcd: Server,
    ours: Server,
}

/// What a load did: calls, how long they took together, processor time of the server, latencies in microseconds.
#[derive(Default)]
struct Load {
    calls: u64,
    seconds: f64,
    cpu: f64,
    latencies_us: Vec<u32>,
}

impl Load {
    fn rate(&self) -> f64 {
        self.calls as f64 / self.seconds
    }

    fn cpu_us(&self) -> f64 {
        self.cpu * 1e6 / self.calls as f64
    }

    fn percentile_ms(&mut self, part: f64) -> f64 {
        self.latencies_us.sort_unstable();
        let at = (self.latencies_us.len() as f64 * part) as usize;
        self.latencies_us.get(at.min(self.latencies_us.len().saturating_sub(1))).map_or(0.0, |us| f64::from(*us) / 1e3)
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.seconds += other.seconds;
        self.cpu += other.cpu;
        self.latencies_us.extend(other.latencies_us);
    }
}

impl Bench {
    fn pair(&self, name: &str) -> Result<Pair> {
        let start = |kind, sub: &str| Server::start(kind, &self.binary, &self.dir.join(format!("{name}-{sub}")));
        Ok(Pair { etcd: start(Kind::Etcd, "etcd")?, ours: start(Kind::Oxikube, "ours")? })
    }
}

impl Pair {
    fn each(&self) -> [&Server; 2] {
        [&self.etcd, &self.ours]
    }

    /// Loads the servers in turns.
    fn compare(&self, clients: usize, method: &str, request: &dyn Fn(usize, u64) -> Message) -> Result<[Load; 2]> {
        let mut loads = [Load::default(), Load::default()];
        for turn in 0..TURNS {
            for (load, server) in loads.iter_mut().zip(self.each()) {
                load.add(drive(server, clients, method, TURN, &|client, n| request(client, n + turn as u64 * 1_000_000_000))?);
            }
        }
        Ok(loads)
    }
}

/// Keeps `clients` calls under way on one connection for a time.
fn drive(server: &Server, clients: usize, method: &str, time: Duration, request: &dyn Fn(usize, u64) -> Message) -> Result<Load> {
    let mut connection = Connection::open(&server.address, &format!("/etcdserverpb.KV/{method}"))?;
    connection.set_patience(Duration::from_secs(60))?;
    let (cpu, started) = (server.cpu()?, wait::now());
    let mut load = Load::default();
    // By stream, which counts in odd numbers: the client, its number of calls, when it began, whether an answer came.
    let mut calls: Vec<(usize, u64, Duration, bool)> = Vec::new();
    for client in 0..clients {
        connection.call(&request(client, 0).0, true);
        calls.push((client, 0, started.elapsed(), false));
    }
    let (mut running, mut failed) = (clients, 0);
    let mut ended = Vec::new();
    while running > 0 {
        connection.turn(|stream, event| match event {
            Event::Data(_) => calls[stream as usize / 2].3 = true,
            Event::End => ended.push(stream as usize / 2),
        })?;
        let now = started.elapsed();
        for call in ended.drain(..) {
            let (client, n, began, answered) = calls[call];
            load.calls += u64::from(answered);
            failed += u64::from(!answered);
            load.latencies_us.push((now - began).as_micros() as u32);
            if now < time {
                connection.call(&request(client, n + 1).0, true);
                calls.push((client, n + 1, now, false));
            } else {
                running -= 1;
            }
        }
    }
    anyhow::ensure!(failed == 0, "{failed} of {} calls failed at {}", load.calls + failed, server.name());
    load.seconds = started.elapsed().as_secs_f64();
    load.cpu = server.cpu()? - cpu;
    Ok(load)
}
