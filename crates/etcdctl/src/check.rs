//! `check perf` and `check datascale`: writes at a rate, or so many keys, and says whether that went well. Deletes what it wrote.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use clap::{ArgMatches, Command};
use etcd::pb;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Mutex, mpsc};

use crate::connection::Channel;
use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, group, is_on, string, switch, text};
use crate::printer::say_line;
use crate::{Ctl, go, keys, kv};

/// How long tidying up may take.
const AFTERWARDS: Duration = Duration::from_secs(30);
/// How long `check perf` writes.
const DURATION: Duration = Duration::from_secs(60);
const MEMORY: &str = "process_resident_memory_bytes";

struct Load {
    names: &'static [&'static str],
    clients: usize,
    /// Writes a second.
    rate: u32,
    /// Keys of `datascale`.
    keys: u64,
}

const LOADS: [Load; 4] = [
    Load { names: &["s", "small"], clients: 50, rate: 150, keys: 10_000 },
    Load { names: &["m", "medium"], clients: 200, rate: 1_000, keys: 100_000 },
    Load { names: &["l", "large"], clients: 500, rate: 8_000, keys: 1_000_000 },
    Load { names: &["xl", "xLarge"], clients: 1_000, rate: 15_000, keys: 3_000_000 },
];

pub fn check_command() -> Command {
    let common = || {
        [
            switch("auto-compact", "Compact storage with last revision after test is finished."),
            switch("auto-defrag", "Defragment storage after test is finished."),
        ]
    };
    let perf = command("perf", "perf [options]", "Check the performance of the etcd cluster").args([
        text("load", "s", "The performance check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)"),
        text("prefix", "/etcdctl-check-perf/", "The prefix for writing the performance check's keys."),
    ]);
    let datascale = command(
        "datascale",
        "datascale [options]",
        "Check the memory usage of holding data for different workloads on a given server endpoint.",
    )
    .long_about("If no endpoint is provided, localhost will be used. If multiple endpoints are provided, first endpoint will be used.")
    .args([
        text("load", "s", "The datascale check's workload model. Accepted workloads: s(small), m(medium), l(large), xl(xLarge)"),
        text("prefix", "/etcdctl-check-datascale/", "The prefix for writing the datascale check's keys."),
    ]);
    let about = "commands for checking properties of the etcd cluster";
    group("check", "check <subcommand>", about, vec![perf.args(common()), datascale.args(common())])
}

pub async fn run(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    let wanted = string(matches, "load");
    let load = LOADS.iter().find(|load| load.names.contains(&wanted.as_str()));
    let load = load.ok_or_else(|| Failure::new(exit::BAD_FEATURE, format!("unknown load option {wanted}")))?;
    let prefix = string(matches, "prefix");
    let channel = ctl.connect().await?;
    let request = pb::RangeRequest { limit: 1, ..everything(&prefix) };
    if !kv::range(ctl, &channel, request).await?.kvs.is_empty() {
        let text = format!("prefix {} has keys. Delete with etcdctl del --prefix {prefix} first", go::quote(prefix.as_bytes()));
        return Err(Failure::new(exit::INVALID_INPUT, text));
    }
    match name {
        "perf" => perf(ctl, load, &prefix, matches, &channel).await,
        _ => datascale(ctl, load, &prefix, matches, &channel).await,
    }
}

fn everything(prefix: &str) -> pb::RangeRequest {
    let (key, range_end) = keys::range(prefix.as_bytes(), true, false);
    pb::RangeRequest { key: key.into(), range_end: range_end.into(), ..Default::default() }
}

