//! The versioned key-value store with etcd's semantics, behind one trait. Must not know Kubernetes kinds.
//!
//! `kv` is the contract. `Engine` is the embedded store: `state` (with `index`, `lease`, `range`, `check`) is a pure state machine, `codec` its
//! commands as bytes, `commit` the one writer with the log (`wal`) before it, `keeper` what makes the log short again (`checkpoint` of `segment`s,
//! compaction), `shelf` where values are, `recovery` the start, `watch` the fan-out, `export` whole stores in and out, `auth` users and what they may
//! do, `alarms`, `stats`. `raft` makes it a member of a cluster: the same state machine, log and checkpoint under Raft. Under the files lies `disk`, which tests replace.

mod alarms;
mod auth;
mod check;
mod checkpoint;
mod codec;
mod commit;
mod disk;
mod engine;
mod export;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod index;
mod keeper;
pub mod kv;
mod lease;
#[cfg(test)]
mod model;
mod options;
mod planted;
mod raft;
mod range;
mod recovery;
mod reply;
mod segment;
mod shelf;
#[cfg(test)]
mod sim;
mod state;
mod stats;
pub mod suite;
mod wal;
mod watch;

pub use alarms::{Alarm, AlarmKind, Alarms};
pub use auth::{
    AuthCommand, AuthError, AuthRecord, AuthStatus, Identity, PasswordHash, Permission, PermissionKind, ROOT as ROOT_USER,
    Role as AuthRole, User as AuthUser,
};
pub use engine::Engine;
pub use export::{History, SnapshotMeta, SnapshotReader, import};
pub use kv::*;
pub use lease::LeaseRecord;
pub use options::EngineOptions;
pub use raft::{
    Answer, Bootstrap, FirstMembers, Member, MemberChange, MemberOptions, MessageKind, OutgoingSnapshot, RaftStatus, Role, Transport,
    import_member,
};
pub use state::{ALARMS_SECTION, AUTH_SECTION, Extras};
pub use stats::{Durations, Stats, stats};
pub use watch::{EngineWatch, SharedChange, SharedResponse, WatchSet};
