//! The judges, with histories written by hand: what is good passes, and each way of being bad is named.

use std::time::Duration;

use super::super::history::{Call, Entry, History, Moment, Outcome, Request, Response, WatchLog, mark_compare};
use super::{LeaseRules, check};
use crate::kv::*;
use crate::state::Command;

fn at(step: u64) -> Moment {
    Moment { step, ms: step * 10 }
}

fn put(call: u64, key: &'static str, lease: LeaseId) -> Txn {
    Txn { success: vec![Op::Put(PutRequest { lease, ..PutRequest::new(key, format!("#{call}.0.")) })], ..Txn::default() }
}

fn delete(call: u64, key: &'static str) -> Txn {
    let delete = DeleteRequest { range: KeyRange::one(key), prev_kv: false };
    Txn { compare: vec![mark_compare(call)], success: vec![Op::Delete(delete)], ..Txn::default() }
}

fn kv(call: u64, key: &'static str, create_revision: Revision, mod_revision: Revision, version: i64) -> KeyValue {
    KeyValue { key: key.into(), value: format!("#{call}.0.").into(), create_revision, mod_revision, version, lease: 0 }
}

/// A history that grows by hand; commands and calls say at which steps they happened.
#[derive(Default)]
struct Story(History);

impl Story {
    fn apply(mut self, step: u64, command: Command) -> Self {
        let index = self.0.log.len() as u64 + 1;
        self.0.log.push(Entry { index, command, applied: at(step) });
        self
    }

    fn call(mut self, id: u64, steps: (u64, u64), request: Request, outcome: Outcome) -> Self {
        self.0.calls.push(Call { id, node: 0, request, began: at(steps.0), ended: Some((at(steps.1), outcome)) });
        self
    }

    /// A put of a new or present key from sending to answer, applied in the middle.
    fn put(self, id: u64, began: u64, key: &'static str, revision: Revision) -> Self {
        let answer = TxnResponse { revision, succeeded: true, responses: vec![OpResponse::Put(None)] };
        self.apply(began + 1, Command::Txn(put(id, key, 0))).call(
            id,
            (began, began + 2),
            Request::Txn(put(id, key, 0)),
            Ok(Response::Txn(answer)),
        )
    }

    fn read(self, steps: (u64, u64), request: RangeRequest, revision: Revision, kvs: Vec<KeyValue>) -> Self {
        let count = kvs.len() as i64;
        let id = 1000 + steps.0;
        self.call(id, steps, Request::Range(request), Ok(Response::Range(RangeResponse { revision, kvs, more: false, count })))
    }

    fn watch(mut self, request: WatchRequest, responses: Vec<(u64, Revision, Vec<Event>)>, complete: bool) -> Self {
        let responses = responses.into_iter().map(|(step, revision, events)| (at(step), WatchResponse { revision, events })).collect();
        self.0.watches.push(WatchLog { id: 7, node: 0, request, created: at(1), responses, error: None, complete });
        self
    }

    fn wrong(&self) -> Vec<String> {
        check(&self.0, &LeaseRules { drift_permille: 0, slack_ms: 100, quiet_ms: Some((10_000, 50_000)) })
    }

    fn good(self) {
        assert_eq!(self.wrong(), Vec::<String>::new());
    }

    fn bad(self, why: &str) {
        let wrong = self.wrong();
        assert!(wrong.iter().any(|text| text.contains(why)), "{why:?} is not in {wrong:#?}");
    }
}

/// `a` is put at revisions 2 and 3.
fn two_puts() -> Story {
    Story::default().put(1, 10, "a", 2).put(2, 20, "a", 3)
}

fn a() -> RangeRequest {
    RangeRequest::new(KeyRange::one("a"))
}

#[test]
fn reads_see_what_was_acknowledged() {
    two_puts().read((30, 31), a(), 3, vec![kv(2, "a", 2, 3, 2)]).good();
    two_puts().read((15, 16), a(), 2, vec![kv(1, "a", 2, 2, 1)]).good();
    // Concurrent with the second put: either is right.
    two_puts().read((19, 23), a(), 2, vec![kv(1, "a", 2, 2, 1)]).good();
    two_puts().read((19, 23), a(), 3, vec![kv(2, "a", 2, 3, 2)]).good();
    two_puts().read((30, 31), a(), 2, vec![kv(1, "a", 2, 2, 1)]).bad("no place of the log");
    two_puts().read((30, 31), a(), 3, vec![kv(1, "a", 2, 2, 1)]).bad("no place of the log");
    two_puts().read((15, 16), a(), 3, vec![kv(2, "a", 2, 3, 2)]).bad("no place of the log");
    two_puts().read((30, 31), RangeRequest { serializable: true, ..a() }, 2, vec![kv(1, "a", 2, 2, 1)]).good();
    two_puts().read((30, 31), RangeRequest { serializable: true, ..a() }, 2, vec![]).bad("no place of the log");
    two_puts().read((30, 31), a().at(2), 3, vec![kv(1, "a", 2, 2, 1)]).good();
    two_puts().read((30, 31), a().at(2), 3, vec![kv(2, "a", 2, 3, 2)]).bad("no place of the log");
}

