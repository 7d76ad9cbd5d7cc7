//! A pool of numbers (addresses of Services, node ports), each taken by at most one owner. In memory: it is rebuilt from the objects.

use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::Mutex;
use rand::Rng;
use tokio::time::Instant;

/// What was taken so recently may not be in the objects that a rebuild sees yet.
const SETTLE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    OutOfRange,
    Taken,
    Full,
}

/// Numbers `first..=last`. The lower band is left to those who ask for a number of their own, while there are others (KEP-3070, KEP-3668).
pub struct Pool {
    pub first: u32,
    pub last: u32,
    band: u32,
    taken: Mutex<HashMap<u32, Instant>>,
}

impl Pool {
    pub fn new(first: u32, last: u32, band: u32) -> Self {
        Self { first, last, band: band.min(last - first), taken: Mutex::default() }
    }

    pub fn take(&self, number: u32) -> Result<(), Refused> {
        if number < self.first || number > self.last {
            return Err(Refused::OutOfRange);
        }
        match self.taken.lock().try_insert(number, base::clock::monotonic()) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refused::Taken),
        }
    }

    /// Any free number: by chance above the band, then in order, then from the band.
    pub fn take_any(&self) -> Result<u32, Refused> {
        let mut taken = self.taken.lock();
        let now = base::clock::monotonic();
        let upper = self.first + self.band;
        let mut random = rand::rng();
        for _ in 0..16 {
            let number = random.random_range(upper..=self.last);
            if taken.try_insert(number, now).is_ok() {
                return Ok(number);
            }
        }
        let free = (upper..=self.last).chain(self.first..upper).find(|number| !taken.contains_key(number));
        let number = free.ok_or(Refused::Full)?;
        taken.insert(number, now);
        Ok(number)
    }

    pub fn give_back(&self, number: u32) {
        self.taken.lock().remove(&number);
    }

    /// Sets what is taken to what the objects hold, and what was taken a moment ago.
    pub fn rebuild(&self, held: impl Iterator<Item = u32>) {
        let mut taken = self.taken.lock();
        let now = base::clock::monotonic();
        let mut fresh: HashMap<u32, Instant> = taken.drain().filter(|(_, at)| now.duration_since(*at) < SETTLE).collect();
        for number in held.filter(|n| (self.first..=self.last).contains(n)) {
            fresh.entry(number).or_insert(now);
        }
        *taken = fresh;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn numbers_are_taken_once() {
        let pool = Pool::new(10, 13, 2);
        assert_eq!((pool.take(9), pool.take(10), pool.take(10)), (Err(Refused::OutOfRange), Ok(()), Err(Refused::Taken)));
        let mut any: Vec<u32> = (0..3).map(|_| pool.take_any().unwrap()).collect();
        assert_eq!(any.pop(), Some(11), "the band comes last");
        assert_eq!(pool.take_any(), Err(Refused::Full));
        pool.give_back(12);
        assert_eq!(pool.take_any(), Ok(12));
        tokio::time::advance(SETTLE * 2).await;
        pool.rebuild([13, 99].into_iter());
        assert_eq!((pool.take(13), pool.take(10)), (Err(Refused::Taken), Ok(())));
    }
}
