//! The proposals of this member that wait for their fate. Each has a number; with the member's id it is the name under which its entry comes back from the log,
//! whoever the leader was.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::MemberChange;
use crate::commit::Answer;
use crate::kv::{KvError, LeaseId, LeaseStatus};
use crate::state::Command;

/// Bytes of the name before a command in an entry.
pub(crate) const NAME_BYTES: usize = 16;

/// Who is told what became of a proposal.
#[derive(Debug)]
pub(super) enum Owner {
    Caller(oneshot::Sender<Answer>),
    /// The end of a lease, which is tried again.
    LeaseEnd(LeaseId),
    /// A lease was renewed and its shortened time is taken back.
    Renewal(LeaseStatus, oneshot::Sender<Result<LeaseStatus, KvError>>),
    Nobody,
}

impl Owner {
    pub fn answer(self, answer: Answer) {
        // Whoever does not wait any more does not mind.
        match self {
            Self::Caller(reply) => drop(reply.send(answer)),
            Self::Renewal(status, reply) => drop(reply.send(answer.map(|_| status))),
            Self::LeaseEnd(_) | Self::Nobody => {}
        }
    }
}

#[derive(Debug)]
pub(super) struct Pending {
    /// Spares the proposer the decoding.
    pub command: Option<Command>,
    pub owner: Owner,
    pub since_ms: u64,
}

/// What is to be proposed as soon as there is a leader for it.
#[derive(Debug)]
pub(super) enum Unsent {
    Command(Vec<u8>),
    Changes(Vec<MemberChange>),
}

#[derive(Debug)]
pub(super) struct Proposals {
    member: u64,
    /// Number of the first in `list`.
    first: u64,
    list: VecDeque<Option<Pending>>,
    count: usize,
    unsent: VecDeque<(u64, Unsent)>,
}

impl Proposals {
    /// `first` must differ from life to life of a member, so that an entry of an earlier life is not taken for one of this.
    pub fn new(member: u64, first: u64) -> Self {
        // Room to count in.
        Self { member, first: first >> 1, list: VecDeque::new(), count: 0, unsent: VecDeque::new() }
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn add(&mut self, pending: Pending) -> u64 {
        self.list.push_back(Some(pending));
        self.count += 1;
        self.first + self.list.len() as u64 - 1
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }

    pub fn is_pending(&self, number: u64) -> bool {
        self.place(number).and_then(|place| self.list.get(place)).is_some_and(Option::is_some)
    }

    pub fn take(&mut self, number: u64) -> Option<Pending> {
        let place = self.place(number)?;
        let taken = self.list.get_mut(place)?.take()?;
        self.count -= 1;
        while let Some(None) = self.list.front() {
            self.list.pop_front();
            self.first += 1;
        }
        Some(taken)
    }

    /// The one under this name, where it is ours.
    pub fn take_named(&mut self, name: &[u8; NAME_BYTES]) -> Option<Pending> {
        let (member, number) = read_name(name);
        if member == self.member { self.take(number) } else { None }
    }

    /// Takes those that wait since before `limit_ms`.
    pub fn take_older(&mut self, limit_ms: u64) -> Vec<Pending> {
        let mut taken = Vec::new();
        while let Some(oldest) = self.list.front() {
            if oldest.as_ref().is_some_and(|pending| pending.since_ms > limit_ms) {
                break;
            }
            taken.extend(self.list.pop_front().flatten());
            self.first += 1;
        }
        self.count -= taken.len();
        taken
    }

    pub fn take_all(&mut self) -> Vec<Pending> {
        self.unsent.clear();
        self.take_older(u64::MAX)
    }

    pub fn keep_unsent(&mut self, number: u64, what: Unsent) {
        self.unsent.push_back((number, what));
    }

    pub fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// What was not sent and is still waited for.
    pub fn take_unsent(&mut self) -> Vec<(u64, Unsent)> {
        let unsent = std::mem::take(&mut self.unsent);
        unsent.into_iter().filter(|(number, _)| self.is_pending(*number)).collect()
    }

    pub fn name(&self, number: u64) -> [u8; NAME_BYTES] {
        let mut name = [0; NAME_BYTES];
        name[..8].copy_from_slice(&self.member.to_le_bytes());
        name[8..].copy_from_slice(&number.to_le_bytes());
        name
    }
}

fn read_name(name: &[u8; NAME_BYTES]) -> (u64, u64) {
    let number = |at: usize| u64::from_le_bytes(name[at..at + 8].try_into().expect("eight bytes"));
    (number(0), number(8))
}

/// Takes the name off the front of an entry's data.
pub(super) fn split_name(data: &[u8]) -> Result<(&[u8; NAME_BYTES], &[u8]), KvError> {
    data.split_first_chunk().ok_or_else(|| KvError::Corrupt("an entry of the log is shorter than its name".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(since_ms: u64) -> Pending {
        Pending { command: None, owner: Owner::Nobody, since_ms }
    }

    #[test]
    fn proposals_are_found_by_name_once() {
        let mut proposals = Proposals::new(7, u64::MAX);
        let numbers: Vec<u64> = (0..5).map(|since| proposals.add(pending(since))).collect();
        let name = proposals.name(numbers[2]);
        assert_eq!(proposals.take_named(&name).unwrap().since_ms, 2);
        assert!(proposals.take_named(&name).is_none());
        assert!(proposals.take_named(&Proposals::new(8, 0).name(numbers[1])).is_none(), "another member's");
        assert!(proposals.take(numbers[0]).is_some());
        proposals.keep_unsent(numbers[1], Unsent::Changes(Vec::new()));
        proposals.keep_unsent(numbers[4], Unsent::Changes(Vec::new()));
        let old: Vec<u64> = proposals.take_older(3).into_iter().map(|pending| pending.since_ms).collect();
        assert_eq!((old, proposals.len()), (vec![1, 3], 1));
        let unsent: Vec<u64> = proposals.take_unsent().into_iter().map(|(number, _)| number).collect();
        assert_eq!(unsent, [numbers[4]], "what nobody waits for is not sent");
        assert_eq!(proposals.take_all().len(), 1);
        assert_eq!((proposals.len(), proposals.add(pending(9))), (0, numbers[4] + 1));
    }
}
