//! Leases: none ends before the time that its client was promised, none is renewed after its end, none lives for ever.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use super::Replay;
use crate::kv::*;
use crate::sim::history::{Call, History, Request, Response};
use crate::state::Command;

#[derive(Clone, Copy, Debug)]
pub(crate) struct LeaseRules {
    /// By how many parts of a thousand a member's clock may run fast.
    pub drift_permille: u64,
    /// A lease that nobody renewed must be gone so long after its time, where the run was quiet for longer.
    pub slack_ms: u64,
    /// From when on the run was quiet, and its end.
    pub quiet_ms: Option<(u64, u64)>,
}

/// One lease from its grant to its end.
struct Life {
    ttl_ms: u64,
    granted: usize,
    ended: Option<usize>,
}

pub(super) fn check(history: &History, replay: &Replay, rules: &LeaseRules, wrong: &mut Vec<String>) {
    let revoked_by_clients: HashSet<LeaseId> =
        history.calls.iter().filter_map(|call| if let Request::Revoke(id) = call.request { Some(id) } else { None }).collect();
    let mut renewals: HashMap<LeaseId, Vec<&Call>> = HashMap::new();
    for call in &history.calls {
        if let Request::KeepAlive(id) = &call.request {
            renewals.entry(*id).or_default().push(call);
        }
    }
    let lives = lives(history, replay);
    for (id, renewals) in &renewals {
        let lives = lives.get(id).map(Vec::as_slice).unwrap_or_default();
        for call in renewals {
            if let Some(why) = renewal(replay, lives, call) {
                wrong.push(format!(
                    "call {} of step {}: keep-alive of lease {id} answered {:?}: {why}",
                    call.id, call.began.step, call.ended
                ));
            }
        }
    }
    for (id, life) in lives.iter().flat_map(|(id, lives)| lives.iter().map(move |life| (*id, life))) {
        let renewals: Vec<&Call> = renewals
            .get(&id)
            .into_iter()
            .flatten()
            .copied()
            .filter(|call| call.ended.as_ref().is_some_and(|(ended, _)| life.overlaps(replay, call, ended.step)))
            .collect();
        if !revoked_by_clients.contains(&id) {
            too_early(replay, id, life, &renewals, rules, wrong);
        }
        too_late(replay, id, life, &renewals, rules, wrong);
    }
}

impl Life {
    /// Whether some of the call was in this life.
    fn overlaps(&self, replay: &Replay, call: &Call, ended_step: u64) -> bool {
        let over = self.ended.map_or(u64::MAX, |place| replay.points[place].applied.step);
        replay.points[self.granted].applied.step < ended_step && call.began.step < over
    }
}

/// An id may be granted again when its lease is over.
fn lives(history: &History, replay: &Replay) -> BTreeMap<LeaseId, Vec<Life>> {
    let mut lives: BTreeMap<LeaseId, Vec<Life>> = BTreeMap::new();
    for (place, (entry, answer)) in (1..).zip(history.log.iter().zip(&replay.answers)) {
        match &entry.command {
            Command::LeaseGrant { id, ttl_ms } if answer.is_ok() => {
                lives.entry(*id).or_default().push(Life { ttl_ms: *ttl_ms, granted: place, ended: None });
            }
            Command::LeaseRevoke(id) if answer.is_ok() => {
                if let Some(life) = lives.get_mut(id).and_then(|lives| lives.last_mut()) {
                    life.ended = Some(place);
                }
            }
            _ => {}
        }
    }
    lives
}

/// Why a keep-alive should have been answered otherwise.
fn renewal(replay: &Replay, lives: &[Life], call: &Call) -> Option<String> {
    let (ended, outcome) = call.answer()?;
    let mut present = lives.iter().filter(|life| life.overlaps(replay, call, ended.step));
    match outcome {
        Ok(Response::Kept(ttl)) => {
            let good = present.any(|life| Duration::from_millis(life.ttl_ms) == *ttl);
            (!good).then(|| match lives.last() {
                Some(life) => format!("there is none, the last of that name was for {} ms", life.ttl_ms),
                None => "it was never granted".into(),
            })
        }
        Ok(_) => Some("that is another request's answer".into()),
        Err(KvError::LeaseNotFound) => {
            // All the time there, and far from its end.
            let there = present.find(|life| {
                let granted = replay.points[life.granted].applied;
                granted.step < call.began.step && life.ended.is_none() && ended.ms < granted.ms + life.ttl_ms
            });
            there.map(|_| "it was there".into())
        }
        Err(_) => None,
    }
}

fn too_early(replay: &Replay, id: LeaseId, life: &Life, renewals: &[&Call], rules: &LeaseRules, wrong: &mut Vec<String>) {
    let Some(over) = life.ended.map(|place| replay.points[place].applied) else { return };
    let lasts_ms = life.ttl_ms - life.ttl_ms * rules.drift_permille / 1000;
    let granted = replay.points[life.granted].applied;
    if over.ms < granted.ms + lasts_ms {
        wrong.push(format!("lease {id} of {} ms was granted at {} ms and ended at {} ms", life.ttl_ms, granted.ms, over.ms));
    }
    for call in renewals {
        let kept = matches!(call.answer(), Some((_, Ok(_))));
        if kept && call.began.step < over.step && over.ms < call.began.ms + lasts_ms {
            wrong.push(format!(
                "lease {id} of {} ms was renewed at {} ms (call {}) and ended at {} ms, in step {}",
                life.ttl_ms, call.began.ms, call.id, over.ms, over.step
            ));
        }
    }
}

fn too_late(replay: &Replay, id: LeaseId, life: &Life, renewals: &[&Call], rules: &LeaseRules, wrong: &mut Vec<String>) {
    let (Some((quiet_ms, end_ms)), None) = (rules.quiet_ms, life.ended) else { return };
    let granted_ms = replay.points[life.granted].applied.ms;
    let renewed_ms = renewals.iter().filter_map(|call| call.ended.as_ref().map(|(ended, _)| ended.ms)).max();
    // A restart may give a lease its whole time again.
    let from_ms = granted_ms.max(renewed_ms.unwrap_or(0)).max(quiet_ms);
    if from_ms + life.ttl_ms + rules.slack_ms < end_ms {
        wrong.push(format!("lease {id} of {} ms should be over since {} ms", life.ttl_ms, from_ms + life.ttl_ms));
    }
}
