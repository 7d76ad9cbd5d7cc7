//! exec, attach and port-forward: asks the runtime for its streaming address and joins the client's upgraded connection with the runtime's,
//! byte by byte, whatever protocol the two speak.

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as pb;
use tokio::net::TcpStream;

use super::answers::{Body, text};
use crate::runtime::Cri;

/// What the client wants of a container's streams, from its query.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

impl Streams {
    /// The kubelet's own names (`input`, `output`, `error`) and the API's. At least one stream must be asked for.
    pub fn parse(query: &[(String, String)]) -> Result<Self, String> {
        let asked =
            |names: [&str; 2]| query.iter().any(|(key, value)| names.contains(&key.as_str()) && matches!(value.as_str(), "1" | "true"));
        let tty = asked(["tty", "tty"]);
        let out = Self {
            stdin: asked(["input", "stdin"]),
            stdout: asked(["output", "stdout"]),
            // A terminal has one output.
            stderr: asked(["error", "stderr"]) && !tty,
            tty,
        };
        if out.stdin || out.stdout || out.stderr { Ok(out) } else { Err("you must specify at least 1 of stdin, stdout, stderr".into()) }
    }
}

pub async fn exec(cri: &Cri, id: &str, query: &[(String, String)], request: Request<Incoming>) -> Response<Body> {
    let streams = match Streams::parse(query) {
        Ok(streams) => streams,
        Err(cause) => return text(StatusCode::BAD_REQUEST, &cause),
    };
    let cmd: Vec<String> = query.iter().filter(|(key, _)| key == "command").map(|(_, value)| value.clone()).collect();
    let Streams { stdin, stdout, stderr, tty } = streams;
    let asked = cri.exec_url(pb::ExecRequest { container_id: id.to_owned(), cmd, tty, stdin, stdout, stderr }).await;
    join(asked.map_err(|error| error.to_string()), request).await
}

pub async fn attach(cri: &Cri, id: &str, query: &[(String, String)], request: Request<Incoming>) -> Response<Body> {
    let streams = match Streams::parse(query) {
        Ok(streams) => streams,
        Err(cause) => return text(StatusCode::BAD_REQUEST, &cause),
    };
    let Streams { stdin, stdout, stderr, tty } = streams;
    let asked = cri.attach_url(pb::AttachRequest { container_id: id.to_owned(), stdin, tty, stdout, stderr }).await;
    join(asked.map_err(|error| error.to_string()), request).await
}

pub async fn port_forward(cri: &Cri, sandbox: &str, query: &[(String, String)], request: Request<Incoming>) -> Response<Body> {
    let ports = query.iter().filter(|(key, _)| key == "port" || key == "ports").flat_map(|(_, value)| value.split(','));
    let ports = ports.filter_map(|port| port.parse().ok()).collect();
    let asked = cri.port_forward_url(pb::PortForwardRequest { pod_sandbox_id: sandbox.to_owned(), port: ports }).await;
    join(asked.map_err(|error| error.to_string()), request).await
}

async fn join(url: Result<String, String>, request: Request<Incoming>) -> Response<Body> {
    let joined = match url {
        Ok(url) => connect(&url, request).await,
        Err(cause) => Err(cause),
    };
    joined.unwrap_or_else(|cause| text(StatusCode::INTERNAL_SERVER_ERROR, &cause))
}

/// Asks the runtime's streaming server for the same upgrade; on its 101 both connections are joined.
async fn connect(url: &str, mut request: Request<Incoming>) -> Result<Response<Body>, String> {
    let uri: Uri = url.parse().map_err(|error| format!("the runtime's streaming address {url:?}: {error}"))?;
    let authority = uri.authority().ok_or_else(|| format!("the runtime's streaming address {url:?} has no host"))?.clone();
    if uri.scheme_str() != Some("http") {
        return Err(format!("the runtime's streaming address {url:?} is not http; turn TLS of its streaming server off"));
    }
    let address = (authority.host().trim_matches(['[', ']']).to_owned(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(address).await.map_err(|error| format!("the runtime's streaming server {authority}: {error}"))?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a streaming connection to the runtime ended");
        }
    });
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut onward =
        Request::builder().method(request.method()).uri(path).body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    *onward.headers_mut() = passed_on(request.headers());
    onward.headers_mut().insert(http::header::HOST, authority.as_str().parse().map_err(|_| "bad host".to_owned())?);
    let mut answer = sender.send_request(onward).await.map_err(|error| error.to_string())?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        return Ok(text(parts.status, &String::from_utf8_lossy(&bytes)));
    }
    let theirs = hyper::upgrade::on(&mut answer);
    let ours = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else {
            tracing::debug!("a streaming connection was not upgraded on both sides");
            return;
        };
        let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(ours), &mut TokioIo::new(theirs)).await;
        if let Err(error) = copied {
            tracing::debug!(%error, "a streaming connection broke");
        }
    });
    let mut switching = text(StatusCode::SWITCHING_PROTOCOLS, "");
    *switching.headers_mut() = answer.headers().clone();
    Ok(switching)
}

/// What the two ends of the upgrade must tell each other; credentials stay here.
fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let wanted = |name: &str| {
        ["connection", "upgrade", "origin", "user-agent", "x-stream-protocol-version"].contains(&name) || name.starts_with("sec-websocket-")
    };
    headers.iter().filter(|(name, _)| wanted(name.as_str())).map(|(name, value)| (name.clone(), value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_query() {
        let check = |text: &str, expected: Option<Streams>| {
            let query: Vec<(String, String)> =
                text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect();
            assert_eq!(Streams::parse(&query).ok(), expected, "{text}");
        };
        check("output=1&error=1", Some(Streams { stdout: true, stderr: true, ..Streams::default() }));
        check("stdin=true&stdout=true&stderr=true&tty=true", Some(Streams { stdin: true, stdout: true, stderr: false, tty: true }));
        check("command=ls", None);
    }
}
