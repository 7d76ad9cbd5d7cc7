//! Prints how fast a cluster of one is beside the embedded store, and three members in one process: puts and linearizable gets.
//!
//! `cargo run --release -p store --example member_bench [folder]` (a folder on the disk to be measured; a temporary one without it).

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use store::{
    Answer, Bootstrap, Engine, EngineOptions, KeyRange, Kv, KvError, Member, MemberOptions, MessageKind, OutgoingSnapshot, PutRequest,
    RangeRequest, Transport,
};

const PHASE: Duration = Duration::from_secs(2);

/// Members in one process.
#[derive(Default)]
struct Net(Mutex<BTreeMap<u64, Engine>>);

struct Port(u64, Arc<Net>);

impl Port {
    fn to(&self, id: u64) -> Option<Engine> {
        self.1.0.lock().get(&id).cloned()
    }
}

impl Transport for Port {
    fn send(&self, to: u64, message: Bytes, _: MessageKind) {
        if let Some(engine) = self.to(to) {
            engine.receive(self.0, message);
        }
    }

    fn send_snapshot(&self, to: u64, _: OutgoingSnapshot) {
        if let Some(engine) = self.to(self.0) {
            engine.snapshot_sent(to, false);
        }
    }

    fn ask(&self, to: u64, question: Bytes) -> Answer {
        let (from, engine) = (self.0, self.to(to));
        Box::pin(async move {
            match engine {
                Some(engine) => engine.answer(from, question).await,
                None => Err(KvError::NoLeader),
            }
        })
    }

    fn members_changed(&self, _: &[Member]) {}

    fn connected_for(&self, _: u64) -> Option<Duration> {
        Some(PHASE)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join(format!("member-bench-{}", std::process::id())), Into::into);
    let result = tokio::runtime::Runtime::new()?.block_on(bench(&dir));
    std::fs::remove_dir_all(&dir)?;
    Ok(result?)
}

async fn bench(dir: &Path) -> Result<(), KvError> {
    let tasks = base::Tasks::new();
    let embedded = Engine::open(&dir.join("embedded"), EngineOptions::default(), &tasks)?;
    let alone = cluster(dir, 1, &tasks)?;
    let three = cluster(dir, 3, &tasks)?;
    for members in [&alone, &three] {
        members[0].put(PutRequest::new("first", "")).await?;
    }
    let id = three[0].raft_status().map_or(0, |status| status.leader);
    let place = usize::try_from(id.saturating_sub(1)).unwrap_or(0);
    let (leader, follower) = (three[place].clone(), three[(place + 1) % 3].clone());
    let alone = alone[0].clone();
    println!("{:<8} {:>20} {:>20} {:>6} {:>20} {:>20}", "", "embedded", "alone", "ratio", "3, leader", "3, follower");
    for clients in [1, 64, 256] {
        line(&format!("put {clients}"), [&embedded, &alone, &leader, &follower], clients, false).await?;
    }
    for clients in [1, 64] {
        line(&format!("get {clients}"), [&embedded, &alone, &leader, &follower], clients, true).await?;
    }
    for engine in three.iter().chain([&embedded, &alone]) {
        engine.close().await?;
    }
    Ok(())
}

fn cluster(dir: &Path, size: u64, tasks: &base::Tasks) -> Result<Vec<Engine>, KvError> {
    let members: Vec<Member> =
        (1..=size).map(|id| Member { id, peer_urls: vec![format!("http://{size}-{id}")], ..Member::default() }).collect();
    let net = Arc::new(Net::default());
    for id in 1..=size {
        let options = MemberOptions::new(size, id, Bootstrap::New(members.clone()));
        let folder = dir.join(format!("{size}-{id}"));
        let engine = Engine::open_member(&folder, EngineOptions::default(), options, Arc::new(Port(id, net.clone())), tasks)?;
        net.0.lock().insert(id, engine);
    }
    let engines = net.0.lock();
    Ok(engines.values().cloned().collect())
}

async fn line(name: &str, engines: [&Engine; 4], clients: usize, reads: bool) -> Result<(), KvError> {
    // Twice, there and back: what one leaves to the disk the next one pays for.
    let mut rates = [(0.0, 0.0); 4];
    for place in [0, 1, 2, 3, 3, 2, 1, 0] {
        let (rate, cpu_us) = rate(engines[place], clients, reads).await?;
        rates[place].0 += rate / 2.0;
        rates[place].1 += cpu_us / 2.0;
    }
    let show = |(rate, cpu_us): (f64, f64)| format!("{rate:>8.0}/s {cpu_us:>6.1} us");
    let ratio = rates[1].0 / rates[0].0;
    println!("{name:<8} {} {} {ratio:>6.2} {} {}", show(rates[0]), show(rates[1]), show(rates[2]), show(rates[3]));
    Ok(())
}

/// Microseconds that this process has computed so far.
fn cpu_us() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) * 1e4
}

/// How often a second, and how much the process computed for each.
async fn rate(engine: &Engine, clients: usize, reads: bool) -> Result<(f64, f64), KvError> {
    let before_us = cpu_us();
    let started = base::clock::monotonic();
    let mut running = Vec::new();
    for client in 0..clients {
        let engine = engine.clone();
        running.push(tokio::spawn(async move {
            let mut done = 0u64;
            while started.elapsed() < PHASE {
                let key = format!("/bench/{client}/{}", done % 1000);
                if reads {
                    engine.range(RangeRequest::new(KeyRange::one(key))).await?;
                } else {
                    engine.put(PutRequest::new(key, vec![b'v'; 256])).await?;
                }
                done += 1;
            }
            Ok::<_, KvError>(done)
        }));
    }
    let mut done = 0;
    for client in running {
        done += client.await.map_err(|error| KvError::Internal(error.to_string()))??;
    }
    let done = done as f64;
    Ok((done / started.elapsed().as_secs_f64(), (cpu_us() - before_us) / done))
}
