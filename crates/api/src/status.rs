//! The one error that crosses the API: a Status, built by reason (apimachinery/pkg/api/errors).

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Status, StatusCause, StatusDetails};

use crate::FieldErrors;

/// `Status.reason`, with the HTTP code that goes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    BadRequest,
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Expired,
    Invalid,
    ServerTimeout,
    Timeout,
    TooManyRequests,
    MethodNotAllowed,
    NotAcceptable,
    UnsupportedMediaType,
    RequestEntityTooLarge,
    InternalError,
    ServiceUnavailable,
}

impl Reason {
    pub fn code(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Unauthorized => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::AlreadyExists | Self::Conflict => 409,
            Self::Gone | Self::Expired => 410,
            Self::RequestEntityTooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooManyRequests => 429,
            Self::InternalError => 500,
            Self::ServiceUnavailable => 503,
            Self::ServerTimeout | Self::Timeout => 504,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "BadRequest",
            Self::Unauthorized => "Unauthorized",
            Self::Forbidden => "Forbidden",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Gone => "Gone",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::ServerTimeout => "ServerTimeout",
            Self::Timeout => "Timeout",
            Self::TooManyRequests => "TooManyRequests",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::NotAcceptable => "NotAcceptable",
            Self::UnsupportedMediaType => "UnsupportedMediaType",
            Self::RequestEntityTooLarge => "RequestEntityTooLarge",
            Self::InternalError => "InternalError",
            Self::ServiceUnavailable => "ServiceUnavailable",
        }
    }
}

/// A failed request as its caller sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusError(pub Box<Status>);

impl StatusError {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Status {
            status: Some("Failure".into()),
            message: Some(message.into()),
            reason: Some(reason.as_str().into()),
            code: Some(i32::from(reason.code())),
            ..Status::default()
        }))
    }

    /// `pods "x" not found`. `resource` is qualified as upstream does: `deployments.apps`.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(group, resource));
        Self::new(Reason::NotFound, message).with_object(group, resource, name)
    }

    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(group, resource));
        Self::new(Reason::AlreadyExists, message).with_object(group, resource, name)
    }

    pub fn conflict(group: &str, resource: &str, name: &str, cause: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {cause}", qualified(group, resource));
        Self::new(Reason::Conflict, message).with_object(group, resource, name)
    }

    /// The caller may not do this. `name` may be empty.
    pub fn forbidden(group: &str, resource: &str, name: &str, cause: &str) -> Self {
        let object = if name.is_empty() { String::new() } else { format!(" {name:?}") };
        let message = format!("{}{object} is forbidden: {cause}", qualified(group, resource));
        Self::new(Reason::Forbidden, message).with_object(group, resource, name)
    }

    /// 422 with a cause per field error, as upstream's `NewInvalid`.
    pub fn invalid(group: &str, kind: &str, name: &str, errors: &FieldErrors) -> Self {
        let texts: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        let list = if texts.len() == 1 { texts[0].clone() } else { format!("[{}]", texts.join(", ")) };
        let mut error = Self::new(Reason::Invalid, format!("{} {name:?} is invalid: {list}", qualified(group, kind)));
        let causes = errors
            .0
            .iter()
            .map(|e| StatusCause {
                field: Some(e.path.to_string()),
                message: Some(e.message.clone()),
                reason: Some(e.kind.reason().into()),
            })
            .collect();
        error = error.with_object(group, kind, name);
        if let Some(details) = &mut error.0.details {
            details.causes = Some(causes);
        }
        error
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(Reason::BadRequest, message)
    }

    pub fn unauthorized() -> Self {
        Self::new(Reason::Unauthorized, "Unauthorized")
    }

    /// `cause` goes to the caller: keep secrets and internals out of it.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(Reason::InternalError, format!("Internal error occurred: {cause}"))
    }

    /// Fills `details.group`, `details.kind`, `details.name`.
    pub fn with_object(mut self, group: &str, kind: &str, name: &str) -> Self {
        let some = |text: &str| if text.is_empty() { None } else { Some(text.to_owned()) };
        let details = self.0.details.get_or_insert_with(StatusDetails::default);
        details.group = some(group);
        details.kind = some(kind);
        details.name = some(name);
        self
    }

    /// Asks the caller to try again after so many seconds.
    pub fn with_retry_after(mut self, seconds: i32) -> Self {
        self.0.details.get_or_insert_with(StatusDetails::default).retry_after_seconds = Some(seconds);
        self
    }

    pub fn code(&self) -> u16 {
        self.0.code.and_then(|code| u16::try_from(code).ok()).unwrap_or(500)
    }

    pub fn is(&self, reason: Reason) -> bool {
        self.0.reason.as_deref() == Some(reason.as_str())
    }

    pub fn message(&self) -> &str {
        self.0.message.as_deref().unwrap_or_default()
    }
}

fn qualified(group: &str, resource: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for StatusError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;

    #[test]
    fn messages_are_upstreams() {
        assert_eq!(StatusError::not_found("apps", "deployments", "x").message(), "deployments.apps \"x\" not found");
        assert_eq!(StatusError::already_exists("", "pods", "x").message(), "pods \"x\" already exists");
        let mut errors = FieldErrors::default();
        errors.required(&Path::new("spec").child("selector"), "");
        let invalid = StatusError::invalid("apps", "Deployment", "web", &errors);
        assert_eq!(invalid.message(), "Deployment.apps \"web\" is invalid: spec.selector: Required value");
        assert_eq!(invalid.code(), 422);
    }
}
