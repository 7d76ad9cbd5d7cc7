//! etcd's errors on the wire: a gRPC code and a text each (api/v3rpc/rpctypes/error.go), to and from `KvError`. Decides nothing.

use store::{AuthError, KvError};
use tonic::{Code, Status};

/// Text with which gRPC in Go refuses a message above its limit.
const GRPC_TOO_LARGE: &str = "grpc: received message larger than max";
/// The same from gRPC in Rust.
pub(crate) const TONIC_TOO_LARGE: &str = "decoded message length too large";

/// The errors that are a code and a fixed text both ways.
fn fixed() -> [(KvError, Code); 48] {
    use AuthError::*;
    use KvError::*;
    [
        (FutureRevision, Code::OutOfRange),
        (LeaseNotFound, Code::NotFound),
        (LeaseExists, Code::FailedPrecondition),
        (LeaseTtlTooLarge, Code::OutOfRange),
        (EmptyKey, Code::InvalidArgument),
        (KeyNotFound, Code::InvalidArgument),
        (ValueProvided, Code::InvalidArgument),
        (LeaseProvided, Code::InvalidArgument),
        (DuplicateKey, Code::InvalidArgument),
        (TooManyOps, Code::InvalidArgument),
        (RequestTooLarge, Code::InvalidArgument),
        (NoSpace, Code::ResourceExhausted),
        (NoLeader, Code::Unavailable),
        (Timeout, Code::Unavailable),
        (TimeoutLeaderFailed, Code::Unavailable),
        (LeaderChanged, Code::Unavailable),
        (NotLeader, Code::FailedPrecondition),
        (BadTransferee, Code::FailedPrecondition),
        (TransferTimeout, Code::Unavailable),
        (TooManyRequests, Code::ResourceExhausted),
        (Stopped, Code::Unavailable),
        (Removed, Code::Unavailable),
        (MemberExists, Code::FailedPrecondition),
        (PeerUrlExists, Code::FailedPrecondition),
        (MemberNotFound, Code::NotFound),
        (MemberNotLearner, Code::FailedPrecondition),
        (LearnerNotReady, Code::FailedPrecondition),
        (TooManyLearners, Code::FailedPrecondition),
        (NotEnoughStarted, Code::FailedPrecondition),
        (UnhealthyCluster, Code::Unavailable),
        (Auth(RootUserNotExist), Code::FailedPrecondition),
        (Auth(RootRoleNotExist), Code::FailedPrecondition),
        (Auth(UserAlreadyExist), Code::FailedPrecondition),
        (Auth(UserEmpty), Code::InvalidArgument),
        (Auth(UserNotFound), Code::FailedPrecondition),
        (Auth(RoleAlreadyExist), Code::FailedPrecondition),
        (Auth(RoleNotFound), Code::FailedPrecondition),
        (Auth(RoleEmpty), Code::InvalidArgument),
        (Auth(PermissionNotGiven), Code::InvalidArgument),
        (Auth(AuthFailed), Code::InvalidArgument),
        (Auth(NoPasswordUser), Code::Unknown),
        (Auth(PermissionDenied), Code::PermissionDenied),
        (Auth(RoleNotGranted), Code::FailedPrecondition),
        (Auth(PermissionNotGranted), Code::FailedPrecondition),
        (Auth(AuthNotEnabled), Code::FailedPrecondition),
        (Auth(InvalidAuthToken), Code::Unauthenticated),
        (Auth(InvalidAuthMgmt), Code::InvalidArgument),
        (Auth(AuthOldRevision), Code::InvalidArgument),
    ]
}

/// What a client is told.
pub fn to_status(error: KvError) -> Status {
    let code = match &error {
        KvError::Compacted { .. } => Code::OutOfRange,
        KvError::Unavailable(reason) => {
            tracing::warn!(%reason, "a request found the store unavailable");
            return stopped();
        }
        KvError::Corrupt(reason) => {
            tracing::error!(%reason, "a request found the store damaged");
            return Status::data_loss("etcdserver: corrupt cluster");
        }
        KvError::Internal(reason) => {
            tracing::error!(%reason, "a request failed in the store");
            Code::Unknown
        }
        other => fixed().into_iter().find(|(known, _)| known == other).map_or(Code::Unknown, |(_, code)| code),
    };
    Status::new(code, error.to_string())
}

/// What a server's answer means. A range that is compacted does not say up to where: 0 stands there.
pub fn from_status(status: &Status) -> KvError {
    let text = status.message();
    if text == (KvError::Compacted { compact_revision: 0 }).to_string() {
        return KvError::Compacted { compact_revision: 0 };
    }
    if text.contains(GRPC_TOO_LARGE) || text.contains(TONIC_TOO_LARGE) {
        return KvError::RequestTooLarge;
    }
    if let Some((known, _)) = fixed().into_iter().find(|(known, _)| known.to_string() == text) {
        return known;
    }
    match status.code() {
        Code::Unavailable | Code::Cancelled => KvError::Unavailable(text.to_owned()),
        Code::DeadlineExceeded => KvError::Timeout,
        Code::DataLoss => KvError::Corrupt(text.to_owned()),
        code => KvError::Internal(format!("{text} ({code:?})")),
    }
}

/// An error as gRPC in Go writes it into a text.
pub fn as_go_says(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

pub fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

pub fn invalid_sort() -> Status {
    Status::invalid_argument("etcdserver: invalid sort option")
}

/// For a request that needs more than one member.
pub fn one_member(what: &str) -> Status {
    Status::unimplemented(format!("etcdserver: {what} is not supported: this server runs as a cluster of one member"))
}

pub fn not_for_learners() -> Status {
    Status::unavailable("etcdserver: rpc not supported for learner")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_codes_go_both_ways() {
        for (error, code) in fixed() {
            let status = to_status(error.clone());
            assert_eq!(status.code(), code, "{error:?}");
            assert_eq!(from_status(&status), error);
        }
        let compacted = to_status(KvError::Compacted { compact_revision: 7 });
        assert_eq!((compacted.code(), compacted.message()), (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"));
        assert_eq!(from_status(&compacted), KvError::Compacted { compact_revision: 0 });
        let refused = Status::resource_exhausted("grpc: received message larger than max (4194333 vs. 2097152)");
        assert_eq!(from_status(&refused), KvError::RequestTooLarge);
        assert_eq!(from_status(&Status::unavailable("gone")), KvError::Unavailable("gone".into()));
    }
}
