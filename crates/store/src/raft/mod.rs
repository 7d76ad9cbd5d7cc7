//! A member of a cluster: the store replicated by Raft. Owns everything that knows of terms, votes, members and leaders.
//!
//! From the inside out: `core` is Raft itself (the `raft` crate) without clock and disk, over `log`, the kept part of the log. `member` drives it: one
//! synchronous function `turn(inputs, now_ms)` persists what must be (`journal`), applies what is committed (`applying`) and answers. Requests go in by
//! `proposing`, what time brings is `tending`'s. `serve` runs `turn` on a thread, `api` turns calls into inputs, `board` shows how the member stands. Between
//! members travel `message`s, `questions` and `snapshots`; on disk stand `records`, from which `recover` starts; `cluster` is who the members are,
//! `reconfigure` whether they may change. Must never read a clock below `serve`: time comes in as milliseconds.

mod api;
mod applying;
mod board;
pub(crate) mod cluster;
mod core;
mod import;
pub(crate) mod journal;
mod leases;
mod log;
pub(crate) mod member;
mod message;
pub(crate) mod proposals;
mod proposing;
mod questions;
pub(crate) mod reads;
mod reconfigure;
pub(crate) mod records;
mod recover;
pub(crate) mod serve;
mod slog_to_tracing;
mod snapshots;
mod tending;

pub use import::{FirstMembers, import_member};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;

use crate::kv::KvError;

/// Whatever a peer may send.
#[cfg(any(test, feature = "fuzz"))]
pub(crate) fn read_message(bytes: &[u8]) {
    let _ = message::decode(&Bytes::copy_from_slice(bytes), 1);
}

/// One member of a cluster, as every member knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub id: u64,
    /// Empty until the member has started and published it.
    pub name: String,
    pub peer_urls: Vec<String>,
    /// Empty until the member has started and published them.
    pub client_urls: Vec<String>,
    pub is_learner: bool,
}

impl Member {
    /// Whether the member has ever said its attributes.
    pub fn is_started(&self) -> bool {
        !self.name.is_empty() || !self.client_urls.is_empty()
    }
}

/// What an empty data folder becomes. A folder that holds a member goes on as that member whatever is said here.
#[derive(Clone, Debug)]
pub enum Bootstrap {
    /// The first members of a new cluster, the same list on each of them.
    New(Vec<Member>),
    /// A cluster that runs: the member learns everything from the others, which must have added it before.
    Join(Vec<Member>),
}

/// Settings of a member; defaults are etcd's.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    pub cluster_id: u64,
    pub member_id: u64,
    pub bootstrap: Bootstrap,
    pub heartbeat: Duration,
    /// Without a sign of the leader for one to two of these a follower stands for election. At least five heartbeats.
    pub election_timeout: Duration,
    /// Applied entries that are kept for slow followers; who is further behind gets a snapshot.
    pub snapshot_count: u64,
    /// The same, in bytes.
    pub kept_log_bytes: usize,
    /// Refuse changes of the membership that would leave too few started members.
    pub strict_reconfig: bool,
    /// Answer linearizable reads from the leader's lease instead of asking a quorum each time. Relies on clocks that run about equally fast.
    pub lease_reads: bool,
    /// Learners that a cluster may have at once.
    pub max_learners: usize,
    /// Seed of the election timeouts; `None`: a random one.
    pub seed: Option<u64>,
}

impl MemberOptions {
    pub fn new(cluster_id: u64, member_id: u64, bootstrap: Bootstrap) -> Self {
        Self {
            cluster_id,
            member_id,
            bootstrap,
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_count: 10_000,
            kept_log_bytes: 64 << 20,
            strict_reconfig: true,
            lease_reads: false,
            max_learners: 1,
            seed: None,
        }
    }

    /// How long a request may take before it is answered with `Timeout` (etcd's config.ReqTimeout).
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }
}

/// Which lane of the network a message wants: heartbeats must not wait behind appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    Heartbeat,
    Vote,
    Append,
    Other,
}

pub type Answer = Pin<Box<dyn Future<Output = Result<Bytes, KvError>> + Send>>;

/// The network between members, as the store needs it. Messages are opaque; the other side hands them to the engine of the same name of method.
///
/// All of it may drop what it is given, but must not reorder or repeat the messages of one kind to one member (requests are forwarded to the leader that
/// way: a repeated one would be done twice), nor block the caller.
pub trait Transport: Send + Sync + 'static {
    /// To `Engine::receive` of member `to`. What cannot be sent now is dropped; `Engine::unreachable(to)` is told then.
    fn send(&self, to: u64, message: Bytes, kind: MessageKind);

    /// To `Engine::receive_snapshot` of member `to`, chunk by chunk. `Engine::snapshot_sent(to, ok)` is told when it is over.
    fn send_snapshot(&self, to: u64, snapshot: OutgoingSnapshot);

    /// A question to `Engine::answer` of member `to`, and its answer; an error of the other member comes back as it was where the transport can, else as
    /// `Unavailable`.
    fn ask(&self, to: u64, question: Bytes) -> Answer;

    /// The members of the cluster and their peer URLs are these from now on (this member included). Called at the start too.
    fn members_changed(&self, members: &[Member]);

    /// This member is no longer one of the cluster. The store answers `Removed` from now on.
    fn removed(&self) {}

    /// How long `peer` has been reachable without a break; `None` while it is not.
    fn connected_for(&self, peer: u64) -> Option<Duration>;
}

/// A whole state on its way to a member that is too far behind for the log.
pub struct OutgoingSnapshot {
    /// Bytes of all chunks together, about.
    pub size_hint: u64,
    pub(crate) chunks: Box<dyn Iterator<Item = Result<Bytes, KvError>> + Send>,
}

impl OutgoingSnapshot {
    /// The next chunk, of at most about 1 MiB; `None` at the end. Blocks on the disk. Chunks are checked where they arrive.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, KvError> {
        self.chunks.next().transpose()
    }
}

impl fmt::Debug for OutgoingSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutgoingSnapshot").field("size_hint", &self.size_hint).finish_non_exhaustive()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Follower,
    PreCandidate,
    Candidate,
    Leader,
}

/// Where a member stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftStatus {
    pub cluster_id: u64,
    pub member_id: u64,
    /// 0: none is known.
    pub leader: u64,
    pub role: Role,
    pub term: u64,
    /// The newest entry that is known to be committed (etcd's raftIndex).
    pub raft_index: u64,
    pub applied_index: u64,
    pub is_learner: bool,
    /// How many times the leader was seen to change since the start (etcd_server_leader_changes_seen_total).
    pub leader_changes: u64,
    /// Proposals that wait for their fate (etcd_server_proposals_pending).
    pub pending_proposals: u64,
    /// Proposals that timed out (etcd_server_proposals_failed_total).
    pub failed_proposals: u64,
    /// Why the member takes part no more, if it does not.
    pub stopped: Option<KvError>,
}

/// One change of the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// As a learner where it says so.
    Add(Member),
    /// A learner becomes a voter.
    Promote(u64),
    Remove(u64),
}

#[cfg(test)]
mod tests;
