//! What every component needs and that knows nothing of Kubernetes: the clock, backoff, supervised tasks, log set-up.

pub mod backoff;
pub mod clock;
pub mod duration;
pub mod logging;
pub mod tasks;

pub use backoff::Backoff;
pub use tasks::Tasks;
