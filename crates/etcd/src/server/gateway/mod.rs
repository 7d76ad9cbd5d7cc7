//! The JSON gateway: etcd's methods as POSTs of JSON below `/v3/`, as grpc-gateway v1 offers them (docs: api_grpc_gateway). A request becomes a gRPC
//! request to the services in this process, so whatever they check and count they check and count here. Knows messages only by the tables in `schema`.

mod access;
mod json;
mod routes;
pub mod schema;
mod stream;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Either, Limited};
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::{Code, Status};

pub use self::access::Access;
use self::routes::Route;
use self::schema::Message;
use self::stream::{Input, Output};
use super::http::{answer, text};
use super::listener::Router;

/// What a gRPC frame has before its message: no compression, and the length.
const FRAME_HEADER_BYTES: usize = 5;
/// Answers to gRPC's own metadata that a caller may set.
const METADATA_PREFIX: &str = "grpc-metadata-";

/// Whether the path is the gateway's, known or not.
pub fn is_mine(path: &str) -> bool {
    path.starts_with("/v3/") || path.starts_with("/v3beta/")
}

/// Answers one request.
pub async fn serve(router: Router, request: Request<Incoming>) -> Response<Body> {
    let Some(route) = routes::find(request.uri().path()) else { return text(StatusCode::NOT_FOUND, "Not Found\n") };
    if request.method() != Method::POST {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    }
    let (parts, body) = request.into_parts();
    match call(router, &route, &parts.headers, body).await {
        Ok(response) => response,
        Err(status) => refusal(&status),
    }
}

async fn call(router: Router, route: &Route, headers: &HeaderMap, body: Incoming) -> Result<Response<Body>, Status> {
    let limit = router.message_limit();
    let input = if route.method.takes_stream {
        Input::new(body, route.method.input(), limit).into_body().await?
    } else {
        // Base64 makes a message a third longer, and there are names around it.
        let whole = Limited::new(body, limit.saturating_mul(2)).collect().await.map_err(|error| unreadable(error.as_ref(), limit))?;
        let frame = first_frame(route.method.input(), &whole.to_bytes()).map_err(Status::invalid_argument)?;
        Body::new(http_body_util::Full::new(frame))
    };
    let request = grpc_request(route, headers, input)?;
    let response = router.grpc(request).await;
    if let Some(status) = Status::from_header_map(response.headers()).filter(|status| status.code() != Code::Ok) {
        return Err(status);
    }
    if route.method.gives_stream {
        return Ok(Output::new(response.into_body(), route.method.output()).into_response().await);
    }
    let whole = response.into_body().collect().await?;
    if let Some(status) = whole.trailers().and_then(Status::from_header_map).filter(|status| status.code() != Code::Ok) {
        return Err(status);
    }
    let bytes = whole.to_bytes();
    let message = bytes.get(FRAME_HEADER_BYTES..).ok_or_else(|| Status::internal("the service gave no answer"))?;
    let mut text = Vec::new();
    json::to_json(route.method.output(), message, &mut text).map_err(|error| Status::internal(error.to_string()))?;
    Ok(success(Body::new(http_body_util::Full::new(Bytes::from(text)))))
}

/// The request as a gRPC client would send it. The connection's certificate does not come along: as in etcd it names nobody here.
fn grpc_request(route: &Route, headers: &HeaderMap, body: Body) -> Result<Request<Either<Incoming, Body>>, Status> {
    let mut request = Request::new(Either::Right(body));
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let path = format!("/{}/{}", route.service, route.method.name);
    *request.uri_mut() = path.try_into().map_err(|error: http::uri::InvalidUri| Status::internal(error.to_string()))?;
    let metadata = request.headers_mut();
    metadata.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    metadata.insert(header::TE, HeaderValue::from_static("trailers"));
    for (name, value) in headers {
        let name = match name.as_str() {
            "authorization" | "grpc-timeout" => name.clone(),
            other => match other.strip_prefix(METADATA_PREFIX).and_then(|name| name.parse::<HeaderName>().ok()) {
                Some(name) => name,
                None => continue,
            },
        };
        metadata.append(name, value.clone());
    }
    Ok(request)
}

