//! HTTP and TLS: bodies, negotiation, responses, the listener. Must not know kinds.

pub mod body;
pub mod negotiate;
pub mod query;
pub mod response;
pub mod tls;
