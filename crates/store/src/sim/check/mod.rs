//! Judges a history: whether what clients saw can be what one store, alone and without faults, would have shown them. Pure: knows no store and no
//! simulation, so that it is tested with histories written by hand.

mod kv;
mod lease;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeSet;

use super::history::{History, Moment};
use crate::kv::*;
use crate::model::Model;

pub(crate) use lease::LeaseRules;

/// The log once more, on the naive model: what each command should have answered and what was there after it.
pub(crate) struct Replay {
    pub model: Model,
    /// `points[n]` is the store after the nth command.
    pub points: Vec<Point>,
    /// What the nth command answers, at `n - 1`.
    pub answers: Vec<Result<Option<TxnResponse>, KvError>>,
}

pub(crate) struct Point {
    pub applied: Moment,
    pub revision: Revision,
    pub compact_revision: Revision,
    pub leases: BTreeSet<LeaseId>,
}

impl Replay {
    pub fn new(history: &History) -> Self {
        let mut model = Model::new();
        let mut points = vec![Point::of(&model, Moment::default())];
        let mut answers = Vec::new();
        for entry in &history.log {
            answers.push(model.apply(&entry.command));
            points.push(Point::of(&model, entry.applied));
        }
        Self { model, points, answers }
    }

    /// The last command that some member had applied at that step.
    pub fn applied_at(&self, step: u64) -> usize {
        self.points.partition_point(|point| point.applied.step <= step) - 1
    }
}

impl Point {
    fn of(model: &Model, applied: Moment) -> Self {
        Self { applied, revision: model.revision(), compact_revision: model.compact_revision, leases: model.leases.clone() }
    }

    /// The revision that a read of `wanted` sees (0: the newest).
    pub fn pin(&self, wanted: Revision) -> Result<Revision, KvError> {
        match wanted {
            wanted if wanted > self.revision => Err(KvError::FutureRevision),
            wanted if wanted > 0 && wanted < self.compact_revision => Err(KvError::Compacted { compact_revision: self.compact_revision }),
            wanted if wanted > 0 => Ok(wanted),
            _ => Ok(self.revision),
        }
    }
}

/// All that is wrong with a history, in words.
pub(crate) fn check(history: &History, rules: &LeaseRules) -> Vec<String> {
    let replay = Replay::new(history);
    let mut wrong = Vec::new();
    kv::check(history, &replay, &mut wrong);
    lease::check(history, &replay, rules, &mut wrong);
    watch::check(history, &replay, &mut wrong);
    wrong
}
