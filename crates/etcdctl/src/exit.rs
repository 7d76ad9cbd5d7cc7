//! How a command ends badly: upstream's exit codes (pkg/cobrautl/error.go) and the text on standard error. Prints nothing itself.

use tonic::{Code, Status};

pub const ERROR: u8 = 1;
pub const BAD_CONNECTION: u8 = 2;
/// What was read from standard input makes no sense.
pub const INVALID_INPUT: u8 = 3;
/// A known flag with a value that is not supported.
pub const BAD_FEATURE: u8 = 4;
pub const INTERRUPTED: u8 = 5;
pub const BAD_ARGS: u8 = 128;

/// What Go's clients say when time has run out.
pub const DEADLINE: &str = "context deadline exceeded";

/// A code, and the text after `Error: `; an empty text prints nothing, because the command has already said what is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    pub text: String,
}

pub type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    pub fn new(code: u8, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self::new(ERROR, text)
    }

    pub fn bad_args(text: impl Into<String>) -> Self {
        Self::new(BAD_ARGS, text)
    }

    /// Everything is said already.
    pub fn silent(code: u8) -> Self {
        Self::new(code, "")
    }

    pub fn with_code(self, code: u8) -> Self {
        Self { code, ..self }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::error(rpc_text(&status))
    }
}

/// etcd's own errors are their text; others are shown as gRPC shows them in Go.
pub fn rpc_text(status: &Status) -> String {
    let text = status.message();
    // None of the errors that upstream's client knows has that code.
    if text.starts_with("etcdserver: ") && status.code() != Code::Unimplemented {
        return text.to_owned();
    }
    match status.code() {
        Code::DeadlineExceeded => DEADLINE.to_owned(),
        code => format!("rpc error: code = {code:?} desc = {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_answers() {
        let check = |status: Status, expected: &str| assert_eq!(Failure::from(status), Failure::error(expected));
        check(Status::not_found("etcdserver: requested lease not found"), "etcdserver: requested lease not found");
        check(Status::unimplemented("etcdserver: no such thing"), "rpc error: code = Unimplemented desc = etcdserver: no such thing");
        check(Status::deadline_exceeded("late"), "context deadline exceeded");
    }
}
