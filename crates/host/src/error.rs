//! Why the kernel, or a program that talks to it, refused. Must never lose the cause.

use std::io;

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel said no. `what` is what was tried, in words.
    #[error("{what}: {source}{}", remedy(source))]
    Os { what: String, source: io::Error },
    #[error("{program} is not installed or not in PATH; on Debian: apt-get install {package}")]
    MissingProgram { program: &'static str, package: &'static str },
    /// A program ran and failed; `message` is the first lines of what it wrote to its standard error.
    #[error("{program} failed: {message}{}", if message.contains("Operation not permitted") { NOT_ROOT } else { "" })]
    Program { program: &'static str, message: String },
    #[error("{program} wrote something that is not JSON: {source}")]
    BadJson { program: &'static str, source: serde_json::Error },
    #[error("network interface {0} does not exist")]
    NoLink(String),
}

const NOT_ROOT: &str = " (this needs root or CAP_NET_ADMIN)";

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => NOT_ROOT,
        _ => "",
    }
}

impl Error {
    pub fn os(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Os { what: what.into(), source: source.into() }
    }

    /// The errno behind the error, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Os { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}
