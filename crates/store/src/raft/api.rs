//! What an engine can do as a member of a cluster, beside being a `Kv`. Decides nothing: every call becomes an input of the member's loop.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::cluster::MemberCommand;
use super::member::Input;
use super::questions::{Question, decode_answer, encode_answer};
use super::reads::{LeaseAsk, Read};
use super::recover::{Recovered, recover};
use super::serve::{Handle, Loop};
use super::{Member, MemberChange, MemberOptions, RaftStatus, Role, Transport};
use crate::auth::Identity;
use crate::commit::Sink;
use crate::disk::{Files, Folder, Lock};
use crate::engine::Engine;
use crate::keeper::Keeper;
use crate::kv::{KvError, LeaseStatus};
use crate::options::EngineOptions;
use crate::recovery;
use crate::state::Command;

fn not_a_member() -> KvError {
    KvError::Unavailable("this store is not a member of a cluster".into())
}

impl Engine {
    /// Opens the store in `dir` as a member, or makes it as `member.bootstrap` says. Blocks while it reads the files. Call it inside a tokio runtime.
    ///
    /// Beside what `open` refuses: `Corrupt` where the folder is another member's or another cluster's, or holds a store that is no member.
    ///
    /// The transport is used from here on, before this returns: it must hold messages of peers back (or drop them) until it has the engine.
    pub fn open_member(
        dir: &Path,
        options: EngineOptions,
        member: MemberOptions,
        transport: Arc<dyn Transport>,
        tasks: &base::Tasks,
    ) -> Result<Self, KvError> {
        let cannot = |error: std::io::Error| KvError::Unavailable(format!("the data folder {} cannot be used: {error}", dir.display()));
        let files: Arc<dyn Files> = Arc::new(Folder::open(dir).map_err(cannot)?);
        let lock = Lock::take(dir)?;
        let log_files = Arc::new(Folder::open(&dir.join("wal")).map_err(cannot)?);
        let Recovered { replica, keeper } = recover(files.clone(), log_files, &options, member, transport, 0)?;
        let (shared, desk) = (replica.shared.clone(), replica.keeper.clone());
        let (work, handle) = Loop::new(replica, files);
        recovery::spawn("store-member", "store member", tasks, move |healthy| {
            tokio::runtime::Handle::current().block_on(work.run(healthy));
        })?;
        recovery::spawn("store-keeper", "store keeper", tasks, move |healthy| Keeper::run(keeper, &desk, healthy, lock))?;
        Ok(Self::start_member(shared, Sink::Member(handle), options))
    }

    /// Whether `dir` holds a member already, so that `MemberOptions::bootstrap` is not looked at.
    ///
    /// Whoever starts a member with `Bootstrap::New` in a folder where this is false must first ask the others of the list whether they know it as
    /// started: then its data was lost, and it must be removed and added as a new member.
    pub fn is_member_folder(dir: &Path) -> Result<bool, KvError> {
        let log = dir.join("wal");
        let cannot = |error: std::io::Error| KvError::Unavailable(format!("the data folder {} cannot be read: {error}", log.display()));
        if !log.is_dir() {
            return Ok(false);
        }
        let names = Folder::open(&log).and_then(|files| files.list()).map_err(cannot)?;
        Ok(names.iter().any(|name| name.ends_with(".wal")))
    }

    fn member_handle(&self) -> Result<&Handle, KvError> {
        self.sink().member().ok_or_else(not_a_member)
    }

    /// What a peer sent through `Transport::send`. Never blocks; drops the message where too many wait.
    pub fn receive(&self, _from: u64, message: Bytes) {
        if let Some(member) = self.sink().member() {
            member.tell(Input::Received(message));
        }
    }

    /// A message to `peer` could not be sent.
    pub fn unreachable(&self, peer: u64) {
        if let Some(member) = self.sink().member() {
            member.tell(Input::Unreachable(peer));
        }
    }

    /// What a peer sent through `Transport::send_snapshot`, as it comes; returns when the state is installed or was not needed. Blocks: call it on a
    /// thread that may (`spawn_blocking`).
    pub fn receive_snapshot(&self, from: u64, chunks: &mut dyn Iterator<Item = Result<Bytes, KvError>>) -> Result<(), KvError> {
        let member = self.member_handle()?;
        super::snapshots::receive_for(member, from, chunks)
    }

