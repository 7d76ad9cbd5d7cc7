//! Prints how fast our server is beside a real etcd: the same client, the same disk, one after the other in each round.
//!
//! `cargo run --release -p etcd --example compare [seconds a phase] [folder]`. Needs `etcd` on the path. The servers are processes of their own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use etcd::EtcdKv;
use store::{Compare, KeyRange, Kv, KvError, Op, PutRequest, RangeRequest, Txn, WatchRequest};

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VALUE_BYTES: usize = 256;
/// What the first argument makes this program: our server.
const SERVE: &str = "serve";

type Error = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Runtime::new()?;
    if arguments.first().is_some_and(|first| first == SERVE) {
        return runtime.block_on(serve(&arguments[1], &arguments[2]));
    }
    let seconds = arguments.first().map_or(Ok(3), |text| text.parse())?;
    let dir = arguments.get(1).map_or_else(|| std::env::temp_dir().join(format!("etcd-compare-{}", std::process::id())), PathBuf::from);
    let result = runtime.block_on(compare(&dir, Duration::from_secs(seconds)));
    std::fs::remove_dir_all(&dir)?;
    result
}

async fn serve(url: &str, dir: &str) -> Result<(), Error> {
    let tasks = base::Tasks::new();
    let options = etcd::Options { listen_client_urls: url.into(), data_dir: Some(dir.into()), ..Default::default() };
    etcd::Server::init(options, &tasks).await?.run(tasks).await?;
    Ok(())
}

struct Peer {
    process: Child,
    kv: EtcdKv,
}

impl Peer {
    async fn start(mut command: Command, endpoint: &str) -> Result<Self, Error> {
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let kv = EtcdKv::connect(&[endpoint.to_owned()], None, &base::Tasks::new())?;
        let peer = Self { process, kv };
        peer.kv.status().await?;
        Ok(peer)
    }

    /// Seconds of processor time so far.
    fn cpu(&self) -> Result<f64, Error> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = fields.get(11).zip(fields.get(12)).ok_or("a strange /proc/stat")?;
        Ok((ticks.0.parse::<f64>()? + ticks.1.parse::<f64>()?) / 100.0)
    }

    fn memory_mb(&self) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("a strange /proc/status")?;
        Ok(line.split_whitespace().next().ok_or("no number")?.parse::<f64>()? / 1024.0)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_url() -> Result<String, Error> {
    Ok(format!("http://{}", TcpListener::bind("127.0.0.1:0")?.local_addr()?))
}

async fn start_real(dir: &Path) -> Result<Peer, Error> {
    let (client, peer) = (free_url()?, free_url()?);
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(dir)
        .args(["--log-level", "error", "--logger", "zap", "--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")]);
    Peer::start(command, &client).await
}

async fn start_ours(dir: &Path) -> Result<Peer, Error> {
    let url = free_url()?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args([SERVE, &url]).arg(dir);
    Peer::start(command, &url).await
}

async fn compare(dir: &Path, time: Duration) -> Result<(), Error> {
    std::fs::create_dir_all(dir)?;
    let real = start_real(&dir.join("real")).await?;
    let ours = start_ours(&dir.join("ours")).await?;
    println!("{:<34} {:>10} {:>10} {:>7} {:>12} {:>12} {:>7}", "", "etcd/s", "ours/s", "ratio", "etcd us cpu", "ours us cpu", "ratio");
    for clients in [1, 64, 256] {
        let put = |kv: EtcdKv, client: usize, n: u64| async move {
            kv.put(PutRequest::new(format!("/bench/{client}/{}", n % 1000), vec![b'v'; VALUE_BYTES])).await.map(|_| ())
        };
        phase(&format!("put of 256 B, {clients} clients"), &real, &ours, clients, time, put).await?;
    }
    let create = |kv: EtcdKv, client: usize, n: u64| async move {
        let key = format!("/create/{client}/{n}");
        let put = Op::Put(PutRequest::new(key.clone(), vec![b'v'; VALUE_BYTES]));
        let get = Op::Range(RangeRequest::new(KeyRange::one(key.clone())));
        kv.txn(Txn { compare: vec![Compare::mod_revision(key, 0)], success: vec![put], failure: vec![get] }).await.map(|_| ())
    };
    phase("create transaction, 64 clients", &real, &ours, 64, time, create).await?;
    for clients in [1, 64] {
        let get = |kv: EtcdKv, _, n: u64| async move {
            kv.range(RangeRequest::new(KeyRange::one(format!("/bench/0/{}", n % 1000)))).await.map(|_| ())
        };
        phase(&format!("linearizable get, {clients} clients"), &real, &ours, clients, time, get).await?;
    }
    let range = |kv: EtcdKv, _, _| async move { kv.range(RangeRequest::new(KeyRange::prefix("/bench/0/")).limit(1000)).await.map(|_| ()) };
    phase("range of 1,000 keys, 4 clients", &real, &ours, 4, time, range).await?;
    fan_out("etcd", &real).await?;
    fan_out("ours", &ours).await?;
    println!("memory: etcd {:.0} MB, ours {:.0} MB", real.memory_mb()?, ours.memory_mb()?);
    Ok(())
}

