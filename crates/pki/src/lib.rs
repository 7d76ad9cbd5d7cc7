//! Certificates and keys on disk: cluster CAs, leaf certificates, service-account keys and their tokens' signatures, kubeconfig files,
//! TLS configurations. Must not talk to a network.

pub mod authority;
pub mod certificate;
pub mod files;
pub mod jws;
pub mod key;
pub mod kubeconfig;
pub mod layout;
pub mod tls;
pub mod verify;

use std::path::{Path, PathBuf};

pub use authority::{Authority, Leaf};
pub use certificate::Certificate;
pub use key::PrivateKey;
pub use kubeconfig::Kubeconfig;

/// What can be wrong with a key, a certificate or a file of them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: Box<Error> },
    #[error("not a private key that can be used: {0}")]
    Key(String),
    #[error("not a certificate that can be used: {0}")]
    Certificate(String),
    #[error("cannot sign a certificate: {0}")]
    Sign(String),
    #[error("certificate {subject:?} is not valid before {not_before}, and it is {now}: is the clock right?")]
    NotYetValid { subject: String, not_before: jiff::Timestamp, now: jiff::Timestamp },
    #[error("certificate {subject:?} expired at {not_after}, and it is {now}: renew it, or correct the clock")]
    Expired { subject: String, not_after: jiff::Timestamp, now: jiff::Timestamp },
    #[error("the certificate does not belong to the private key")]
    Mismatch,
    #[error("the CA certificate {0:?} is there without its key: supply the key, or every certificate that it should have signed")]
    CaKeyMissing(String),
    #[error("not a kubeconfig: {0}")]
    Kubeconfig(String),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Says which file the problem is in.
    pub fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Io { .. } | Self::File { .. } => self,
            other => Self::File { path: path.to_owned(), source: Box::new(other) },
        }
    }
}
