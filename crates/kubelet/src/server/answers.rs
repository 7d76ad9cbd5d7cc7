//! The shapes of answers: text, JSON, a stream of bytes.

use std::convert::Infallible;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

pub type Body = UnsyncBoxBody<Bytes, Infallible>;

fn with_type(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

pub fn text(status: StatusCode, text: &str) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed_unsync())
}

pub fn json(value: &impl serde::Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_type(StatusCode::OK, "application/json", Full::new(Bytes::from(bytes)).boxed_unsync()),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

/// Text in Prometheus' format.
pub fn metrics(body: String) -> Response<Body> {
    with_type(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Full::new(Bytes::from(body)).boxed_unsync())
}

/// What arrives on the channel, until it closes.
pub fn stream(from: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = ReceiverStream::new(from).map(|bytes| Ok(Frame::data(bytes)));
    with_type(StatusCode::OK, "text/plain", BodyExt::boxed_unsync(StreamBody::new(frames)))
}
