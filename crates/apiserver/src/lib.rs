//! kube-apiserver: the one pipeline over the table of kinds, the watch cache, discovery, proxying. Must not hold rules of single kinds: these
//! are hooks of the table's rows.

pub mod admission;
pub mod auth;
mod cache;
mod compactor;
mod discovery;
mod effects;
mod metrics;
mod options;
mod pipeline;
mod pod_refs;
mod proxying;
mod server;
mod storage;
mod table;
mod transport;

pub use cache::Objects;
pub use options::Options;
pub use server::{ApiServer, Service, StartError};
pub use transport::body::{Body, BoxError};
