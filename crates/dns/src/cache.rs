//! Other servers' answers, for as long as they may be kept. Bounded; never keeps failures.
//! Source: CoreDNS plugin/cache with kubeadm's `cache 30`; RFC 2308 for negative answers.

use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::wire::{self, Query, kind};

/// Answers kept at most.
const CAPACITY: usize = 10_000;
/// No answer is kept longer, seconds.
const MAX_TTL: u32 = 30;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    name: String,
    kind: u16,
    variant: u8,
}

struct Kept {
    answer: Vec<u8>,
    since: Instant,
    ttl: u32,
}

#[derive(Default)]
pub struct Cache {
    kept: Mutex<HashMap<Key, Kept>>,
}

fn key(query: &Query) -> Key {
    Key { name: query.name.clone(), kind: query.kind, variant: query.variant() }
}

impl Cache {
    /// An answer that is still good, its times to live shortened by its age. The ID and spelling are another query's.
    pub fn get(&self, query: &Query) -> Option<Vec<u8>> {
        let kept = self.kept.lock();
        let found = kept.get(&key(query))?;
        let age = found.since.elapsed();
        if age >= Duration::from_secs(found.ttl.into()) {
            return None;
        }
        let mut answer = found.answer.clone();
        drop(kept);
        let age = age.as_secs() as u32;
        for record in wire::records_of(&answer)?.iter().filter(|r| r.kind != kind::OPT) {
            let ttl = record.ttl.min(MAX_TTL).saturating_sub(age);
            answer[record.ttl_at..record.ttl_at + 4].copy_from_slice(&ttl.to_be_bytes());
        }
        Some(answer)
    }

    pub fn put(&self, query: &Query, answer: &[u8]) {
        let Some(ttl) = lifetime(answer).filter(|ttl| *ttl > 0) else { return };
        let mut kept = self.kept.lock();
        if kept.len() >= CAPACITY {
            kept.retain(|_, k| k.since.elapsed() < Duration::from_secs(k.ttl.into()));
        }
        if kept.len() >= CAPACITY {
            // All are good: half of them go, whichever the map names first.
            let mut n = 0;
            kept.retain(|_, _| {
                n += 1;
                n % 2 == 0
            });
        }
        kept.insert(key(query), Kept { answer: answer.to_vec(), since: base::clock::monotonic(), ttl });
    }

    pub fn len(&self) -> usize {
        self.kept.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Seconds for which an answer may be kept; `None`: not at all.
fn lifetime(answer: &[u8]) -> Option<u32> {
    let rcode = wire::rcode(answer);
    if wire::is_truncated(answer) || !matches!(rcode, 0 | 3) {
        return None;
    }
    let records = wire::records_of(answer)?;
    let answered = records.iter().any(|r| r.section == 1);
    let ttl = if answered && rcode == 0 {
        records.iter().filter(|r| r.section == 1).map(|r| r.ttl).min()?
    } else {
        let soa = records.iter().find(|r| r.section == 2 && r.kind == kind::SOA)?;
        wire::soa_ttl(answer, soa)?
    };
    Some(ttl.min(MAX_TTL))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::wire::{Data, Rcode, Record, Reply};

    fn answer(query: &Query, rcode: Rcode, ttl: u32) -> Vec<u8> {
        let record = Record { name: query.name.clone(), ttl, data: Data::A(Ipv4Addr::LOCALHOST) };
        let answers = if rcode == Rcode::NoError { vec![record] } else { vec![] };
        Reply { answers, ..Reply::new(rcode) }.encode(query, 512)
    }

    #[tokio::test(start_paused = true)]
    async fn answers_age_and_go() {
        let (cache, query) = (Cache::default(), Query::new(1, "example.com", kind::A).unwrap());
        cache.put(&query, &answer(&query, Rcode::NoError, 20));
        tokio::time::advance(Duration::from_secs(5)).await;
        let found = cache.get(&query).unwrap();
        assert_eq!(wire::answers_of(&found).unwrap()[0].ttl, 15);
        assert_eq!(cache.get(&Query::new(1, "example.com", kind::AAAA).unwrap()), None);
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(cache.get(&query), None);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_not_kept() {
        let (cache, query) = (Cache::default(), Query::new(1, "example.com", kind::A).unwrap());
        cache.put(&query, &answer(&query, Rcode::ServFail, 20));
        cache.put(&query, &answer(&query, Rcode::NxDomain, 20));
        cache.put(&query, b"not a message");
        assert!(cache.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn it_does_not_grow_without_end() {
        let cache = Cache::default();
        for n in 0..CAPACITY + 10 {
            let query = Query::new(1, &format!("n{n}.example.com"), kind::A).unwrap();
            cache.put(&query, &answer(&query, Rcode::NoError, 20));
        }
        assert!(cache.len() <= CAPACITY);
    }
}
