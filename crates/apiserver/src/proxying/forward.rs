//! One request sent on over a connection of its own, its answer or its upgraded bytes sent back.

use api::{Reason, StatusError};
use http::header::{AUTHORIZATION, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;

use super::dial::Target;
use crate::transport::body::{Body, RequestBody};

/// Of a refusal's text, as upstream's GenericHttpResponseChecker.
const MAX_TEXT: usize = 50_000;

/// Sends the request as it is, with the target as Host.
pub async fn send(tasks: &base::Tasks, target: &Target, mut request: Request<RequestBody>) -> Result<Response<Incoming>, StatusError> {
    let failed = |error: hyper::Error| StatusError::internal(format!("error dialing backend: {error}"));
    let host = HeaderValue::from_str(&target.authority()).map_err(StatusError::internal)?;
    request.headers_mut().insert(HOST, host);
    *request.version_mut() = http::Version::HTTP_11;
    let connection = target.dial().await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection)).await.map_err(failed)?;
    // Ends with the answer's body, or with the streams that it is upgraded to.
    tasks.spawn("apiserver-proxied-connection", async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a proxied connection ended");
        }
    });
    sender.send_request(request).await.map_err(failed)
}

/// Sends the request on without the caller's credentials, and the answer back; upgraded connections are joined.
pub async fn relay(tasks: &base::Tasks, target: &Target, mut request: Request<RequestBody>) -> Result<Response<Body>, StatusError> {
    let upgrades = stream::upgrade::requested(request.headers()).is_some();
    let ours = upgrades.then(|| hyper::upgrade::on(&mut request));
    clean(request.headers_mut(), upgrades);
    let mut response = send(tasks, target, request).await?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        clean(response.headers_mut(), false);
        let (parts, body) = response.into_parts();
        return Ok(Response::from_parts(parts, Body::Proxied(body.map_err(Into::into).boxed_unsync())));
    }
    let Some(ours) = ours else { return Err(StatusError::internal("the backend changed the protocol without being asked")) };
    let theirs = hyper::upgrade::on(&mut response);
    tasks.spawn("apiserver-stream", async move {
        let (ours, theirs) = match tokio::try_join!(ours, theirs) {
            Ok(joined) => joined,
            Err(error) => return tracing::debug!(%error, "an upgrade did not happen"),
        };
        let ended = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
        if let Err(error) = ended {
            tracing::debug!(%error, "a stream ended");
        }
    });
    let (parts, _) = response.into_parts();
    Ok(Response::from_parts(parts, Body::empty()))
}

/// Drops what is about one hop only, and who asks.
fn clean(headers: &mut HeaderMap, upgrades: bool) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    if !upgrades {
        named.iter().for_each(|name| drop(headers.remove(name)));
        for name in [CONNECTION, UPGRADE] {
            headers.remove(name);
        }
    }
    for name in [TE, TRANSFER_ENCODING, AUTHORIZATION, HeaderName::from_static("keep-alive"), HeaderName::from_static("proxy-connection")] {
        headers.remove(name);
    }
    let identity: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("impersonate-") || name.as_str().starts_with("x-remote-"))
        .cloned()
        .collect();
    identity.iter().for_each(|name| drop(headers.remove(name)));
}

/// The text of a refusal.
pub async fn text(response: Response<Incoming>) -> String {
    match Limited::new(response.into_body(), MAX_TEXT).collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => format!("the answer cannot be read: {error}"),
    }
}

/// A refusal of the kubelet as a Status (GenericHttpResponseChecker in registry/generic/rest/response_checker.go).
pub fn as_status(code: u16, text: &str, resource: &str, name: &str) -> StatusError {
    match code {
        400 => StatusError::bad_request(text),
        404 => {
            let message = format!("the server could not find the requested resource ({resource} {name}): {text}");
            StatusError::new(Reason::NotFound, message).with_object("", resource, name)
        }
        401 | 403 => {
            let message = format!("the kubelet refuses the API server ({code}): {text}");
            StatusError::new(Reason::InternalError, message)
        }
        _ => StatusError::internal(text),
    }
}
