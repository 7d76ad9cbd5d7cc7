//! What an engine can do as a member of a cluster, beside being a `Kv`. Decides nothing: every call becomes an input of the member's loop.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::{Member, MemberChange, MemberOptions, RaftStatus, Transport};
use crate::engine::Engine;
use crate::kv::KvError;
use crate::options::EngineOptions;

fn not_a_member() -> KvError {
    KvError::Unavailable("this store is not a member of a cluster".into())
}

impl Engine {
    /// Opens the store in `dir` as a member, or makes it as `member.bootstrap` says. Blocks while it reads the files. Call it inside a tokio runtime.
    ///
    /// Beside what `open` refuses: `Corrupt` where the folder is another member's or another cluster's, or holds a store that is no member.
    pub fn open_member(
        dir: &Path,
        _options: EngineOptions,
        _member: MemberOptions,
        _transport: Arc<dyn Transport>,
        _tasks: &base::Tasks,
    ) -> Result<Self, KvError> {
        Err(KvError::Unavailable(format!("members cannot be opened yet: {}", dir.display())))
    }

    /// Whether `dir` holds a member already, so that `MemberOptions::bootstrap` is not looked at.
    ///
    /// Whoever starts a member with `Bootstrap::New` in a folder where this is false must first ask the others of the list whether they know it as
    /// started: then its data was lost, and it must be removed and added as a new member.
    pub fn is_member_folder(dir: &Path) -> Result<bool, KvError> {
        Err(KvError::Unavailable(format!("members cannot be opened yet: {}", dir.display())))
    }

    /// What a peer sent through `Transport::send`. Never blocks; drops the message where too many wait.
    pub fn receive(&self, _from: u64, _message: Bytes) {}

    /// A message to `peer` could not be sent.
    pub fn unreachable(&self, _peer: u64) {}

    /// What a peer sent through `Transport::send_snapshot`, as it comes; returns when the state is installed or was not needed. Blocks: call it on a
    /// thread that may (`spawn_blocking`).
    pub fn receive_snapshot(&self, _from: u64, _chunks: &mut dyn Iterator<Item = Result<Bytes, KvError>>) -> Result<(), KvError> {
        Err(not_a_member())
    }

    /// A snapshot that was given to `Transport::send_snapshot` was received whole, or was not.
    pub fn snapshot_sent(&self, _to: u64, _ok: bool) {}

    /// Answers what a peer asked through `Transport::ask`.
    pub async fn answer(&self, _from: u64, _question: Bytes) -> Result<Bytes, KvError> {
        Err(not_a_member())
    }

    /// Where the member stands; `None` for a store that is no member.
    pub fn raft_status(&self) -> Option<RaftStatus> {
        None
    }

    /// Changes whenever leader, role or `stopped` change.
    pub fn raft_changes(&self) -> Option<tokio::sync::watch::Receiver<RaftStatus>> {
        None
    }

    /// Resolves when everything that was acknowledged anywhere in the cluster before the call is applied here: linearizable reads of this member's state
    /// may follow. `Timeout`, `LeaderChanged`. At once in a store that is no member.
    pub async fn read_barrier(&self) -> Result<(), KvError> {
        Ok(())
    }

    /// The members that this one knows, by id; empty for a store that is no member. Call `read_barrier` first for a linearizable list.
    pub fn members(&self) -> Vec<Member> {
        Vec::new()
    }

    /// Whether a member of this id was in the cluster and was removed: its messages must be refused, and it be told.
    pub fn is_removed(&self, _id: u64) -> bool {
        false
    }

    /// Another member says that this one was removed. It stops.
    pub fn told_removed(&self) {}

    /// Adds a member (a learner where it says so), which the caller gave an id. Returns the members after it.
    /// `MemberExists`, `PeerUrlExists`, `TooManyLearners`, `NotEnoughStarted`, `UnhealthyCluster`.
    pub async fn add_member(&self, member: Member) -> Result<Vec<Member>, KvError> {
        self.change_members(vec![MemberChange::Add(member)]).await
    }

    /// Makes a learner a voter. Asks the leader. `MemberNotFound`, `MemberNotLearner`, `LearnerNotReady`, `NotEnoughStarted`.
    pub async fn promote_member(&self, id: u64) -> Result<Vec<Member>, KvError> {
        self.change_members(vec![MemberChange::Promote(id)]).await
    }

    /// `MemberNotFound`, `NotEnoughStarted`, `UnhealthyCluster`.
    pub async fn remove_member(&self, id: u64) -> Result<Vec<Member>, KvError> {
        self.change_members(vec![MemberChange::Remove(id)]).await
    }

    /// Several changes at once, by joint consensus: all of them happen or none.
    pub async fn change_members(&self, _changes: Vec<MemberChange>) -> Result<Vec<Member>, KvError> {
        Err(not_a_member())
    }

    /// Changes where peers find a member. `MemberNotFound`, `PeerUrlExists`.
    pub async fn update_member(&self, _id: u64, _peer_urls: Vec<String>) -> Result<Vec<Member>, KvError> {
        Err(not_a_member())
    }

    /// This member says its attributes to all. Tries again until it is done or the store is closed.
    pub async fn publish(&self, _name: String, _client_urls: Vec<String>) -> Result<(), KvError> {
        Err(not_a_member())
    }

    /// Gives the lead to another voter; returns when it has it. `NotLeader`, `BadTransferee`, `TransferTimeout`.
    pub async fn transfer_leader(&self, _to: u64) -> Result<(), KvError> {
        Err(not_a_member())
    }
}
