//! Who may use plain HTTP from a browser: `--cors` and `--host-whitelist` (server/embed/serve.go, accessController). Knows no users.

use http::header::{self, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tonic::body::Body;

use crate::server::http::text;

const METHODS: HeaderValue = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
const HEADERS: HeaderValue = HeaderValue::from_static("accept, content-type, authorization");

#[derive(Clone, Debug)]
pub struct Access {
    origins: Vec<String>,
    hosts: Vec<String>,
}

impl Access {
    /// Two lists with commas; `*` or nothing lets everybody in.
    pub fn new(cors: &str, host_whitelist: &str) -> Self {
        let list = |text: &str| text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect();
        Self { origins: list(cors), hosts: list(host_whitelist) }
    }

    /// The answer to a request that goes no further. `secure`: it came over TLS, which a rebound name in DNS cannot have (CVE-2018-5702).
    pub fn answer<B>(&self, request: &Request<B>, secure: bool) -> Option<Response<Body>> {
        let host = request.uri().host().or_else(|| request.headers().get(header::HOST).and_then(|host| host.to_str().ok()));
        let host = hostname(host.unwrap_or_default());
        if !secure && !allows(&self.hosts, host) {
            tracing::warn!(host, "a request was refused: its host is not in --host-whitelist");
            return Some(text(StatusCode::MISDIRECTED_REQUEST, unknown_host(host)));
        }
        (request.method() == Method::OPTIONS).then(|| Response::new(Body::empty()))
    }

    /// Tells browsers that pages of other origins may read the answer.
    pub fn mark(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        let allowed = if allows(&self.origins, "*") {
            HeaderValue::from_static("*")
        } else {
            let Some(origin) = origin.filter(|origin| origin.to_str().is_ok_and(|origin| allows(&self.origins, origin))) else { return };
            origin.clone()
        };
        let pairs: [(HeaderName, HeaderValue); 3] = [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
        ];
        headers.extend(pairs);
    }
}

fn allows(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|known| known == "*" || known == name)
}

/// Without the port and the brackets of an IPv6 address.
fn hostname(host: &str) -> &str {
    if let Some(address) = host.strip_prefix('[') {
        return address.split_once(']').map_or(host, |(address, _)| address);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// etcd's text.
fn unknown_host(host: &str) -> String {
    format!(
        "
etcd received your request, but the Host header was unrecognized.

To fix this, choose one of the following options:
- Enable TLS, then any HTTPS request will be allowed.
- Add the hostname you want to use to the whitelist in settings.
  - e.g. etcd --host-whitelist {host:?}

This requirement has been added to help prevent \"DNS Rebinding\" attacks (CVE-2018-5702).

"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts() {
        let check = |list: &str, host: &str, secure: bool, expected: Option<u16>| {
            let request = Request::builder().uri("/health").header(header::HOST, host).body(()).unwrap();
            let answer = Access::new("*", list).answer(&request, secure);
            assert_eq!(answer.map(|answer| answer.status().as_u16()), expected, "{list} {host}");
        };
        check("*", "evil.example", false, None);
        check("", "evil.example", false, None);
        check("localhost,127.0.0.1", "localhost:2379", false, None);
        check("localhost, ::1", "[::1]:2379", false, None);
        check("localhost", "evil.example:2379", false, Some(421));
        check("localhost", "evil.example", true, None);
        let preflight = Request::builder().method(Method::OPTIONS).uri("/v3/kv/range").body(()).unwrap();
        assert_eq!(Access::new("*", "*").answer(&preflight, false).unwrap().status(), 200);
    }

    #[test]
    fn origins() {
        let check = |list: &str, origin: Option<&'static str>, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            Access::new(list, "*").mark(origin.map(HeaderValue::from_static).as_ref(), &mut headers);
            let found = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|value| value.to_str().unwrap());
            assert_eq!(found, expected, "{list} {origin:?}");
        };
        check("*", None, Some("*"));
        check("", Some("https://a"), Some("*"));
        check("https://a,https://b", Some("https://b"), Some("https://b"));
        check("https://a", Some("https://c"), None);
        check("https://a", None, None);
    }
}
