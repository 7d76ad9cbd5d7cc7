//! This machine as a Node object: what it is, how it is, that it lives.

pub mod info;
pub mod lease;
pub mod report;
pub mod status;
