//! Prints how fast the embedded store is: durable puts with 1, 64 and 256 writers, the API server's transactions, reads, watch fan-out, reopening.
//!
//! `cargo run --release -p store --example store_bench [folder]` (a folder on the disk to be measured; a temporary one without it).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use store::{Compare, Engine, EngineOptions, KeyRange, Kv, KvError, Op, PutRequest, RangeRequest, Txn, WatchRequest};

const VALUE_BYTES: usize = 256;
const PHASE: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join(format!("store-bench-{}", std::process::id())), Into::into);
    let runtime = tokio::runtime::Runtime::new()?;
    let result = runtime.block_on(bench(&dir));
    std::fs::remove_dir_all(&dir)?;
    Ok(result?)
}

async fn bench(dir: &std::path::Path) -> Result<(), KvError> {
    let tasks = base::Tasks::new();
    let engine = Engine::open(dir, EngineOptions::default(), &tasks)?;
    for writers in [1, 64, 256] {
        let kv = engine.clone();
        report(&format!("put, {writers} writers"), writers, move |writer, n| {
            let kv = kv.clone();
            async move { kv.put(PutRequest::new(format!("/bench/{writer}/{}", n % 1000), vec![b'v'; VALUE_BYTES])).await.map(|_| ()) }
        })
        .await?;
    }
    let kv = engine.clone();
    report("create transaction, 64 writers", 64, move |writer, n| {
        let kv = kv.clone();
        async move {
            let key = format!("/create/{writer}/{n}");
            let put = Op::Put(PutRequest::new(key.clone(), vec![b'v'; VALUE_BYTES]));
            let txn = Txn { compare: vec![Compare::mod_revision(key, 0)], success: vec![put], failure: vec![] };
            kv.txn(txn).await.map(|_| ())
        }
    })
    .await?;
    for readers in [1, 64] {
        let kv = engine.clone();
        report(&format!("get, {readers} readers"), readers, move |_, n| {
            let kv = kv.clone();
            async move { kv.range(RangeRequest::new(KeyRange::one(format!("/bench/0/{}", n % 1000)))).await.map(|_| ()) }
        })
        .await?;
    }
    let kv = engine.clone();
    report("range of 1000 keys, 1 reader", 1, move |_, _| {
        let kv = kv.clone();
        async move { kv.range(RangeRequest::new(KeyRange::prefix("/bench/0/"))).await.map(|_| ()) }
    })
    .await?;
    fan_out(&engine).await?;
    let started = base::clock::monotonic();
    let revision = engine.status().await?.revision;
    engine.compact(revision, true).await?;
    println!("{:<32} {:>10.0} ms for {revision} revisions", "compaction", started.elapsed().as_secs_f64() * 1e3);
    engine.close().await?;
    let started = base::clock::monotonic();
    let engine = Engine::open(dir, EngineOptions::default(), &tasks)?;
    println!("{:<32} {:>10.0} ms", "open again", started.elapsed().as_secs_f64() * 1e3);
    engine.close().await
}

async fn fan_out(engine: &Engine) -> Result<(), KvError> {
    const WATCHERS: usize = 1000;
    const PUTS: usize = 1000;
    let started = base::clock::monotonic();
    let mut running = Vec::new();
    for _ in 0..WATCHERS {
        let mut watch = engine.watch(WatchRequest::new(KeyRange::prefix("/fan/"), 0)).await?;
        running.push(tokio::spawn(async move {
            let mut seen = 0;
            while seen < PUTS {
                seen += watch.next().await?.events.len();
            }
            Ok::<_, KvError>(())
        }));
    }
    for n in 0..PUTS {
        engine.put(PutRequest::new(format!("/fan/{n}"), vec![b'v'; VALUE_BYTES])).await?;
    }
    for watcher in running {
        watcher.await.expect("a watcher does not panic")?;
    }
    let per_second = (WATCHERS * PUTS) as f64 / started.elapsed().as_secs_f64();
    println!("{:<32} {per_second:>10.0} events/s", "fan-out to 1000 watchers");
    Ok(())
}

/// Runs `work(worker, n)` on `workers` tasks for a while and prints how often it was done and how long the slowest hundredth took.
async fn report<F, R>(name: &str, workers: usize, work: F) -> Result<(), KvError>
where
    F: Fn(usize, usize) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), KvError>> + Send,
{
    let started = base::clock::monotonic();
    let done = Arc::new(AtomicU64::new(0));
    let mut running = Vec::new();
    for worker in 0..workers {
        let (work, done) = (work.clone(), done.clone());
        running.push(tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut n = 0;
            while started.elapsed() < PHASE {
                let begun = base::clock::monotonic();
                work(worker, n).await?;
                latencies.push(begun.elapsed());
                n += 1;
            }
            done.fetch_add(n as u64, Ordering::Relaxed);
            Ok::<_, KvError>(latencies)
        }));
    }
    let mut latencies = Vec::new();
    for worker in running {
        latencies.extend(worker.await.expect("a worker does not panic")?);
    }
    latencies.sort();
    let p99 = latencies.get(latencies.len() * 99 / 100).copied().unwrap_or_default();
    let per_second = done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    println!("{name:<32} {per_second:>10.0} /s   p99 {:.2} ms", p99.as_secs_f64() * 1e3);
    Ok(())
}
