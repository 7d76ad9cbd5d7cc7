//! Carrying requests, responses and upgraded connections to a target and back.

use api::{Reason, StatusError};
use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::upgrade::OnUpgrade;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use stream::translate::{self, Command};
use stream::upgrade::{self, PORT_FORWARD, PORT_FORWARD_TUNNEL, STREAM_PROTOCOL_VERSION, Upgrade, V4_CHANNEL, V5_CHANNEL};

use super::options::KubeletClientOptions;
use super::target::Target;
use super::{ProxyingError, tls};
use crate::transport::body::{Body, RequestBody, request_body};

/// What new clients' WebSocket stands for at this target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    None,
    Command(Command),
    PortForward,
}

type HttpClient = Client<HttpsConnector<HttpConnector>, RequestBody>;

pub struct Carrier {
    kubelets: HttpClient,
    others: HttpClient,
}

/// Headers that concern one connection only (RFC 9110 section 7.6.1), and credentials, which end here.
const OWN_HEADERS: &[&str] =
    &["connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade", "authorization"];

fn client(config: rustls::ClientConfig) -> HttpClient {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(std::time::Duration::from_secs(10)));
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(http);
    Client::builder(TokioExecutor::new()).build(connector)
}

impl Carrier {
    pub fn new(options: &KubeletClientOptions) -> Result<Self, ProxyingError> {
        Ok(Self { kubelets: client(tls::kubelet(options)?), others: client(tls::unverified()?) })
    }

    async fn send(&self, target: &Target, mut request: Request<RequestBody>) -> Result<Response<hyper::body::Incoming>, StatusError> {
        let uri = format!("{}://{}{}", target.scheme, target.authority, target.path_and_query);
        *request.uri_mut() = uri.parse::<Uri>().map_err(|error| StatusError::bad_request(format!("{uri}: {error}")))?;
        let client = if target.kubelet { &self.kubelets } else { &self.others };
        client.request(request).await.map_err(|error| unreachable(target, &error))
    }

    /// A request of our own, with the answer handed through (logs).
    pub async fn fetch(&self, target: Target, method: Method) -> Result<Response<Body>, StatusError> {
        let mut request = Request::new(request_body(Empty::<Bytes>::new()));
        *request.method_mut() = method;
        let response = self.send(&target, request).await?;
        if response.status().is_success() {
            return Ok(answer(response));
        }
        Err(refused(&target, response).await)
    }

    /// The client's request, handed on as it is.
    pub async fn pass(&self, mut target: Target, parts: Parts, body: RequestBody) -> Result<Response<Body>, StatusError> {
        if let Some(query) = parts.uri.query() {
            target.path_and_query = format!("{}?{query}", target.path_and_query);
        }
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.headers_mut() = forwarded(&parts.headers);
        let path = HeaderValue::from_str(parts.uri.path()).map_err(|error| StatusError::bad_request(error.to_string()))?;
        request.headers_mut().insert(HeaderName::from_static("x-forwarded-uri"), path);
        let response = self.send(&target, request).await?;
        Ok(answer(response))
    }

    /// Upgrades both connections and carries bytes between them in a task of its own until either side ends.
    pub async fn upgrade(&self, mut target: Target, mut parts: Parts, body: RequestBody, translation: Translation) -> Result<Response<Body>, StatusError> {
        let Some(asked) = upgrade::requested(&parts.headers) else {
            return Err(StatusError::bad_request("Upgrade request required"));
        };
        let near = parts.extensions.remove::<OnUpgrade>();
        let near = near.ok_or_else(|| StatusError::bad_request("this connection cannot be upgraded: use HTTP/1.1"))?;
        drop(body);
        let offered = upgrade::values(&parts.headers, &upgrade::SEC_WEBSOCKET_PROTOCOL);
        if asked == Upgrade::WebSocket {
            match translation {
                Translation::Command(command) if offered.contains(&V5_CHANNEL) => {
                    return self.translated(&target, &parts, near, V5_CHANNEL, V4_CHANNEL, Some(command)).await;
                }
                Translation::PortForward if offered.contains(&PORT_FORWARD_TUNNEL) => {
                    return self.translated(&target, &parts, near, PORT_FORWARD_TUNNEL, PORT_FORWARD, None).await;
                }
                _ => {}
            }
        }
        if translation == Translation::None
            && let Some(query) = parts.uri.query()
        {
            target.path_and_query = format!("{}?{query}", target.path_and_query);
        }
        self.raw(&target, parts, near).await
    }

