//! The health and metrics endpoints of components that serve nothing else: in the clear (`plain`), or over TLS with the API server asked who may read
//! metrics (`secure`).

pub mod plain;
pub mod secure;

pub use secure::Secure;
