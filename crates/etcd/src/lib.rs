//! etcd's v3 gRPC protocol, both ends: `server` puts it over the embedded store, `EtcdKv` is a store somewhere else. Must decide nothing about keys or
//! revisions: that is the store's.

mod bootstrap;
mod client;
mod convert;
mod errors;
#[cfg(any(test, feature = "fuzz"))]
#[doc(hidden)]
pub mod fuzz;
mod options;
pub mod pb;
mod peer;
mod server;
pub mod snapshot;

pub use bootstrap::{SrvError, client_urls};
pub use client::{ClientTls as EtcdTls, ConnectError, Dial, EtcdKv, Transport};
pub use options::{Options, OptionsError};
pub use server::{Error, Server};

/// The version of etcd whose behaviour this is.
pub const ETCD_VERSION: &str = "3.5.17";
