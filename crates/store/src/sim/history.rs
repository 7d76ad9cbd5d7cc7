//! What happened in a run: calls of clients, deliveries to watches, and the commands that members applied. Plain data; judges nothing.

use std::time::Duration;

use crate::kv::*;
use crate::state::Command;

/// Order and time of something. No two moments of a run have the same step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Moment {
    pub step: u64,
    pub ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Request {
    Txn(Txn),
    Range(RangeRequest),
    Compact(Revision),
    Grant { id: LeaseId, ttl_ms: u64 },
    Revoke(LeaseId),
    KeepAlive(LeaseId),
    TimeToLive(LeaseId),
    Leases,
}

#[derive(Clone, Debug)]
pub(crate) enum Response {
    Txn(TxnResponse),
    Range(RangeResponse),
    Done,
    Kept(Duration),
    TimeToLive(LeaseStatus),
    Leases(Vec<LeaseId>),
}

pub(crate) type Outcome = Result<Response, KvError>;

/// One request of a client. Without `ended` nobody knows whether it was done.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub id: u64,
    pub node: usize,
    pub request: Request,
    pub began: Moment,
    pub ended: Option<(Moment, Outcome)>,
}

/// Errors that a command that was done may answer. After others but refusals it may have been done all the same.
fn is_answer(error: &KvError) -> bool {
    matches!(
        error,
        KvError::Compacted { .. } | KvError::FutureRevision | KvError::LeaseNotFound | KvError::LeaseExists | KvError::KeyNotFound
    )
}

/// Errors after which a command may have been done all the same.
pub(crate) fn is_unknown(error: &KvError) -> bool {
    !is_answer(error) && !is_refusal(error)
}

/// Errors that say that a command was not even tried.
pub(crate) fn is_refusal(error: &KvError) -> bool {
    matches!(
        error,
        KvError::NoSpace
            | KvError::TooManyOps
            | KvError::DuplicateKey
            | KvError::EmptyKey
            | KvError::RequestTooLarge
            | KvError::ValueProvided
            | KvError::LeaseProvided
    )
}

impl Call {
    /// The answer, where there is one that says what happened.
    pub fn answer(&self) -> Option<(Moment, &Outcome)> {
        let (ended, outcome) = self.ended.as_ref()?;
        let known = !matches!(outcome, Err(error) if is_unknown(error) || is_refusal(error));
        known.then_some((*ended, outcome))
    }
}

/// One watch from its creation to its end, as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct WatchLog {
    pub id: u64,
    pub node: usize,
    pub request: WatchRequest,
    pub created: Moment,
    pub responses: Vec<(Moment, WatchResponse)>,
    pub error: Option<(Moment, KvError)>,
    /// The run ended in quiet and this watch was still there: it must have everything.
    pub complete: bool,
}

/// One command of the log, at the moment when a member first applied it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub index: u64,
    pub command: Command,
    pub applied: Moment,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    pub calls: Vec<Call>,
    pub watches: Vec<WatchLog>,
    /// In the order of the log.
    pub log: Vec<Entry>,
}

/// The mark of the call that a transaction came from: a compare with a key that never exists, or else the first value put.
pub(crate) fn mark(txn: &Txn) -> Option<u64> {
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.split('.').next()?.parse().ok();
    let compared = txn.compare.iter().find_map(|compare| number(compare.range.key.strip_prefix(b"~")?));
    compared.or_else(|| {
        txn.success.iter().chain(&txn.failure).find_map(|op| match op {
            Op::Put(put) => number(put.value.strip_prefix(b"#")?),
            Op::Txn(inner) => mark(inner),
            Op::Range(_) | Op::Delete(_) => None,
        })
    })
}

/// A compare that always holds and says whose transaction it is.
pub(crate) fn mark_compare(call: u64) -> Compare {
    Compare { range: KeyRange::one(format!("~{call}")), op: CompareOp::Equal, target: CompareTarget::Version(0) }
}
