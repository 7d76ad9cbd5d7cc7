//! `Kv`: etcd's v3 contract (api/etcdserverpb/rpc.proto) as a trait, so that the embedded engine, a real etcd and a cluster of ours are one thing
//! to the API server.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::auth::AuthError;

/// A store-wide revision: grows by one with each transaction that writes. The first write makes revision 2, as in etcd.
pub type Revision = i64;
/// 0 means "no lease".
pub type LeaseId = i64;

/// One version of one key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct KeyValue {
    pub key: Bytes,
    pub value: Bytes,
    /// Revision that created the key in its present life.
    pub create_revision: Revision,
    /// Revision of this version.
    pub mod_revision: Revision,
    /// 1 for a new key; grows with each put.
    pub version: i64,
    pub lease: LeaseId,
}

/// Which keys: one key, `[key, end)`, a prefix, or all keys from `key` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub key: Bytes,
    /// `None`: just `key`. `Some("\0")`: every key >= `key`.
    pub end: Option<Bytes>,
}

impl KeyRange {
    pub fn one(key: impl Into<Bytes>) -> Self {
        Self { key: key.into(), end: None }
    }

    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let key = prefix.into();
        let end = prefix_end(&key);
        Self { key, end: Some(end) }
    }

    pub fn between(key: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self { key: key.into(), end: Some(end.into()) }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match &self.end {
            None => self.key == key,
            Some(end) if end.as_ref() == b"\0" => key >= self.key.as_ref(),
            Some(end) => key >= self.key.as_ref() && key < end.as_ref(),
        }
    }
}

/// The smallest key that is greater than every key with this prefix; `"\0"` (no end) where there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(b"\0")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    CreateRevision,
    ModRevision,
    Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

#[derive(Clone, Debug)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// 0: no limit.
    pub limit: usize,
    /// 0: the newest.
    pub revision: Revision,
    pub sort_order: SortOrder,
    pub sort_target: SortTarget,
    /// May answer from this member's state without asking the others.
    pub serializable: bool,
    pub keys_only: bool,
    pub count_only: bool,
    /// 0: no bound.
    pub min_mod_revision: Revision,
    pub max_mod_revision: Revision,
    pub min_create_revision: Revision,
    pub max_create_revision: Revision,
}

impl RangeRequest {
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            limit: 0,
            revision: 0,
            sort_order: SortOrder::None,
            sort_target: SortTarget::Key,
            serializable: false,
            keys_only: false,
            count_only: false,
            min_mod_revision: 0,
            max_mod_revision: 0,
            min_create_revision: 0,
            max_create_revision: 0,
        }
    }

    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = revision;
        self
    }
}

#[derive(Clone, Debug, Default)]
pub struct RangeResponse {
    /// The store's revision when the request was served.
    pub revision: Revision,
    pub kvs: Vec<KeyValue>,
    /// More keys are in the range than `limit` let through.
    pub more: bool,
    /// Keys in the range, whatever the limit.
    pub count: i64,
}

#[derive(Clone, Debug)]
pub struct PutRequest {
    pub key: Bytes,
    pub value: Bytes,
    pub lease: LeaseId,
    pub prev_kv: bool,
    /// Keep the present value or lease. An error where the key does not exist.
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

impl PutRequest {
    pub fn new(key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self { key: key.into(), value: value.into(), lease: 0, prev_kv: false, ignore_value: false, ignore_lease: false }
    }
}

#[derive(Clone, Debug)]
pub struct DeleteRequest {
    pub range: KeyRange,
    pub prev_kv: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    Greater,
    Less,
    NotEqual,
}

#[derive(Clone, Debug)]
pub enum CompareTarget {
    Version(i64),
    Create(Revision),
    Mod(Revision),
    Value(Bytes),
    Lease(LeaseId),
}

/// True when every key of the range (a missing single key counts as all zeros) compares so.
#[derive(Clone, Debug)]
pub struct Compare {
    pub range: KeyRange,
    pub op: CompareOp,
    pub target: CompareTarget,
}

impl Compare {
    /// The key is at this very revision; 0 means that it does not exist.
    pub fn mod_revision(key: impl Into<Bytes>, revision: Revision) -> Self {
        Self { range: KeyRange::one(key), op: CompareOp::Equal, target: CompareTarget::Mod(revision) }
    }
}

#[derive(Clone, Debug)]
pub enum Op {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRequest),
    Txn(Txn),
}

