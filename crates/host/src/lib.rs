//! Everything that touches the Linux kernel: links, addresses, routes, packet filters, sysctls, namespaces.
//!
//! Decides nothing: callers say what they want as values, this crate does it or answers with an error that names the
//! thing that failed, the cause and, where there is one, the remedy. All calls block (a netlink request is answered within the
//! system call); from async code the slow ones, those that start `nft` or `conntrack`, belong on a blocking thread.

pub mod cgroups;
pub mod error;
pub mod fake;
pub mod linux;
pub mod mounts;
pub mod net;
mod netlink;
pub mod netns;
#[cfg(feature = "scratch")]
pub mod scratch;

pub use error::{Error, Result};
pub use fake::FakeNet;
pub use linux::LinuxNet;
pub use net::{Address, Change, Flows, Link, LinkKind, Mac, Net, Route};