#[test]
fn reads_do_not_go_back() {
    let first = || two_puts().read((19, 21), a(), 3, vec![kv(2, "a", 2, 3, 2)]);
    // The second put is still open at step 22, but someone has seen it.
    let mut open = first();
    open.0.calls[1].ended = Some((at(40), open.0.calls[1].ended.clone().unwrap().1));
    open.read((30, 31), a(), 2, vec![kv(1, "a", 2, 2, 1)]).bad("no place of the log");
}

#[test]
fn writes_are_done_once_in_order_and_kept() {
    two_puts().good();
    let lost = Ok(Response::Txn(TxnResponse { revision: 4, succeeded: true, responses: vec![OpResponse::Put(None)] }));
    two_puts().call(3, (30, 31), Request::Txn(put(3, "a", 0)), lost).bad("not in the log");
    two_puts().apply(30, Command::Txn(put(1, "a", 0))).bad("done twice");
    Story::default().put(1, 10, "a", 3).bad("should have answered");
    let mut early = two_puts();
    early.0.calls[0].ended.as_mut().unwrap().0 = at(10);
    early.bad("acknowledged before it was applied");
    let mut late = two_puts();
    late.0.calls[1].began = at(22);
    late.bad("applied before it was sent");
    let mut unknown = two_puts();
    unknown.0.calls[1].ended = None;
    unknown.read((30, 31), a(), 3, vec![kv(2, "a", 2, 3, 2)]).good();
    Story::default().apply(5, Command::Txn(Txn { success: vec![Op::Put(PutRequest::new("a", "x"))], ..Txn::default() })).bad("nobody sent");
}

#[test]
fn compactions_hide_what_is_old() {
    let compacted = || two_puts().apply(30, Command::Compact(3)).call(3, (29, 31), Request::Compact(3), Ok(Response::Done));
    compacted().good();
    let refused = Err(KvError::Compacted { compact_revision: 3 });
    compacted().call(4, (40, 41), Request::Range(a().at(2)), refused.clone()).good();
    compacted().call(4, (20, 21), Request::Range(a().at(2)), refused).bad("no place of the log");
    compacted().read((40, 41), a().at(2), 3, vec![kv(1, "a", 2, 2, 1)]).bad("no place of the log");
    two_puts().call(3, (29, 31), Request::Compact(3), Ok(Response::Done)).bad("no command of the log");
}

fn created(call: u64, revision: Revision, version: i64) -> Event {
    Event { kind: EventKind::Put, kv: kv(call, "a", 2, revision, version), prev_kv: None }
}

fn watch_from(start: Revision) -> WatchRequest {
    WatchRequest::new(KeyRange::one("a"), start)
}

#[test]
fn watches_are_ordered_unique_and_whole() {
    let (first, second) = (created(1, 2, 1), created(2, 3, 2));
    let both = vec![(40, 2, vec![first.clone()]), (41, 3, vec![second.clone()])];
    two_puts().watch(watch_from(2), both.clone(), true).good();
    two_puts().watch(watch_from(0), both.clone(), true).good();
    two_puts().watch(watch_from(2), vec![(40, 3, vec![first.clone(), second.clone()])], true).good();
    two_puts().watch(watch_from(2), both[..1].to_vec(), false).good();
    two_puts().watch(watch_from(2), both[..1].to_vec(), true).bad("revision 3 never came");
    two_puts().watch(watch_from(2), both[1..].to_vec(), true).bad("belongs");
    two_puts().watch(watch_from(0), both[1..].to_vec(), true).bad("misses");
    two_puts().watch(watch_from(2), vec![both[0].clone(), both[0].clone()], true).bad("comes after 2");
    two_puts().watch(watch_from(2), vec![both[1].clone(), both[0].clone()], true).bad("belongs");
    two_puts().watch(watch_from(2), vec![(15, 3, vec![first.clone(), second.clone()])], true).bad("before it was applied");
    let wrong_value = Event { kv: KeyValue { value: "x".into(), ..first.kv.clone() }, ..first.clone() };
    two_puts().watch(watch_from(2), vec![(40, 2, vec![wrong_value])], false).bad("belongs");
    two_puts().watch(WatchRequest { no_put: true, ..watch_from(2) }, vec![], true).good();
    two_puts().watch(WatchRequest { prev_kv: true, ..watch_from(3) }, vec![(40, 3, vec![second])], true).bad("replaced");
}

