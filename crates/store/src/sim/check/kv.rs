//! Linearizability of calls. The order is known: it is that of the log. So each answer must be exactly the model's at one place of the log that lies
//! between what others had been told before the call began and what was applied when it ended.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use super::{Point, Replay};
use crate::check::is_read_only;
use crate::kv::*;
use crate::model::{self, Map};
use crate::sim::history::{Call, History, Moment, Outcome, Request, Response, mark};
use crate::state::Command;

/// How far the log had come for those who were told something, by step.
struct Frontier(Vec<(u64, usize)>);

impl Frontier {
    fn new(mut told: Vec<(u64, usize)>) -> Self {
        told.sort_unstable();
        let mut most = 0;
        for (_, position) in &mut told {
            most = most.max(*position);
            *position = most;
        }
        Self(told)
    }

    /// The greatest place that anybody was told of before `step`.
    fn before(&self, step: u64) -> usize {
        let after = self.0.partition_point(|(ended, _)| *ended < step);
        after.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

pub(super) fn check(history: &History, replay: &Replay, wrong: &mut Vec<String>) {
    let marks = marks(history, wrong);
    let mut told = Vec::new();
    let mut places = HashMap::new();
    for call in &history.calls {
        let Some((ended, outcome)) = call.answer() else { continue };
        match place(history, replay, &marks, call, ended, outcome) {
            Ok(Some(place)) => {
                told.push((ended.step, place));
                places.insert(call.id, place);
            }
            Ok(None) => {}
            Err(why) => wrong.push(format!("call {}: {why}: {:?} answered {outcome:?}", call.id, call.request)),
        }
    }
    let frontier = Frontier::new(told);
    for call in &history.calls {
        let Some((ended, outcome)) = call.answer() else { continue };
        let told = frontier.before(call.began.step);
        let applied = replay.applied_at(ended.step);
        let problem = match places.get(&call.id) {
            Some(place) if is_command(&call.request) => in_order(replay, call, *place, applied),
            _ if is_command(&call.request) => None,
            _ => read(replay, call, outcome, told..=applied),
        };
        if let Some(why) = problem {
            wrong.push(format!("call {} of step {}: {why}: {:?} answered {outcome:?}", call.id, call.began.step, call.request));
        }
    }
}

/// Where in the log the transaction of each call is.
fn marks(history: &History, wrong: &mut Vec<String>) -> HashMap<u64, usize> {
    let mut marks = HashMap::new();
    for (position, entry) in (1..).zip(&history.log) {
        let Command::Txn(txn) = &entry.command else { continue };
        match mark(txn) {
            None => wrong.push(format!("command {} is a transaction that nobody sent: {txn:?}", entry.index)),
            Some(call) => {
                if let Some(before) = marks.insert(call, position) {
                    wrong.push(format!("the transaction of call {call} was done twice, as commands {before} and {position}"));
                }
            }
        }
    }
    marks
}

/// Whether the request is answered from the log and not from the state.
fn is_command(request: &Request) -> bool {
    match request {
        Request::Txn(txn) => !is_read_only(txn),
        Request::Compact(_) | Request::Grant { .. } | Request::Revoke(_) => true,
        Request::Range(_) | Request::KeepAlive(_) | Request::TimeToLive(_) | Request::Leases => false,
    }
}

/// The first place of the log that an answer shows to have been reached.
fn place(
    history: &History,
    replay: &Replay,
    marks: &HashMap<u64, usize>,
    call: &Call,
    ended: Moment,
    outcome: &Outcome,
) -> Result<Option<usize>, String> {
    match (&call.request, outcome) {
        (Request::Txn(txn), _) if !is_read_only(txn) => {
            let place = *marks.get(&call.id).ok_or("acknowledged but not in the log")?;
            let expected = &replay.answers[place - 1];
            let same = match (expected, outcome) {
                (Ok(Some(expected)), Ok(Response::Txn(answer))) => format!("{expected:?}") == format!("{answer:?}"),
                (Err(expected), Err(answer)) => expected == answer,
                _ => false,
            };
            if same { Ok(Some(place)) } else { Err(format!("should have answered {expected:?}")) }
        }
        (request, _) if is_command(request) => {
            let applied = replay.applied_at(ended.step);
            let found = (1..=applied).find(|place| {
                let entry = &history.log[place - 1];
                entry.applied.step > call.began.step && is_for(&entry.command, request) && same(&replay.answers[place - 1], outcome)
            });
            found.map(Some).ok_or_else(|| "no command of the log in its time would answer so".into())
        }
        (Request::Range(request), Ok(Response::Range(answer))) if !request.serializable => Ok(reached(replay, answer.revision)),
        (Request::Txn(_), Ok(Response::Txn(answer))) if !serializable(&call.request) => Ok(reached(replay, answer.revision)),
        _ => Ok(None),
    }
}

fn reached(replay: &Replay, revision: Revision) -> Option<usize> {
    let first = replay.points.partition_point(|point| point.revision < revision);
    (first < replay.points.len()).then_some(first)
}

fn is_for(command: &Command, request: &Request) -> bool {
    match (command, request) {
        (Command::Compact(revision), Request::Compact(wanted)) => revision == wanted,
        (Command::LeaseGrant { id, ttl_ms }, Request::Grant { id: wanted, ttl_ms: at_least }) => id == wanted && ttl_ms >= at_least,
        (Command::LeaseRevoke(id), Request::Revoke(wanted)) => id == wanted,
        _ => false,
    }
}

fn same(expected: &Result<Option<TxnResponse>, KvError>, outcome: &Outcome) -> bool {
    match (expected, outcome) {
        (Ok(_), Ok(_)) => true,
        (Err(expected), Err(answer)) => expected == answer,
        _ => false,
    }
}

/// The log's order is that of first applications, so an answered command is in order when it was applied while its call was open.
fn in_order(replay: &Replay, call: &Call, place: usize, applied: usize) -> Option<String> {
    if place > applied {
        return Some(format!("it was acknowledged before it was applied as command {place}"));
    }
    (replay.points[place].applied.step <= call.began.step).then(|| "it was applied before it was sent".into())
}

/// Whether all that a request asks for may be old.
fn serializable(request: &Request) -> bool {
    match request {
        Request::Range(request) => request.serializable,
        Request::Txn(txn) => {
            // Without any read too: an etcd of its own kind (server/etcdserver/txn/txn.go, IsTxnSerializable).
            txn.success.iter().chain(&txn.failure).all(|op| matches!(op, Op::Range(request) if request.serializable))
        }
        // Answered from the member's own state in etcd too (server/lease/lessor.go, Leases).
        Request::Leases => true,
        _ => false,
    }
}

fn read(replay: &Replay, call: &Call, outcome: &Outcome, window: RangeInclusive<usize>) -> Option<String> {
    let window = if serializable(&call.request) { 0..=*window.end() } else { window };
    let good = window.clone().any(|place| answers(replay, place, call, outcome));
    (!good).then(|| {
        let expected = |place: usize| expected(replay, place, &call.request);
        format!(
            "no place of the log from {} to {} answers so; these answer {} and {}",
            window.start(),
            window.end(),
            expected(*window.start()),
            expected(*window.end())
        )
    })
}

fn answers(replay: &Replay, place: usize, call: &Call, outcome: &Outcome) -> bool {
    let point = &replay.points[place];
    match (&call.request, outcome) {
        (Request::Range(_), Ok(Response::Range(answer))) if answer.revision != point.revision => false,
        (Request::Txn(_), Ok(Response::Txn(answer))) if answer.revision != point.revision => false,
        (Request::Range(request), outcome) => match (range(replay, point, request), outcome) {
            (Ok(expected), Ok(Response::Range(answer))) => format!("{expected:?}") == format!("{answer:?}"),
            (Err(expected), Err(answer)) => expected == *answer,
            _ => false,
        },
        (Request::Txn(txn), outcome) => match (read_txn(replay, point, txn), outcome) {
            (Ok(expected), Ok(Response::Txn(answer))) => format!("{expected:?}") == format!("{answer:?}"),
            (Err(expected), Err(answer)) => expected == *answer,
            _ => false,
        },
        (Request::TimeToLive(id), Ok(Response::TimeToLive(status))) => {
            point.leases.contains(id) && status.keys == lease_keys(replay, point, *id)
        }
        (Request::TimeToLive(id), Err(error)) => *error == KvError::LeaseNotFound && !point.leases.contains(id),
        (Request::Leases, Ok(Response::Leases(ids))) => {
            let mut ids = ids.clone();
            ids.sort_unstable();
            ids.iter().eq(&point.leases)
        }
        // Time decides too: see the rules of leases.
        (Request::KeepAlive(_), _) => true,
        _ => false,
    }
}

fn expected(replay: &Replay, place: usize, request: &Request) -> String {
    let point = &replay.points[place];
    match request {
        Request::Range(request) => format!("{:?}", range(replay, point, request)),
        Request::Txn(txn) => format!("{:?}", read_txn(replay, point, txn)),
        Request::TimeToLive(id) => format!("{:?}", point.leases.contains(id).then(|| lease_keys(replay, point, *id))),
        _ => format!("{:?}", point.leases),
    }
}

fn lease_keys(replay: &Replay, point: &Point, id: LeaseId) -> Vec<bytes::Bytes> {
    replay.model.at(point.revision).values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect()
}

fn range(replay: &Replay, point: &Point, request: &RangeRequest) -> Result<RangeResponse, KvError> {
    let map = replay.model.at(point.pin(request.revision)?);
    Ok(range_of(map, point.revision, request))
}

/// A range as etcd describes it, the slow way.
fn range_of(map: &Map, revision: Revision, request: &RangeRequest) -> RangeResponse {
    let mut kvs: Vec<KeyValue> = map.values().filter(|kv| request.range.contains(&kv.key)).cloned().collect();
    let count = kvs.len() as i64;
    if request.count_only {
        return RangeResponse { revision, kvs: Vec::new(), more: false, count };
    }
    let within = |revision, min, max| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    kvs.retain(|kv| within(kv.mod_revision, request.min_mod_revision, request.max_mod_revision));
    if request.sort_order == SortOrder::Descend {
        kvs.reverse();
    }
    let more = request.limit > 0 && kvs.len() > request.limit;
    if more {
        kvs.truncate(request.limit);
    }
    if request.keys_only {
        kvs.iter_mut().for_each(|kv| kv.value.clear());
    }
    RangeResponse { revision, kvs, more, count }
}

/// A transaction that only reads.
fn read_txn(replay: &Replay, point: &Point, txn: &Txn) -> Result<TxnResponse, KvError> {
    let map = replay.model.at(point.revision);
    let succeeded = model::holds(map, txn);
    let ops = if succeeded { &txn.success } else { &txn.failure };
    let responses = ops.iter().map(|op| match op {
        Op::Range(request) => range(replay, point, request).map(OpResponse::Range),
        Op::Txn(inner) => read_txn(replay, point, inner).map(OpResponse::Txn),
        Op::Put(_) | Op::Delete(_) => Err(KvError::Internal("not a read".into())),
    });
    Ok(TxnResponse { revision: point.revision, succeeded, responses: responses.collect::<Result<_, _>>()? })
}
