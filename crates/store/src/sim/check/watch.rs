//! What a watch guarantees (etcd's learning/api_guarantees): ordered, unique, reliable, atomic, resumable, bookmarkable; and that it is ended by a
//! compaction only when that took something from it.

use super::Replay;
use crate::kv::*;
use crate::sim::history::{History, Moment, WatchLog};

/// Something that the model says a watch must deliver.
struct Expected {
    revision: Revision,
    event: Event,
}

pub(super) fn check(history: &History, replay: &Replay, wrong: &mut Vec<String>) {
    for watch in &history.watches {
        if let Err(why) = one(watch, replay) {
            wrong.push(format!("watch {} ({:?}, created in step {}): {why}", watch.id, watch.request, watch.created.step));
        }
    }
}

fn one(watch: &WatchLog, replay: &Replay) -> Result<(), String> {
    let expected = expected(watch, replay);
    let mut at = start(watch, replay, &expected)?;
    let mut previous = 0;
    let mut marked = 0;
    for (moment, response) in &watch.responses {
        let (Some(first), Some(last)) = (response.events.first(), response.events.last()) else {
            bookmark(&expected[at..], *moment, response.revision, replay)?;
            marked = marked.max(response.revision);
            continue;
        };
        let (first, last) = (first.kv.mod_revision, last.kv.mod_revision);
        if first <= previous {
            return Err(format!("in step {} revision {first} comes after {previous} was delivered", moment.step));
        }
        if first <= marked {
            return Err(format!("in step {} revision {first} comes after a progress mark at {marked}", moment.step));
        }
        for event in &response.events {
            let next = expected.get(at).ok_or_else(|| format!("in step {} {event:?} never happened", moment.step))?;
            same(event, next, watch.request.prev_kv, *moment, replay)?;
            at += 1;
        }
        if expected.get(at).is_some_and(|next| next.revision == last) {
            return Err(format!("in step {} revision {last} was not delivered whole", moment.step));
        }
        if response.revision < last {
            return Err(format!("in step {} the response says revision {} and brings {last}", moment.step, response.revision));
        }
        previous = last;
    }
    if let Some((moment, KvError::Compacted { compact_revision })) = &watch.error {
        return compacted(watch, *moment, *compact_revision, &expected[at..], replay);
    }
    match expected.get(at) {
        Some(missing) if watch.complete => Err(format!("revision {} never came: {:?}", missing.revision, missing.event)),
        _ => Ok(()),
    }
}

/// All that the watch could ever deliver.
fn expected(watch: &WatchLog, replay: &Replay) -> Vec<Expected> {
    let request = &watch.request;
    let events = replay.model.events.iter().filter(|(revision, key, kv)| {
        let wanted = if kv.is_some() { !request.no_put } else { !request.no_delete };
        *revision >= request.start_revision && wanted && request.range.contains(key)
    });
    events
        .map(|(revision, key, kv)| {
            let event = match kv {
                Some(kv) => Event { kind: EventKind::Put, kv: kv.clone(), prev_kv: None },
                None => {
                    let kv = KeyValue { key: key.clone(), mod_revision: *revision, ..KeyValue::default() };
                    Event { kind: EventKind::Delete, kv, prev_kv: None }
                }
            };
            Expected { revision: *revision, event }
        })
        .collect()
}

/// Where in what is expected the watch begins.
fn start(watch: &WatchLog, replay: &Replay, expected: &[Expected]) -> Result<usize, String> {
    if watch.request.start_revision > 0 {
        return Ok(0);
    }
    // "From now on" is the member's now, which is nowhere behind what was applied last when the watch was there.
    let now = replay.points[replay.applied_at(watch.created.step)].revision;
    let latest = expected.partition_point(|next| next.revision <= now);
    let Some(first) = watch.responses.iter().find_map(|(_, response)| response.events.first()) else { return Ok(latest) };
    let found = expected.partition_point(|next| next.revision < first.kv.mod_revision);
    if found > latest {
        return Err(format!("it begins with revision {} and misses {:?}", first.kv.mod_revision, expected[latest].event));
    }
    Ok(found)
}

fn same(event: &Event, next: &Expected, prev_kv: bool, moment: Moment, replay: &Replay) -> Result<(), String> {
    let expected = &next.event;
    if event.kv != expected.kv || event.kind != expected.kind {
        return Err(format!("in step {} came {event:?} where {expected:?} belongs", moment.step));
    }
    let point = &replay.points[replay.applied_at(moment.step)];
    if point.revision < next.revision {
        return Err(format!("in step {} revision {} was delivered before it was applied", moment.step, next.revision));
    }
    let before = replay.model.at(next.revision - 1).get(&event.kv.key).filter(|_| prev_kv);
    let gone = event.prev_kv.is_none() && point.compact_revision >= next.revision;
    if event.prev_kv.as_ref() == before || gone { Ok(()) } else { Err(format!("in step {} {event:?} replaced {before:?}", moment.step)) }
}

fn bookmark(rest: &[Expected], moment: Moment, revision: Revision, replay: &Replay) -> Result<(), String> {
    if let Some(missing) = rest.first().filter(|next| next.revision <= revision) {
        return Err(format!("the progress mark at {revision} in step {} runs ahead of {:?}", moment.step, missing.event));
    }
    let applied = replay.points[replay.applied_at(moment.step)].revision;
    if revision > applied {
        return Err(format!("the progress mark at {revision} in step {} is in the future: {applied} is applied", moment.step));
    }
    Ok(())
}

fn compacted(watch: &WatchLog, moment: Moment, compact_revision: Revision, rest: &[Expected], replay: &Replay) -> Result<(), String> {
    let known = replay.points[..=replay.applied_at(moment.step)].iter().any(|point| point.compact_revision == compact_revision);
    if !known {
        return Err(format!("it was ended by a compaction at {compact_revision} that did not happen"));
    }
    let lost_start = watch.responses.is_empty() && watch.request.start_revision > 0 && watch.request.start_revision < compact_revision;
    if lost_start || rest.first().is_some_and(|next| next.revision < compact_revision) {
        return Ok(());
    }
    // What it waits for next may be of keys that it does not watch: then its place is not known from outside, only that it was behind.
    let delivered = watch.responses.last().map_or(watch.request.start_revision - 1, |(_, response)| response.revision);
    if delivered + 1 < compact_revision {
        Ok(())
    } else {
        Err(format!("it was ended by the compaction at {compact_revision} and had everything"))
    }
}
