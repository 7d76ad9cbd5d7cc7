//! Streams of messages: JSON values one after the other become a gRPC request's body, and a gRPC answer's body becomes lines of JSON. Holds at most one
//! message each way.

use std::convert::Infallible;

use bytes::{Buf, Bytes, BytesMut};
use http::Response;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use tonic::body::Body;
use tonic::{Code, Status};

use super::schema::Message;
use super::{FRAME_HEADER_BYTES, frame, http_status, json, success, too_large, unreadable, wrong};

/// What the client sends.
pub struct Input {
    body: Incoming,
    buffer: BytesMut,
    message: &'static Message,
    limit: usize,
    ended: bool,
}

impl Input {
    pub fn new(body: Incoming, message: &'static Message, limit: usize) -> Self {
        Self { body, buffer: BytesMut::new(), message, limit, ended: false }
    }

    /// Waits for the first message, which may be wrong, and gives the rest as it comes. What is wrong later ends the stream, as etcd does.
    pub async fn into_body(mut self) -> Result<Body, Status> {
        let first = self.next().await?;
        let rest = futures::stream::unfold((Some(first), self), |(first, mut input)| async {
            let frame = match first {
                Some(first) => first?,
                None => input.next().await.unwrap_or_else(|status| {
                    tracing::debug!(reason = status.message(), "a stream of requests ends");
                    None
                })?,
            };
            Some((Ok::<_, Infallible>(Frame::data(frame)), (None, input)))
        });
        Ok(Body::new(StreamBody::new(rest)))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            let mut values = serde_json::Deserializer::from_slice(&self.buffer).into_iter::<serde_json::Value>();
            match values.next() {
                Some(Ok(value)) => {
                    let length = values.byte_offset();
                    self.buffer.advance(length);
                    return frame(self.message, &value).map(Some).map_err(Status::unknown);
                }
                Some(Err(error)) if self.ended || !error.is_eof() => return Err(Status::unknown(wrong(&error))),
                None if self.ended => return Ok(None),
                Some(Err(_)) | None => self.fill().await?,
            }
        }
    }

    async fn fill(&mut self) -> Result<(), Status> {
        match self.body.frame().await {
            None => self.ended = true,
            Some(frame) => {
                if let Ok(data) = frame.map_err(|error| unreadable(&error, self.limit))?.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
                if self.buffer.len() / 2 > self.limit {
                    return Err(too_large(self.limit));
                }
            }
        }
        Ok(())
    }
}

/// What the service answers.
pub struct Output {
    body: Body,
    buffer: BytesMut,
    message: &'static Message,
    ended: bool,
}

/// A line for the client; an error is the last one.
struct Line {
    text: Bytes,
    code: Code,
}

impl Output {
    pub fn new(body: Body, message: &'static Message) -> Self {
        Self { body, buffer: BytesMut::new(), message, ended: false }
    }

    /// Waits for the first message, since an error before it decides the status.
    pub async fn into_response(mut self) -> Response<Body> {
        let first = self.next().await;
        let code = first.as_ref().map_or(Code::Ok, |line| line.code);
        let lines = futures::stream::unfold((first, self), |(line, mut output)| async {
            let text = match line {
                Some(line) => line.text,
                None => output.next().await?.text,
            };
            Some((Ok::<_, Infallible>(Frame::data(text)), (None, output)))
        });
        let mut response = success(Body::new(StreamBody::new(lines)));
        *response.status_mut() = http_status(code);
        response
    }

    async fn next(&mut self) -> Option<Line> {
        loop {
            if self.ended {
                return None;
            }
            if let Some(message) = self.take_message() {
                let mut text = b"{\"result\":".to_vec();
                return Some(match json::to_json(self.message, &message, &mut text) {
                    Ok(()) => {
                        text.extend_from_slice(b"}\n");
                        Line { text: text.into(), code: Code::Ok }
                    }
                    Err(error) => self.fail(&Status::internal(error.to_string())),
                });
            }
            match self.body.frame().await {
                None => self.ended = true,
                Some(Err(status)) => return Some(self.fail(&status)),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.buffer.extend_from_slice(&data),
                    Err(frame) => {
                        let status = frame.trailers_ref().and_then(Status::from_header_map);
                        if let Some(status) = status.filter(|status| status.code() != Code::Ok) {
                            return Some(self.fail(&status));
                        }
                    }
                },
            }
        }
    }

    fn take_message(&mut self) -> Option<Bytes> {
        let length = self.buffer.get(1..FRAME_HEADER_BYTES)?.try_into().map(u32::from_be_bytes).ok()?;
        let length = usize::try_from(length).ok()?;
        if self.buffer.len() - FRAME_HEADER_BYTES < length {
            return None;
        }
        self.buffer.advance(FRAME_HEADER_BYTES);
        Some(self.buffer.split_to(length).freeze())
    }

    /// grpc-gateway's StreamError.
    fn fail(&mut self, status: &Status) -> Line {
        self.ended = true;
        let (code, http) = (i32::from(status.code()), http_status(status.code()));
        let message = serde_json::Value::from(status.message());
        let reason = http.canonical_reason().unwrap_or_default();
        let text = format!(
            "{{\"error\":{{\"grpc_code\":{code},\"http_code\":{},\"message\":{message},\"http_status\":\"{reason}\"}}}}\n",
            http.as_u16()
        );
        Line { text: text.into(), code: status.code() }
    }
}
