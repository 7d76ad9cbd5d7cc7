//! Responses in upstream's shapes: Status, plain texts, 404 pages.

use api::{Reason, StatusError};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use http::{Response, StatusCode};

use super::body::Body;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const CACHE: (HeaderName, HeaderValue) = (http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));

pub fn respond(code: u16, content_type: HeaderValue, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response.headers_mut().insert(CACHE.0, CACHE.1);
    response
}

pub fn json(code: u16, body: impl Into<Body>) -> Response<Body> {
    respond(code, JSON, body)
}

pub fn text(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = respond(code, TEXT, body.into());
    response.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// What Go's mux answers for a path that nobody serves.
pub fn no_such_page() -> Response<Body> {
    text(404, "404 page not found\n")
}

/// The bytes of a Status.
pub fn status_json(error: &StatusError) -> Bytes {
    serde_json::to_vec(&error.0).expect("a Status serializes").into()
}

pub fn status(error: &StatusError) -> Response<Body> {
    let mut response = json(error.code(), status_json(error));
    let after = error.0.details.as_ref().and_then(|d| d.retry_after_seconds).filter(|s| *s > 0);
    if let Some(seconds) = after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

pub fn method_not_allowed() -> StatusError {
    StatusError::new(Reason::MethodNotAllowed, "the server does not allow this method on the requested resource")
}

pub fn not_acceptable() -> StatusError {
    let message = "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf";
    StatusError::new(Reason::NotAcceptable, message)
}

/// `299 - "text"` (apimachinery/pkg/util/net/http.go).
pub fn warning(text: &str) -> Option<HeaderValue> {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
    HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()).ok()
}
