//! Linearizable reads on their way: many share one question to the leader (ReadIndex), then wait until as much is applied as was committed then.

use tokio::sync::oneshot;

use crate::kv::{KvError, LeaseId, LeaseStatus};

/// Questions that may be under way at once; reads that come meanwhile share the next.
const QUESTIONS: usize = 4;

/// What a caller wants of the leader's leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseAsk {
    Renew(LeaseId),
    Status(LeaseId),
}

/// What is done when the read is confirmed.
#[derive(Debug)]
pub(crate) enum Read {
    Barrier(oneshot::Sender<Result<(), KvError>>),
    /// Only by the leader. After a renewal the remaining time is the whole.
    Lease(LeaseAsk, oneshot::Sender<Result<LeaseStatus, KvError>>),
}

impl Read {
    pub fn fail(self, error: KvError) {
        // Whoever does not wait any more does not mind.
        match self {
            Self::Barrier(reply) => drop(reply.send(Err(error))),
            Self::Lease(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

#[derive(Debug)]
struct Question {
    /// Names under which it was asked; any answer will do.
    names: Vec<u64>,
    asked_ms: u64,
    reads: Vec<(u64, Read)>,
}

#[derive(Debug)]
pub(super) struct Reads {
    member: u64,
    next_name: u64,
    /// With the moments at which they came.
    waiting: Vec<(u64, Read)>,
    asked: Vec<Question>,
    /// Confirmed at an index.
    confirmed: Vec<(u64, Vec<(u64, Read)>)>,
}

impl Reads {
    /// `first_name` must differ from life to life of a member.
    pub fn new(member: u64, first_name: u64) -> Self {
        Self { member, next_name: first_name, waiting: Vec::new(), asked: Vec::new(), confirmed: Vec::new() }
    }

    pub fn add(&mut self, read: Read, now_ms: u64) {
        self.waiting.push((now_ms, read));
    }

    fn context(&mut self) -> (u64, Vec<u8>) {
        let name = self.next_name;
        self.next_name = name.wrapping_add(1);
        (name, [self.member.to_le_bytes(), name.to_le_bytes()].concat())
    }

    /// The context of a new question for all that wait, if there is one to ask.
    pub fn ask(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        if self.waiting.is_empty() || self.asked.len() >= QUESTIONS {
            return None;
        }
        let (name, context) = self.context();
        self.asked.push(Question { names: vec![name], asked_ms: now_ms, reads: std::mem::take(&mut self.waiting) });
        Some(context)
    }

    /// Contexts under which questions are asked again that were asked before `limit_ms`: they or their answers were lost, or the leader went.
    pub fn ask_again(&mut self, limit_ms: u64, now_ms: u64) -> Vec<Vec<u8>> {
        let mut contexts = Vec::new();
        for place in 0..self.asked.len() {
            if self.asked[place].asked_ms <= limit_ms {
                let (name, context) = self.context();
                self.asked[place].names.push(name);
                self.asked[place].asked_ms = now_ms;
                contexts.push(context);
            }
        }
        contexts
    }

    /// The leader has answered a question: its reads may go on once `index` is applied.
    pub fn confirm(&mut self, context: &[u8], index: u64) {
        let Some((member, name)) = context.split_first_chunk::<8>() else { return };
        let Ok(name) = <[u8; 8]>::try_from(name) else { return };
        if u64::from_le_bytes(*member) != self.member {
            return;
        }
        let name = u64::from_le_bytes(name);
        if let Some(place) = self.asked.iter().position(|question| question.names.contains(&name)) {
            self.confirmed.push((index, self.asked.swap_remove(place).reads));
        }
    }

    /// Reads that may be answered now.
    pub fn take_ready(&mut self, applied: u64) -> Vec<Read> {
        let mut ready = Vec::new();
        self.confirmed.retain_mut(|(index, reads)| {
            if *index > applied {
                return true;
            }
            ready.extend(reads.drain(..).map(|(_, read)| read));
            false
        });
        ready
    }

    /// Reads that came before `limit_ms` and are still not ready.
    pub fn take_older(&mut self, limit_ms: u64) -> Vec<Read> {
        let mut older = Vec::new();
        let groups = self.asked.iter_mut().map(|question| &mut question.reads).chain(self.confirmed.iter_mut().map(|(_, reads)| reads));
        for group in std::iter::once(&mut self.waiting).chain(groups) {
            older.extend(group.extract_if(.., |(since_ms, _)| *since_ms <= limit_ms).map(|(_, read)| read));
        }
        self.asked.retain(|question| !question.reads.is_empty());
        self.confirmed.retain(|(_, reads)| !reads.is_empty());
        older
    }

    /// Questions about leases that wait: who lost the lead cannot answer them.
    pub fn take_leases(&mut self) -> Vec<Read> {
        let mut leases = Vec::new();
        let groups = self.asked.iter_mut().map(|question| &mut question.reads).chain(self.confirmed.iter_mut().map(|(_, reads)| reads));
        for group in std::iter::once(&mut self.waiting).chain(groups) {
            leases.extend(group.extract_if(.., |(_, read)| matches!(read, Read::Lease(..))).map(|(_, read)| read));
        }
        leases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn barrier() -> (Read, oneshot::Receiver<Result<(), KvError>>) {
        let (reply, answer) = oneshot::channel();
        (Read::Barrier(reply), answer)
    }

    #[test]
    fn reads_share_questions() {
        let mut reads = Reads::new(3, u64::MAX);
        assert!(reads.ask(0).is_none());
        let (first, _first) = barrier();
        let (second, _second) = barrier();
        reads.add(first, 10);
        reads.add(second, 20);
        let lost = reads.ask(20).unwrap();
        let (third, _third) = barrier();
        reads.add(third, 30);
        let other = reads.ask(30).unwrap();
        let again = reads.ask_again(20, 40);
        assert_eq!(again.len(), 1);
        reads.confirm(&again[0], 7);
        reads.confirm(&lost, 9);
        assert!(reads.take_ready(6).is_empty());
        assert_eq!(reads.take_ready(7).len(), 2);
        assert!(reads.take_older(29).is_empty());
        assert_eq!(reads.take_older(30).len(), 1);
        reads.confirm(&other, 7);
        reads.confirm(b"nonsense", 7);
        assert!(reads.take_ready(7).is_empty());
    }
}
