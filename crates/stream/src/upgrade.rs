//! Upgrade requests and answers: which protocol a client asks for, and what it is told.

use http::header::{CONNECTION, HeaderMap, HeaderName, UPGRADE};
use http::{HeaderValue, Response, StatusCode};

pub const STREAM_PROTOCOL_VERSION: HeaderName = HeaderName::from_static("x-stream-protocol-version");
pub const SEC_WEBSOCKET_PROTOCOL: HeaderName = HeaderName::from_static("sec-websocket-protocol");
const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// The newest remote command protocol over WebSocket: v4 with a CLOSE signal for standard input (KEP-4006).
pub const V5_CHANNEL: &str = "v5.channel.k8s.io";
pub const V4_CHANNEL: &str = "v4.channel.k8s.io";
/// SPDY of port-forward inside WebSocket messages (KEP-4006).
pub const PORT_FORWARD_TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
pub const PORT_FORWARD: &str = "portforward.k8s.io";

/// What a request wants its connection to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upgrade {
    Spdy,
    WebSocket,
}

/// The upgrade that the headers ask for, if any.
pub fn requested(headers: &HeaderMap) -> Option<Upgrade> {
    let asks = headers.get_all(CONNECTION).iter().any(|value| words(value).any(|word| word.eq_ignore_ascii_case("upgrade")));
    if !asks {
        return None;
    }
    headers.get_all(UPGRADE).iter().flat_map(words).find_map(|word| {
        if word.eq_ignore_ascii_case("websocket") {
            Some(Upgrade::WebSocket)
        } else if word.to_ascii_lowercase().starts_with("spdy/") {
            Some(Upgrade::Spdy)
        } else {
            None
        }
    })
}

/// The comma-separated values of a header, over all its lines.
pub fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    headers.get_all(name).iter().flat_map(words).collect()
}

fn words(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// The 101 answer to a WebSocket request; `None` when it has no key (RFC 6455 section 4.2.2).
pub fn accept_websocket<B: Default>(headers: &HeaderMap, protocol: Option<&str>) -> Option<Response<B>> {
    let key = headers.get(SEC_WEBSOCKET_KEY)?;
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let mut response = switching("websocket");
    response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).ok()?);
    if let Some(protocol) = protocol {
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_str(protocol).ok()?);
    }
    Some(response)
}

/// A 101 answer.
pub fn switching<B: Default>(protocol: &'static str) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(connection: &str, upgrade: &str, wanted: Option<Upgrade>) {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_str(connection).unwrap());
        headers.insert(UPGRADE, HeaderValue::from_str(upgrade).unwrap());
        assert_eq!(requested(&headers), wanted);
    }

    #[test]
    fn what_is_asked_for() {
        check("Upgrade", "SPDY/3.1", Some(Upgrade::Spdy));
        check("keep-alive, upgrade", "WebSocket", Some(Upgrade::WebSocket));
        check("keep-alive", "websocket", None);
        check("Upgrade", "h2c", None);
    }

    #[test]
    fn the_accept_key_is_rfc_6455s_example() {
        let mut headers = HeaderMap::new();
        headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let response: Response<()> = accept_websocket(&headers, Some(V5_CHANNEL)).unwrap();
        assert_eq!(response.headers()[&SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(response.headers()[&SEC_WEBSOCKET_PROTOCOL], V5_CHANNEL);
        assert!(accept_websocket::<()>(&HeaderMap::new(), None).is_none());
    }
}
