//! The versioned key-value store with etcd's semantics, behind one trait. Must not know Kubernetes kinds.
//!
//! `kv` is the contract. `Engine` is the embedded store: `state` (with `index`, `lease`, `range`, `check`) is a pure state machine, `codec` its
//! commands as bytes, `commit` the one writer, `watch` the fan-out.

mod check;
mod codec;
mod commit;
mod engine;
mod index;
pub mod kv;
mod lease;
mod options;
mod range;
mod state;
pub mod suite;
mod watch;

pub use engine::Engine;
pub use kv::*;
pub use options::EngineOptions;