/// Runs `success` when all compares hold, else `failure`, atomically, at one revision.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    pub compare: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

#[derive(Clone, Debug)]
pub enum OpResponse {
    Range(RangeResponse),
    Put(Option<KeyValue>),
    Delete { deleted: i64, prev_kvs: Vec<KeyValue> },
    Txn(TxnResponse),
}

#[derive(Clone, Debug)]
pub struct TxnResponse {
    /// The store's revision after the transaction: that of its writes, if it wrote.
    pub revision: Revision,
    pub succeeded: bool,
    pub responses: Vec<OpResponse>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

#[derive(Clone, Debug)]
pub struct Event {
    pub kind: EventKind,
    /// For a delete only key and mod_revision (that of the delete) are set.
    pub kv: KeyValue,
    /// The version before, where it was asked for and is not compacted.
    pub prev_kv: Option<KeyValue>,
}

impl Event {
    /// Whether a put made the key.
    pub fn is_create(&self) -> bool {
        self.kind == EventKind::Put && self.kv.create_revision == self.kv.mod_revision
    }
}

#[derive(Clone, Debug)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// First revision to deliver; 0: from now on.
    pub start_revision: Revision,
    pub prev_kv: bool,
    /// Sends an empty response with the current revision when nothing happens for a while.
    pub progress_notify: bool,
    pub no_put: bool,
    pub no_delete: bool,
}

impl WatchRequest {
    pub fn new(range: KeyRange, start_revision: Revision) -> Self {
        Self { range, start_revision, prev_kv: false, progress_notify: false, no_put: false, no_delete: false }
    }
}

/// Events of one or more whole revisions, in order; without events it is a progress mark: everything up to `revision` was delivered.
#[derive(Clone, Debug)]
pub struct WatchResponse {
    pub revision: Revision,
    pub events: Vec<Event>,
}

/// A running watch. Dropping it ends it.
#[async_trait]
pub trait Watch: Send {
    /// The next response; `Err(Compacted)` or another error ends the watch. Cancel safe.
    async fn next(&mut self) -> Result<WatchResponse, KvError>;

    /// Asks for a progress mark as soon as everything up to now is delivered.
    async fn request_progress(&mut self) -> Result<(), KvError>;
}

#[derive(Clone, Debug)]
pub struct LeaseStatus {
    pub id: LeaseId,
    pub granted_ttl: Duration,
    pub remaining_ttl: Duration,
    pub keys: Vec<Bytes>,
}

#[derive(Clone, Debug, Default)]
pub struct StoreStatus {
    pub revision: Revision,
    pub compact_revision: Revision,
    /// Bytes on disk, and bytes in use of these.
    pub db_size: u64,
    pub db_size_in_use: u64,
}

/// etcd's contract. Every implementation passes the one suite in `store::suite`.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, KvError>;
    /// Returns when the transaction is durable.
    async fn txn(&self, txn: Txn) -> Result<TxnResponse, KvError>;
    /// Forgets what is older than `revision`. `physical`: returns when the space is free.
    async fn compact(&self, revision: Revision, physical: bool) -> Result<(), KvError>;
    async fn watch(&self, request: WatchRequest) -> Result<Box<dyn Watch>, KvError>;
    /// `id` 0: the store chooses one.
    async fn lease_grant(&self, id: LeaseId, ttl: Duration) -> Result<LeaseStatus, KvError>;
    async fn lease_revoke(&self, id: LeaseId) -> Result<(), KvError>;
    /// Returns the new remaining time.
    async fn lease_keep_alive(&self, id: LeaseId) -> Result<Duration, KvError>;
    async fn lease_status(&self, id: LeaseId) -> Result<LeaseStatus, KvError>;
    async fn leases(&self) -> Result<Vec<LeaseId>, KvError>;
    async fn status(&self) -> Result<StoreStatus, KvError>;

    /// A put alone; returns the revision.
    async fn put(&self, request: PutRequest) -> Result<Revision, KvError> {
        let txn = Txn { success: vec![Op::Put(request)], ..Txn::default() };
        Ok(self.txn(txn).await?.revision)
    }

    /// A delete alone; returns the revision and how many keys went.
    async fn delete(&self, range: KeyRange) -> Result<(Revision, i64), KvError> {
        let txn = Txn { success: vec![Op::Delete(DeleteRequest { range, prev_kv: false })], ..Txn::default() };
        let response = self.txn(txn).await?;
        match response.responses.first() {
            Some(OpResponse::Delete { deleted, .. }) => Ok((response.revision, *deleted)),
            _ => Err(KvError::Internal("a delete answered with another response".into())),
        }
    }
}