    /// A snapshot that was given to `Transport::send_snapshot` was received whole, or was not. Must be told, or the other member waits for ever.
    pub fn snapshot_sent(&self, to: u64, ok: bool) {
        if let Some(member) = self.sink().member() {
            member.tell(Input::SnapshotSent { to, ok });
        }
    }

    /// Answers what a peer asked through `Transport::ask`. Errors of the question are in the answer.
    pub async fn answer(&self, _from: u64, question: Bytes) -> Result<Bytes, KvError> {
        let member = self.member_handle()?;
        let question =
            Question::decode(&question).map_err(|error| KvError::Internal(format!("a question that cannot be understood: {error}")))?;
        let answer = match question {
            Question::Lease(ask) => member.request(|reply| Input::Read(Read::Lease(ask, reply))).await.map(Some),
            Question::Promote(id) => {
                let changes = vec![MemberChange::Promote(id)];
                member.request(|reply| Input::Change { changes, reply }).await.map(|_| None)
            }
        };
        Ok(encode_answer(&answer))
    }

    /// Where the member stands; `None` for a store that is no member.
    pub fn raft_status(&self) -> Option<RaftStatus> {
        Some(self.sink().member()?.board.status())
    }

    /// Changes whenever leader, role, `is_learner` or `stopped` change.
    pub fn raft_changes(&self) -> Option<tokio::sync::watch::Receiver<RaftStatus>> {
        Some(self.sink().member()?.board.changes())
    }

    /// Resolves when everything that was acknowledged anywhere in the cluster before the call is applied here: linearizable reads of this member's state
    /// may follow. `Timeout`, `TimeoutLeaderFailed`. At once in a store that is no member.
    pub async fn read_barrier(&self) -> Result<(), KvError> {
        match self.sink().member() {
            Some(member) => member.read_barrier().await,
            None => Ok(()),
        }
    }

    /// The members that this one knows, by id; empty for a store that is no member. Call `read_barrier` first for a linearizable list.
    pub fn members(&self) -> Vec<Member> {
        self.shared().state.read().cluster.list()
    }

    /// Whether a member of this id was in the cluster and was removed: its messages must be refused, and it be told.
    pub fn is_removed(&self, id: u64) -> bool {
        self.shared().state.read().cluster.removed.contains(&id)
    }

    /// Another member says that this one was removed. It stops.
    pub fn told_removed(&self) {
        if let Some(member) = self.sink().member() {
            member.tell(Input::ToldRemoved);
        }
    }

    /// Adds a member (a learner where it says so), which the caller gave an id. Returns the members after it.
    /// `MemberExists`, `PeerUrlExists`, `TooManyLearners`, `NotEnoughStarted`, `UnhealthyCluster`.
    pub async fn add_member(&self, member: Member) -> Result<Vec<Member>, KvError> {
        self.change_members(vec![MemberChange::Add(member)]).await
    }

    /// Makes a learner a voter. Asks the leader. `MemberNotFound`, `MemberNotLearner`, `LearnerNotReady`, `NotEnoughStarted`.
    pub async fn promote_member(&self, id: u64) -> Result<Vec<Member>, KvError> {
        self.may_change_members().await?;
        self.ask_leader(&Question::Promote(id)).await?;
        // What the leader did is to be seen here.
        self.read_barrier().await?;
        Ok(self.members())
    }

    /// `MemberNotFound`, `NotEnoughStarted`, `UnhealthyCluster`.
    pub async fn remove_member(&self, id: u64) -> Result<Vec<Member>, KvError> {
        self.change_members(vec![MemberChange::Remove(id)]).await
    }

    /// Several changes at once, by joint consensus: all of them happen or none. One with a promotion only on the leader: `NotLeader`.
    pub async fn change_members(&self, changes: Vec<MemberChange>) -> Result<Vec<Member>, KvError> {
        self.may_change_members().await?;
        self.member_handle()?.request(|reply| Input::Change { changes, reply }).await?;
        Ok(self.members())
    }