async fn perf(ctl: &Ctl, load: &Load, prefix: &str, matches: &ArgMatches, channel: &Channel) -> Outcome {
    let (requests, queue) = mpsc::channel(load.clients);
    let writers = Writers::start(ctl, load.clients, queue).await?;
    let start = base::clock::monotonic();
    let (mut sent, mut shown) = (0u64, 0);
    while start.elapsed() < DURATION {
        let due = (start.elapsed().as_secs_f64() * f64::from(load.rate)) as u64;
        while sent < due && start.elapsed() < DURATION {
            sent += 1;
            if requests.send(put(prefix, 256, 1024)).await.is_err() {
                return Err(Failure::error("all writers have ended"));
            }
        }
        if start.elapsed().as_secs() > shown {
            shown = start.elapsed().as_secs();
            progress(shown, DURATION.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(requests);
    let results = writers.finish().await?;
    progress(DURATION.as_secs(), DURATION.as_secs());
    let total = start.elapsed();
    tidy(ctl, channel, prefix, matches).await?;
    let mut good = results.tell_errors();
    let rate = results.took.len() as f64 / total.as_secs_f64();
    if rate / f64::from(load.rate) <= 0.9 {
        say_line(&format!("FAIL: Throughput too low: {} writes/s", rate as i64 + 1));
        good = false;
    } else {
        say_line(&format!("PASS: Throughput is {} writes/s", rate as i64 + 1));
    }
    let (slowest, deviation) = (results.slowest(), results.deviation());
    for (value, limit, bad, fine) in [
        (slowest, 0.5, "Slowest request took too long: ", "PASS: Slowest request took "),
        (deviation, 0.1, "Stddev too high: ", "PASS: Stddev is "),
    ] {
        good &= value <= limit;
        say_line(&format!("{}{value:.6}s", if value > limit { bad } else { fine }));
    }
    say_line(if good { "PASS" } else { "FAIL" });
    if good { Ok(()) } else { Err(Failure::silent(exit::ERROR)) }
}

async fn datascale(ctl: &Ctl, load: &Load, prefix: &str, matches: &ArgMatches, channel: &Channel) -> Outcome {
    let endpoint = ctl.global.endpoints.first().cloned().unwrap_or_default();
    let memory = async |when: &str| match resident_memory(&endpoint).await {
        Ok(bytes) => Ok(bytes),
        Err(reason) => {
            say_line(&reason);
            say_line(&format!("FAIL: Could not read {MEMORY} {when} the put operations."));
            Err(Failure::silent(exit::ERROR))
        }
    };
    let before = memory("before").await?;
    let (count, clients) = (load.keys, load.clients);
    say_line(&format!(
        "Start data scale check for work load [{count} key-value pairs, 1024 bytes per key-value, {clients} concurrent clients]."
    ));
    let (requests, queue) = mpsc::channel(clients);
    let writers = Writers::start(ctl, clients, queue).await?;
    for sent in 0..count {
        if requests.send(put(prefix, 512, 512)).await.is_err() {
            return Err(Failure::error("all writers have ended"));
        }
        if sent % 1000 == 0 {
            progress(sent, count);
        }
    }
    drop(requests);
    let results = writers.finish().await?;
    progress(count, count);
    let after = memory("after").await?;
    tidy(ctl, channel, prefix, matches).await?;
    if !results.tell_errors() {
        return Err(Failure::silent(exit::ERROR));
    }
    say_line(&format!("PASS: Approximate system memory used : {:.2} MB.", (after - before) / 1_048_576.0));
    Ok(())
}

/// A key that is probably new, and a value.
fn put(prefix: &str, key_bytes: usize, value_bytes: usize) -> pb::PutRequest {
    let mut key = prefix.as_bytes().to_vec();
    key.extend_from_slice(&rand::random::<u64>().to_be_bytes());
    key.resize(prefix.len() + key_bytes, 0);
    pb::PutRequest { key: key.into(), value: vec![0; value_bytes].into(), ..Default::default() }
}

fn progress(done: u64, all: u64) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{done} / {all}{}", if done == all { "\n" } else { "" });
    }
}

#[derive(Default)]
struct Results {
    /// Seconds of each write that went well.
    took: Vec<f64>,
    errors: BTreeMap<String, u64>,
}

impl Results {
    /// Whether there were none.
    fn tell_errors(&self) -> bool {
        if !self.errors.is_empty() {
            say_line("FAIL: too many errors");
        }
        for (text, count) in &self.errors {
            say_line(&format!("FAIL: ERROR({text}) -> {count}"));
        }
        self.errors.is_empty()
    }

    fn slowest(&self) -> f64 {
        self.took.iter().copied().fold(0.0, f64::max)
    }

    fn deviation(&self) -> f64 {
        let count = self.took.len().max(1) as f64;
        let mean = self.took.iter().sum::<f64>() / count;
        (self.took.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count).sqrt()
    }
}

/// Clients with a connection each, which write what is in the queue.
struct Writers(tokio::task::JoinSet<Results>);

impl Writers {
    async fn start(ctl: &Ctl, clients: usize, queue: mpsc::Receiver<pb::PutRequest>) -> Outcome<Self> {
        let queue = Arc::new(Mutex::new(queue));
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..clients {
            writers.spawn(write(ctl.connect().await?, queue.clone()));
        }
        Ok(Self(writers))
    }

    async fn finish(mut self) -> Outcome<Results> {
        let mut all = Results::default();
        while let Some(results) = self.0.join_next().await {
            let results = results.map_err(|error| Failure::error(error.to_string()))?;
            all.took.extend(results.took);
            for (text, count) in results.errors {
                *all.errors.entry(text).or_default() += count;
            }
        }
        Ok(all)
    }
}

async fn write(channel: Channel, queue: Arc<Mutex<mpsc::Receiver<pb::PutRequest>>>) -> Results {
    let (mut client, mut results) = (channel.kv(), Results::default());
    loop {
        let request = queue.lock().await.recv().await;
        let Some(request) = request else { return results };
        let start = base::clock::monotonic();
        match client.put(request).await {
            Ok(_) => results.took.push(start.elapsed().as_secs_f64()),
            Err(status) => *results.errors.entry(exit::rpc_text(&status)).or_default() += 1,
        }
    }
}

/// Deletes the keys, and frees their space where that is wanted.
async fn tidy(ctl: &Ctl, channel: &Channel, prefix: &str, matches: &ArgMatches) -> Outcome {
    let late = |_| Failure::error(exit::DEADLINE);
    let range = everything(prefix);
    let request = pb::DeleteRangeRequest { key: range.key, range_end: range.range_end, prev_kv: false };
    let deleted = tokio::time::timeout(AFTERWARDS, channel.kv().delete_range(request)).await.map_err(late)??.into_inner();
    if is_on(matches, "auto-compact") {
        let revision = deleted.header.map_or(0, |header| header.revision);
        say_line(&format!("Compacting with revision {revision}"));
        let request = pb::CompactionRequest { revision, physical: true };
        tokio::time::timeout(AFTERWARDS, channel.kv().compact(request)).await.map_err(late)??;
        say_line(&format!("Compacted with revision {revision}"));
    }
    if is_on(matches, "auto-defrag") {
        for endpoint in &ctl.global.endpoints {
            let shown = go::quote(endpoint.as_bytes());
            say_line(&format!("Defragmenting {shown}"));
            let mut client = ctl.connect_to(endpoint).await?.maintenance();
            tokio::time::timeout(AFTERWARDS, client.defragment(pb::DefragmentRequest {})).await.map_err(late)??;
            say_line(&format!("Defragmented {shown}"));
        }
    }
    Ok(())
}

/// From the server's metrics, without TLS, as upstream asks for them.
async fn resident_memory(endpoint: &str) -> Result<f64, String> {
    let host = endpoint.trim_start_matches("http://").trim_end_matches('/');
    let fetch = async {
        let mut stream = tokio::net::TcpStream::connect(host).await?;
        stream.write_all(format!("GET /metrics HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let text = fetch.await.map_err(|error| format!("fetch error: {error}"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(MEMORY)).ok_or_else(|| format!("could not find: {MEMORY}"))?;
    value.trim().parse().map_err(|error| format!("parse error: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics() {
        let results = Results { took: vec![0.1, 0.3], errors: BTreeMap::new() };
        assert!((results.slowest() - 0.3).abs() < 1e-9 && (results.deviation() - 0.1).abs() < 1e-9);
        assert!(results.tell_errors());
        assert_eq!(Results::default().deviation(), 0.0);
    }

    #[test]
    fn keys_have_the_size_of_upstreams() {
        let request = put("/p/", 256, 1024);
        assert_eq!((request.key.len(), request.value.len()), (259, 1024));
        assert!(request.key.starts_with(b"/p/"));
    }
}