/// What can go wrong; texts are etcd's where etcd has one (api/v3rpc/rpctypes/error.go).
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum KvError {
    #[error("etcdserver: mvcc: required revision has been compacted")]
    Compacted { compact_revision: Revision },
    #[error("etcdserver: mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("etcdserver: requested lease not found")]
    LeaseNotFound,
    #[error("etcdserver: lease already exists")]
    LeaseExists,
    #[error("etcdserver: too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("etcdserver: key is not provided")]
    EmptyKey,
    #[error("etcdserver: key not found")]
    KeyNotFound,
    #[error("etcdserver: value is provided")]
    ValueProvided,
    #[error("etcdserver: lease is provided")]
    LeaseProvided,
    #[error("etcdserver: duplicate key given in txn request")]
    DuplicateKey,
    #[error("etcdserver: too many operations in txn request")]
    TooManyOps,
    #[error("etcdserver: request is too large")]
    RequestTooLarge,
    #[error("etcdserver: mvcc: database space exceeded")]
    NoSpace,
    #[error("etcdserver: no leader")]
    NoLeader,
    #[error("etcdserver: request timed out")]
    Timeout,
    /// As `Timeout`, and the leader went in between: the request may or may not have been done.
    #[error("etcdserver: request timed out, possibly due to previous leader failure")]
    TimeoutLeaderFailed,
    #[error("etcdserver: leader changed")]
    LeaderChanged,
    #[error("etcdserver: not leader")]
    NotLeader,
    #[error("etcdserver: bad leader transferee")]
    BadTransferee,
    #[error("etcdserver: request timed out, leader transfer took too long")]
    TransferTimeout,
    #[error("etcdserver: too many requests")]
    TooManyRequests,
    #[error("etcdserver: server stopped")]
    Stopped,
    /// This member was taken out of its cluster.
    #[error("etcdserver: the member has been permanently removed from the cluster")]
    Removed,
    #[error("etcdserver: member ID already exist")]
    MemberExists,
    #[error("etcdserver: Peer URLs already exists")]
    PeerUrlExists,
    #[error("etcdserver: member not found")]
    MemberNotFound,
    #[error("etcdserver: can only promote a learner member")]
    MemberNotLearner,
    #[error("etcdserver: can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("etcdserver: too many learner members in cluster")]
    TooManyLearners,
    #[error("etcdserver: re-configuration failed due to not enough started members")]
    NotEnoughStarted,
    #[error("etcdserver: unhealthy cluster")]
    UnhealthyCluster,
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The store is shutting down or its peer is out of reach; the request may or may not have been done.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The state on disk is damaged: nothing is served from it.
    #[error("{0}")]
    Corrupt(String),
    #[error("store: {0}")]
    Internal(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"/a/"), Bytes::from_static(b"/a0"));
        assert_eq!(prefix_end(b"a\xff"), Bytes::from_static(b"b"));
        assert_eq!(prefix_end(b"\xff\xff"), Bytes::from_static(b"\0"));
        assert!(KeyRange::prefix("/a/").contains(b"/a/b"));
        assert!(!KeyRange::prefix("/a/").contains(b"/a"));
        assert!(KeyRange::between("b", "\0").contains(b"zzz"));
    }
}
