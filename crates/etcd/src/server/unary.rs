//! gRPC calls of one message each way, for the methods that are called most: one read of the body, one decoded message, one frame and trailers back. What
//! it does not know (compression) it leaves to tonic.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::MetadataMap;

use super::listener::GrpcBody;

const ENCODING: &str = "grpc-encoding";
const STATUS: &str = "grpc-status";
/// What stands before each message: whether it is compressed, and its length.
const HEADER_BYTES: usize = 5;

/// Whether a request can be answered here.
pub fn is_plain<B>(request: &Request<B>) -> bool {
    !request.headers().contains_key(ENCODING)
}

/// Answers a request by `call`; a message above `limit` bytes is refused in the words of gRPC in Go.
pub async fn serve<Q, A, F>(request: Request<GrpcBody>, limit: usize, call: impl FnOnce(tonic::Request<Q>) -> F) -> Response<Body>
where
    Q: Message + Default,
    A: Message,
    F: Future<Output = Result<tonic::Response<A>, Status>>,
{
    let (parts, body) = request.into_parts();
    let message = match read(body, limit).await {
        Ok(message) => message,
        Err(status) => return status.into_http(),
    };
    let request = tonic::Request::from_parts(MetadataMap::from_headers(parts.headers), parts.extensions, message);
    match call(request).await {
        Ok(response) => {
            let (_, answer, _) = response.into_parts();
            let mut response = Response::new(Body::new(Answer::new(&answer)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response
        }
        Err(status) => status.into_http(),
    }
}

async fn read<Q: Message + Default>(mut body: GrpcBody, limit: usize) -> Result<Q, Status> {
    let mut data = Bytes::new();
    while !http_body::Body::is_end_stream(&body)
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(|error| Status::cancelled(format!("the request broke off: {error}")))?;
        let Ok(part) = frame.into_data() else { continue };
        // Most requests come in one part, which then is not copied.
        data = if data.is_empty() { part } else { [data, part].concat().into() };
        if data.len() > limit + HEADER_BYTES {
            return Err(too_large(limit));
        }
    }
    let Some((header, _)) = data.split_first_chunk::<HEADER_BYTES>() else {
        return Err(Status::internal("the request has no message"));
    };
    if header[0] != 0 {
        return Err(Status::internal("grpc: compressed flag set with identity or empty encoding"));
    }
    let length = u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize;
    if length > limit {
        return Err(too_large(limit));
    }
    if data.len() != HEADER_BYTES + length {
        return Err(Status::internal("the request has not one whole message"));
    }
    Q::decode(data.slice(HEADER_BYTES..)).map_err(|error| Status::internal(error.to_string()))
}

fn too_large(limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({limit})"))
}

/// One message, then trailers that say it went well.
struct Answer {
    data: Option<Bytes>,
    is_over: bool,
}

impl Answer {
    fn new(message: &impl Message) -> Self {
        let length = message.encoded_len();
        let mut data = BytesMut::with_capacity(HEADER_BYTES + length);
        data.put_u8(0);
        data.put_u32(u32::try_from(length).expect("an answer has less than 4 GiB"));
        message.encode(&mut data).expect("there is room for just this message");
        Self { data: Some(data.freeze()), is_over: false }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if let Some(data) = this.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if std::mem::replace(&mut this.is_over, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(HeaderName::from_static(STATUS), HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.is_over
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{Either, Full};

    use super::*;
    use crate::pb;

    async fn answer(body: Vec<u8>, limit: usize) -> (Option<pb::PutRequest>, Option<Status>) {
        let request = Request::new(Either::Right(Body::new(Full::new(Bytes::from(body)))));
        let response =
            serve(request, limit, |request: tonic::Request<pb::PutRequest>| async { Ok(tonic::Response::new(request.into_inner())) });
        let response = response.await;
        if let Some(status) = Status::from_header_map(response.headers()) {
            return (None, Some(status));
        }
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()[STATUS], "0");
        (Some(pb::PutRequest::decode(&collected.to_bytes()[HEADER_BYTES..]).unwrap()), None)
    }

    fn framed(flag: u8, length: u32, message: &[u8]) -> Vec<u8> {
        [&[flag][..], &length.to_be_bytes(), message].concat()
    }

    #[tokio::test]
    async fn one_message_each_way() {
        let put = pb::PutRequest { key: "k".into(), value: vec![7; 300].into(), ..Default::default() };
        let message = put.encode_to_vec();
        let length = message.len() as u32;
        assert_eq!(answer(framed(0, length, &message), 400).await.0, Some(put));
        let code = async |body, limit| answer(body, limit).await.1.unwrap().code();
        assert_eq!(code(framed(0, length, &message), 100).await, tonic::Code::ResourceExhausted);
        for body in [framed(1, length, &message), framed(0, length + 1, &message), framed(0, 2, &[0xff, 0xff]), vec![], vec![0, 0]] {
            assert_eq!(code(body, 400).await, tonic::Code::Internal);
        }
    }
}