    /// Changes where peers find a member. `MemberNotFound`, `PeerUrlExists`.
    pub async fn update_member(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>, KvError> {
        self.may_change_members().await?;
        self.as_server(MemberCommand::Update { id, peer_urls }).await?;
        Ok(self.members())
    }

    /// This member says its attributes to all. Tries again until it is done or the store is closed.
    pub async fn publish(&self, name: String, client_urls: Vec<String>) -> Result<(), KvError> {
        let id = self.member_handle()?.options.member_id;
        loop {
            match self.as_server(MemberCommand::Publish { id, name: name.clone(), client_urls: client_urls.clone() }).await {
                Err(error @ (KvError::Timeout | KvError::TimeoutLeaderFailed | KvError::TooManyRequests)) => {
                    tracing::warn!(%error, "this member could not publish its name and client URLs, trying again");
                }
                // A member that joins may not know of itself yet.
                Err(KvError::MemberNotFound) => tokio::time::sleep(self.member_handle()?.options.election_timeout).await,
                done => return done,
            }
        }
    }

    /// Gives the lead to another voter; returns when it has it. `NotLeader`, `BadTransferee`, `TransferTimeout`.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), KvError> {
        self.member_handle()?.request(|reply| Input::Transfer { to, reply }).await
    }

    async fn may_change_members(&self) -> Result<(), KvError> {
        self.member_handle()?.check_open()?;
        // Nobody looks again later, and whoever does not lead may be behind: authentication may be on already, or a role be taken away.
        if self.raft_status().is_some_and(|status| status.role != Role::Leader) {
            self.read_barrier().await?;
        }
        let state = self.shared().state.read();
        Ok(state.auth.check_root(&self.caller(&state)?)?)
    }

    async fn as_server(&self, command: MemberCommand) -> Result<(), KvError> {
        self.member_handle()?;
        let mut engine = self.clone();
        engine.identity = Identity::Server;
        engine.propose(Command::Member(command)).await.map(|_| ())
    }

    /// What the leader's leases say, wherever it is.
    pub(crate) async fn ask_lease(&self, ask: LeaseAsk) -> Result<LeaseStatus, KvError> {
        let answer = self.ask_leader(&Question::Lease(ask)).await?;
        answer.ok_or_else(|| KvError::Internal("the leader answered another question".into()))
    }

    async fn ask_leader(&self, question: &Question) -> Result<Option<LeaseStatus>, KvError> {
        let member = self.member_handle()?;
        let mut changes = member.board.changes();
        let until = base::clock::monotonic() + member.options.request_timeout();
        loop {
            member.check_open()?;
            let leader = member.board.status().leader;
            let answer = if leader == 0 {
                Err(KvError::NoLeader)
            } else if leader == member.options.member_id {
                self.answer(leader, question.encode()).await.and_then(|answer| decode_answer(&answer))
            } else {
                member.transport.ask(leader, question.encode()).await.and_then(|answer| decode_answer(&answer))
            };
            match answer {
                Err(KvError::NoLeader | KvError::NotLeader | KvError::Unavailable(_)) => {}
                answer => return answer,
            }
            if base::clock::monotonic() >= until {
                return Err(KvError::Timeout);
            }
            // The leader is found out soon, or has not heard of it yet itself.
            let _ = tokio::time::timeout(member.options.heartbeat, changes.changed()).await;
        }
    }
}

/// For tests and simulations.
#[cfg(test)]
impl Engine {
    /// A member on any disk, whose loop and keeper somebody else drives.
    pub(crate) fn member_on(
        files: Arc<dyn Files>,
        log_files: Arc<dyn Files>,
        options: EngineOptions,
        member: MemberOptions,
        transport: Arc<dyn Transport>,
        now_ms: u64,
    ) -> Result<(Self, Loop, Arc<parking_lot::Mutex<Keeper>>), KvError> {
        let Recovered { replica, keeper } = recover(files.clone(), log_files, &options, member, transport, now_ms)?;
        let shared = replica.shared.clone();
        let (work, handle) = Loop::new(replica, files);
        Ok((Self::start_member(shared, Sink::Member(handle), options), work, keeper))
    }
}