/// The first message in a text, in a frame; no text is a message without fields, and what follows is ignored, as etcd does.
fn first_frame(message: &Message, text: &[u8]) -> Result<Bytes, String> {
    match serde_json::Deserializer::from_slice(text).into_iter().next() {
        Some(value) => frame(message, &value.map_err(|error| wrong(&error))?),
        None => Ok(Bytes::from_static(&[0; FRAME_HEADER_BYTES])),
    }
}

fn frame(message: &Message, value: &serde_json::Value) -> Result<Bytes, String> {
    let mut frame = vec![0; FRAME_HEADER_BYTES];
    json::to_proto(message, value, &mut frame)?;
    let length = u32::try_from(frame.len() - FRAME_HEADER_BYTES).map_err(|_| "the message is too large".to_owned())?;
    frame[1..FRAME_HEADER_BYTES].copy_from_slice(&length.to_be_bytes());
    Ok(frame.into())
}

fn wrong(error: &serde_json::Error) -> String {
    if error.is_eof() { "unexpected EOF".to_owned() } else { error.to_string() }
}

fn unreadable(error: &(dyn std::error::Error + Send + Sync + 'static), limit: usize) -> Status {
    if error.is::<http_body_util::LengthLimitError>() { too_large(limit) } else { Status::invalid_argument(error.to_string()) }
}

fn too_large(limit: usize) -> Status {
    Status::resource_exhausted(format!("grpc: received message larger than max ({limit})"))
}

fn success(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(HeaderName::from_static("grpc-metadata-content-type"), HeaderValue::from_static("application/grpc"));
    response
}

fn refusal(status: &Status) -> Response<Body> {
    let (code, message) = (i32::from(status.code()), status.message());
    // One after the other: a map would sort them.
    let body = format!("{{\"error\":{0},\"code\":{code},\"message\":{0}}}", serde_json::Value::from(message));
    answer(http_status(status.code()), "application/json", body)
}

/// grpc-gateway's runtime/errors.go, HTTPStatusFromCode.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::Cancelled => StatusCode::REQUEST_TIMEOUT,
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A byte for the method, then a request's text, and the same bytes as an answer.
#[cfg(any(test, feature = "fuzz"))]
pub fn fuzz(data: &[u8]) {
    let Some((place, data)) = data.split_first() else { return };
    let methods: Vec<_> = schema::SERVICES.iter().flat_map(|service| service.methods).collect();
    let method = methods[usize::from(*place) % methods.len()];
    let mut text = Vec::new();
    if let Ok(frame) = first_frame(method.input(), data) {
        // What was made of a request can be told.
        json::to_json(method.input(), &frame[FRAME_HEADER_BYTES..], &mut text).expect("a message that the gateway made");
        assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok());
    }
    let _ = json::to_json(method.output(), data, &mut Vec::new());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_one_message() {
        let range = schema::method("etcdserverpb.KV", "Range").unwrap().input();
        let check = |text: &str, expected: Result<&[u8], &str>| {
            let found = first_frame(range, text.as_bytes());
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{text}");
        };
        check("", Ok(&[0, 0, 0, 0, 0]));
        check(" {} ", Ok(&[0, 0, 0, 0, 0]));
        check(r#"{"key":"YQ=="} trailing"#, Ok(&[0, 0, 0, 0, 3, 0x0a, 1, b'a']));
        check(r#"{"key":"#, Err("unexpected EOF"));
        check("5", Err("an object is expected for RangeRequest"));
    }

    #[test]
    fn what_goes_along() {
        let mut headers = HeaderMap::new();
        for (name, value) in [("authorization", "token"), ("grpc-metadata-x-y", "z"), ("cookie", "c"), ("host", "h")] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let route = routes::find("/v3/kv/range").unwrap();
        let request = grpc_request(&route, &headers, Body::empty()).unwrap();
        assert_eq!(request.uri(), "/etcdserverpb.KV/Range");
        let mut names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["authorization", "content-type", "te", "x-y"]);
    }
}