    /// Both sides speak the same: their bytes are copied.
    async fn raw(&self, target: &Target, parts: Parts, near: OnUpgrade) -> Result<Response<Body>, StatusError> {
        let mut request = Request::new(request_body(Empty::<Bytes>::new()));
        *request.method_mut() = parts.method;
        *request.headers_mut() = forwarded(&parts.headers);
        for name in [CONNECTION, UPGRADE] {
            if let Some(value) = parts.headers.get(&name) {
                request.headers_mut().insert(name, value.clone());
            }
        }
        let mut response = self.send(target, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer(response));
        }
        let far = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (near, far) = match tokio::try_join!(near, far) {
                Ok(both) => both,
                Err(error) => return tracing::debug!(%error, "an upgrade did not come about"),
            };
            let (mut near, mut far) = (TokioIo::new(near), TokioIo::new(far));
            if let Err(error) = tokio::io::copy_bidirectional(&mut near, &mut far).await {
                tracing::debug!(%error, "a carried connection ended");
            }
        });
        let mut ours = Response::new(Body::empty());
        *ours.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *ours.headers_mut() = response.headers().clone();
        Ok(ours)
    }

    /// The client speaks WebSocket, the target SPDY. `command`: `None` for a tunnel.
    async fn translated(
        &self,
        target: &Target,
        parts: &Parts,
        near: OnUpgrade,
        near_protocol: &'static str,
        far_protocol: &'static str,
        command: Option<Command>,
    ) -> Result<Response<Body>, StatusError> {
        let accepted = upgrade::accept_websocket::<()>(&parts.headers, Some(near_protocol));
        let accepted = accepted.ok_or_else(|| StatusError::bad_request("a WebSocket request without Sec-WebSocket-Key"))?;
        let mut request = Request::new(request_body(Empty::<Bytes>::new()));
        *request.method_mut() = Method::POST;
        let headers = request.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("SPDY/3.1"));
        headers.insert(STREAM_PROTOCOL_VERSION, HeaderValue::from_static(far_protocol));
        let mut response = self.send(target, request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refused(target, response).await);
        }
        let far = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            let (near, far) = match tokio::try_join!(near, far) {
                Ok(both) => both,
                Err(error) => return tracing::debug!(%error, "an upgrade did not come about"),
            };
            let (near, far) = (TokioIo::new(near), TokioIo::new(far));
            let result = match command {
                Some(command) => translate::remote_command(near, far, command).await,
                None => translate::tunnel(near, far).await,
            };
            if let Err(error) = result {
                tracing::debug!(%error, "a translated connection ended");
            }
        });
        Ok(accepted.map(|()| Body::empty()))
    }
}

fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = upgrade::values(headers, &CONNECTION).into_iter().map(str::to_ascii_lowercase).collect();
    let kept = headers.iter().filter(|(name, _)| {
        let name = name.as_str();
        name != HOST && !OWN_HEADERS.contains(&name) && !named.iter().any(|own| own == name)
    });
    kept.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// The target's answer as ours.
fn answer(response: Response<hyper::body::Incoming>) -> Response<Body> {
    let (mut parts, body) = response.into_parts();
    parts.headers.remove(TRANSFER_ENCODING);
    parts.headers.remove(CONNECTION);
    parts.version = http::Version::default();
    Response::from_parts(parts, Body::Proxied(request_body(body)))
}

fn unreachable(target: &Target, error: &(dyn std::error::Error + 'static)) -> StatusError {
    let mut cause = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        cause = format!("{cause}: {inner}");
        source = inner.source();
    }
    StatusError::new(Reason::ServiceUnavailable, format!("error trying to reach service: {}: {cause}", target.authority))
}

/// A failure that the kubelet reports, in its own words.
async fn refused(target: &Target, response: Response<hyper::body::Incoming>) -> StatusError {
    let code = response.status();
    let text = match http_body_util::Limited::new(response.into_body(), 16 * 1024).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    let reason = match code.as_u16() {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        429 => Reason::TooManyRequests,
        503 => Reason::ServiceUnavailable,
        _ => Reason::InternalError,
    };
    let text = if text.is_empty() { format!("the server at {} answered {code}", target.authority) } else { text };
    StatusError::new(reason, text)
}
