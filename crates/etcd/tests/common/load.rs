//! Clients that write and read all the time and watch over two promises: what was acknowledged is there, and a linearizable read that begins after an
//! acknowledgement sees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use etcd::EtcdKv;
use parking_lot::Mutex;
use store::{KeyRange, Kv, KvError, PutRequest, RangeRequest};
use tokio::task::JoinSet;

#[derive(Default)]
struct Seen {
    /// The newest revision that any writer was told.
    newest: AtomicI64,
    /// Keys and the revisions of their writes.
    acknowledged: Mutex<Vec<(String, i64)>>,
    reads: AtomicU64,
    failed: AtomicU64,
    stop: AtomicBool,
}

pub struct Load {
    seen: Arc<Seen>,
    clients: JoinSet<()>,
}

impl Load {
    /// One writer and one reader for each client.
    pub fn start(clients: Vec<EtcdKv>) -> Self {
        let seen = Arc::new(Seen::default());
        let mut running = JoinSet::new();
        for (number, client) in clients.into_iter().enumerate() {
            running.spawn(write(number, client.clone(), seen.clone()));
            running.spawn(read(client, seen.clone()));
        }
        Self { seen, clients: running }
    }

    pub fn acknowledged(&self) -> usize {
        self.seen.acknowledged.lock().len()
    }

    /// Until so many more writes were acknowledged and reads answered.
    pub async fn progress(&self, writes: usize) {
        let (before, reads) = (self.acknowledged(), self.seen.reads.load(Ordering::Relaxed));
        super::cluster::until("progress under load", async || {
            let now = (self.acknowledged() - before, self.seen.reads.load(Ordering::Relaxed) - reads);
            if now.0 >= writes && now.1 > 0 {
                Ok(())
            } else {
                Err(format!("{now:?} writes and reads more, {} failed", self.seen.failed.load(Ordering::Relaxed)))
            }
        })
        .await;
    }

    /// Ends the clients; a broken promise panics here. Then every member alone must hold all that was acknowledged.
    pub async fn finish(mut self, members: &[EtcdKv]) -> usize {
        self.seen.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            if let Err(error) = ended {
                std::panic::resume_unwind(error.into_panic());
            }
        }
        let acknowledged = std::mem::take(&mut *self.seen.acknowledged.lock());
        for member in members {
            member.range(RangeRequest::new(KeyRange::one("barrier"))).await.unwrap();
            let request = RangeRequest { serializable: true, keys_only: true, ..RangeRequest::new(KeyRange::prefix("load/")) };
            let found = member.range(request).await.unwrap();
            let held: std::collections::HashMap<_, _> = found.kvs.iter().map(|kv| (kv.key.clone(), kv.mod_revision)).collect();
            for (key, revision) in &acknowledged {
                assert_eq!(held.get(key.as_bytes()), Some(revision), "{key} was acknowledged");
            }
        }
        acknowledged.len()
    }
}

async fn write(number: usize, client: EtcdKv, seen: Arc<Seen>) {
    for count in 0.. {
        if seen.stop.load(Ordering::Relaxed) {
            return;
        }
        let key = format!("load/{number}/{count}");
        match client.put(PutRequest::new(key.clone(), vec![b'x'; 256])).await {
            Ok(revision) => {
                seen.acknowledged.lock().push((key, revision));
                seen.newest.fetch_max(revision, Ordering::AcqRel);
            }
            Err(error) => failed(&seen, &error).await,
        }
    }
}

async fn read(client: EtcdKv, seen: Arc<Seen>) {
    while !seen.stop.load(Ordering::Relaxed) {
        let newest = seen.newest.load(Ordering::Acquire);
        let last = seen.acknowledged.lock().last().map_or_else(|| "none".to_owned(), |(key, _)| key.clone());
        match client.range(RangeRequest::new(KeyRange::one(last.clone()))).await {
            Ok(found) => {
                assert!(found.revision >= newest, "a stale read: revision {} after {newest} was acknowledged", found.revision);
                assert!(last == "none" || found.kvs.len() == 1, "{last} was acknowledged");
                seen.reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => failed(&seen, &error).await,
        }
    }
}

async fn failed(seen: &Seen, error: &KvError) {
    assert!(
        matches!(
            error,
            KvError::Unavailable(_)
                | KvError::Timeout
                | KvError::TimeoutLeaderFailed
                | KvError::LeaderChanged
                | KvError::NoLeader
                | KvError::Stopped
                | KvError::NotLeader
        ),
        "{error:?}"
    );
    seen.failed.fetch_add(1, Ordering::Relaxed);
    tokio::task::yield_now().await;
}