async fn phase<F>(
    name: &str,
    real: &Peer,
    ours: &Peer,
    clients: usize,
    time: Duration,
    call: impl Fn(EtcdKv, usize, u64) -> F + Copy + Send + Sync + 'static,
) -> Result<(), Error>
where
    F: Future<Output = Result<(), KvError>> + Send,
{
    let (real_rate, real_cpu) = measure(real, clients, time, call).await?;
    let (ours_rate, ours_cpu) = measure(ours, clients, time, call).await?;
    println!(
        "{name:<34} {real_rate:>10.0} {ours_rate:>10.0} {:>7.2} {real_cpu:>12.1} {ours_cpu:>12.1} {:>7.2}",
        ours_rate / real_rate,
        ours_cpu / real_cpu
    );
    Ok(())
}

/// Calls a second, and microseconds of the server's processor time a call.
async fn measure<F>(
    peer: &Peer,
    clients: usize,
    time: Duration,
    call: impl Fn(EtcdKv, usize, u64) -> F + Copy + Send + Sync + 'static,
) -> Result<(f64, f64), Error>
where
    F: Future<Output = Result<(), KvError>> + Send,
{
    let done = Arc::new(AtomicU64::new(0));
    let (cpu, start) = (peer.cpu()?, base::clock::monotonic());
    let mut running = Vec::new();
    for client in 0..clients {
        let (kv, done) = (peer.kv.clone(), done.clone());
        running.push(tokio::spawn(async move {
            let mut n = 0;
            while start.elapsed() < time {
                call(kv.clone(), client, n).await?;
                n += 1;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, KvError>(())
        }));
    }
    for client in running {
        client.await??;
    }
    let calls = done.load(Ordering::Relaxed) as f64;
    Ok((calls / start.elapsed().as_secs_f64(), (peer.cpu()? - cpu) * 1e6 / calls))
}

async fn fan_out(name: &str, peer: &Peer) -> Result<(), Error> {
    const WATCHERS: usize = 200;
    const PUTS: usize = 500;
    let mut running = Vec::new();
    for _ in 0..WATCHERS {
        let mut watch = peer.kv.watch(WatchRequest::new(KeyRange::prefix("/fan/"), 0)).await?;
        running.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < PUTS {
                seen += watch.next().await?.events.len();
            }
            Ok::<_, KvError>(())
        }));
    }
    let (cpu, start) = (peer.cpu()?, base::clock::monotonic());
    for n in 0..PUTS {
        peer.kv.put(PutRequest::new(format!("/fan/{n}"), vec![b'v'; VALUE_BYTES])).await?;
    }
    for watch in running {
        watch.await??;
    }
    let events = (WATCHERS * PUTS) as f64;
    println!(
        "watch fan-out, {WATCHERS} watchers, {name}: {:.0} events/s, {:.1} us cpu each",
        events / start.elapsed().as_secs_f64(),
        (peer.cpu()? - cpu) * 1e6 / events
    );
    Ok(())
}
