//! kube-scheduler: chooses a node for each pod that has none. `framework` names the extension points, `plugins` has a file per plugin, `state` is the
//! cluster as the plugins see it, `cycle` is one decision as a pure function of it, `scheduler` runs it against the API.

pub mod config;
pub mod cycle;
pub mod framework;
mod outcome;
pub mod plugins;
mod scheduler;
mod server;
pub mod state;

pub use config::Options;
pub use scheduler::{Scheduler, SchedulerError};