#[test]
fn watches_deliver_revisions_whole() {
    let txn = Txn { success: vec![put(1, "a", 0).success.remove(0), put(1, "b", 0).success.remove(0)], ..Txn::default() };
    let story = || Story::default().apply(10, Command::Txn(txn.clone()));
    let event = |key| Event { kind: EventKind::Put, kv: kv(1, key, 2, 2, 1), prev_kv: None };
    let all = WatchRequest::new(KeyRange::between("\0", "\0"), 2);
    story().watch(all.clone(), vec![(20, 2, vec![event("a"), event("b")])], true).good();
    story().watch(all.clone(), vec![(20, 2, vec![event("a")]), (21, 2, vec![event("b")])], true).bad("not delivered whole");
    story().watch(all, vec![(20, 2, vec![event("b"), event("a")])], true).bad("belongs");
}

#[test]
fn progress_marks_follow_events() {
    let mark = |step, revision| (step, revision, vec![]);
    let first = (40, 2, vec![created(1, 2, 1)]);
    two_puts().watch(watch_from(2), vec![first.clone(), mark(41, 2)], false).good();
    two_puts().watch(watch_from(2), vec![first.clone(), mark(41, 3)], false).bad("runs ahead");
    two_puts().watch(watch_from(9), vec![mark(41, 9)], false).bad("in the future");
    two_puts().watch(WatchRequest::new(KeyRange::one("b"), 2), vec![mark(41, 3)], true).good();
}

#[test]
fn watches_end_only_where_something_is_gone() {
    let ended = |start, seen: bool| {
        let responses = if seen { vec![(25, 3, vec![created(1, 2, 1), created(2, 3, 2)])] } else { vec![] };
        let mut story = two_puts().apply(30, Command::Compact(3)).watch(watch_from(start), responses, false);
        story.0.watches[0].error = Some((at(40), KvError::Compacted { compact_revision: 3 }));
        story
    };
    ended(2, false).good();
    ended(3, false).bad("had everything");
    ended(2, true).bad("had everything");
    let mut never = two_puts().watch(watch_from(2), vec![], false);
    never.0.watches[0].error = Some((at(40), KvError::Compacted { compact_revision: 3 }));
    never.bad("did not happen");
}

fn granted() -> Story {
    Story::default().apply(10, Command::LeaseGrant { id: 5, ttl_ms: 2000 }).call(
        1,
        (9, 11),
        Request::Grant { id: 5, ttl_ms: 2000 },
        Ok(Response::Done),
    )
}

fn kept(story: Story, step: u64) -> Story {
    story.call(step, (step, step + 1), Request::KeepAlive(5), Ok(Response::Kept(Duration::from_secs(2))))
}

#[test]
fn leases_end_in_time_and_not_before() {
    let over = |story: Story, step| story.apply(step, Command::LeaseRevoke(5));
    over(granted(), 211).good();
    over(granted(), 209).bad("ended at 2090 ms");
    over(kept(granted(), 100), 301).good();
    over(kept(granted(), 100), 299).bad("was renewed at 1000 ms");
    granted().bad("should be over");
    kept(over(granted(), 211), 250).bad("there is none");
    over(granted().call(8, (20, 21), Request::KeepAlive(5), Err(KvError::LeaseNotFound)), 400).good();
    let refused = granted().call(8, (20, 21), Request::KeepAlive(5), Err(KvError::LeaseNotFound));
    refused.bad("it was there");
    let revoked = granted().apply(20, Command::LeaseRevoke(5)).call(2, (19, 21), Request::Revoke(5), Ok(Response::Done));
    revoked.good();
}

#[test]
fn keys_go_with_their_lease() {
    let leased = || {
        let answer = TxnResponse { revision: 2, succeeded: true, responses: vec![OpResponse::Put(None)] };
        let story = granted().apply(13, Command::Txn(put(2, "a", 5)));
        story.call(2, (12, 14), Request::Txn(put(2, "a", 5)), Ok(Response::Txn(answer))).apply(300, Command::LeaseRevoke(5))
    };
    leased().read((310, 311), a(), 3, vec![]).good();
    let stale = KeyValue { lease: 5, ..kv(2, "a", 2, 2, 1) };
    leased().read((310, 311), a(), 3, vec![stale]).bad("no place of the log");
}

#[test]
fn deletions_are_marked_by_their_compare() {
    let answer = |deleted| TxnResponse { revision: 3, succeeded: true, responses: vec![OpResponse::Delete { deleted, prev_kvs: vec![] }] };
    let story = |deleted| {
        let story = Story::default().put(1, 10, "a", 2).apply(21, Command::Txn(delete(2, "a")));
        story.call(2, (20, 22), Request::Txn(delete(2, "a")), Ok(Response::Txn(answer(deleted))))
    };
    story(1).good();
    story(0).bad("should have answered");
}
