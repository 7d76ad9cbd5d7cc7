//! kube-proxy in nftables mode (KEP-3866): Services and their endpoints become a table of the packet filter.
//!
//! `model` reads objects, `compile` makes a ruleset value of them, `ruleset` turns the difference of two values into one nft
//! transaction, `service` is the loop around them. Must never touch a table that is not its own, nor write to the API.

pub mod compile;
pub mod flows;
pub mod health;
pub mod metrics;
pub mod model;
pub mod options;
pub mod ruleset;
pub mod service;

pub use options::{Config, Options};
pub use service::{Error, Proxy, cleanup};
