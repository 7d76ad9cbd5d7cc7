//! What several controllers share about pods, owners and templates. Pure, except for `batch`.

pub mod batch;
pub mod discovery;
pub mod owners;
pub mod placement;
pub mod pods;
pub mod services;
pub mod taints;
pub mod template;
