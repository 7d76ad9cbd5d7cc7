//! One HTTP request of a probe or hook: no certificate check, redirects followed on the same host only (pkg/probe/http).

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use api::core::v1::HTTPHeader;
use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;

/// What of a body is read.
const MAX_BODY: usize = 10 << 10;
const MAX_REDIRECTS: usize = 10;

/// Where and what to ask.
#[derive(Clone, Debug)]
pub struct Target {
    pub tls: bool,
    pub host: String,
    pub port: u16,
    pub path: String,
    pub headers: Vec<HTTPHeader>,
    pub user_agent: &'static str,
}

impl Target {
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let slash = if self.path.starts_with('/') { "" } else { "/" };
        format!("{scheme}://{host}:{}{slash}{}", self.port, self.path)
    }
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
    location: Option<String>,
}

/// Asks within `timeout`, redirects included.
pub async fn get(target: &Target, timeout: Duration) -> Result<Answer, String> {
    let url = target.url();
    let failed = |cause: String| format!("Get {url:?}: {cause}");
    match tokio::time::timeout(timeout, follow(target.clone())).await {
        Ok(answer) => answer.map_err(failed),
        Err(_) => Err(failed("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".into())),
    }
}

async fn follow(mut target: Target) -> Result<Answer, String> {
    for _ in 0..MAX_REDIRECTS {
        let answer = once(&target).await?;
        let Some(location) = answer.location.clone().filter(|_| (300..400).contains(&answer.status)) else { return Ok(answer) };
        match redirected(&target, &location) {
            Some(next) => target = next,
            // A redirect to another host counts as an answer (and as a success).
            None => return Ok(answer),
        }
    }
    Err(format!("stopped after {MAX_REDIRECTS} redirects"))
}

fn redirected(target: &Target, location: &str) -> Option<Target> {
    let mut next = target.clone();
    let uri: Uri = location.parse().ok()?;
    if let Some(host) = uri.host() {
        if host.trim_matches(['[', ']']) != target.host {
            return None;
        }
        next.tls = uri.scheme_str() == Some("https");
        next.port = uri.port_u16().unwrap_or(if next.tls { 443 } else { 80 });
    }
    next.path = uri.path_and_query().map(ToString::to_string)?;
    Some(next)
}

async fn once(target: &Target) -> Result<Answer, String> {
    let address = (target.host.trim_matches(['[', ']']), target.port);
    let stream =
        TcpStream::connect(address).await.map_err(|error| format!("dial tcp {}:{}: {}", target.host, target.port, dial_text(&error)))?;
    if !target.tls {
        return exchange(target, TokioIo::new(stream)).await;
    }
    let name = ServerName::try_from(target.host.clone()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(INSECURE.clone());
    let stream = connector.connect(name, stream).await.map_err(|error| error.to_string())?;
    exchange(target, TokioIo::new(stream)).await
}

/// `connect: connection refused`, as Go says it.
pub fn dial_text(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        _ => error.to_string(),
    }
}

async fn exchange<T>(target: &Target, io: T) -> Result<Answer, String>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(|error| error.to_string())?;
    let request = request(target)?;
    let asking = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let location = answer.headers().get(http::header::LOCATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
        // A longer body is cut, as upstream does; the status decides.
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), location })
    };
    tokio::pin!(connection);
    tokio::pin!(asking);
    tokio::select! {
        answer = &mut asking => answer,
        ended = &mut connection => match ended {
            Ok(()) => asking.await,
            Err(error) => Err(error.to_string()),
        },
    }
}

fn request(target: &Target) -> Result<Request<Empty<Bytes>>, String> {
    let slash = if target.path.starts_with('/') { "" } else { "/" };
    let host = if target.host.contains(':') { format!("[{}]", target.host) } else { target.host.clone() };
    let mut builder = Request::get(format!("{slash}{}", target.path));
    let given = |name: &str| target.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
    let defaults = [
        ("Host", format!("{host}:{}", target.port)),
        ("User-Agent", target.user_agent.to_owned()),
        ("Accept", "*/*".to_owned()),
        ("Connection", "close".to_owned()),
    ];
    for (name, value) in defaults {
        match given(name) {
            None => builder = builder.header(name, value),
            // An empty header takes the default away, except the host's.
            Some(header) if !header.value.is_empty() => builder = builder.header(name, &header.value),
            Some(_) => {}
        }
    }
    for header in &target.headers {
        if !["host", "user-agent", "accept", "connection"].contains(&header.name.to_lowercase().as_str()) {
            builder = builder.header(&header.name, &header.value);
        }
    }
    builder.body(Empty::new()).map_err(|error| error.to_string())
}

static INSECURE: LazyLock<Arc<rustls::ClientConfig>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("ring supports the default protocol versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Arc::new(config)
});

/// Probes do not know the pod's authority, so upstream does not check it.
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Target {
        Target { tls: false, host: "10.0.0.1".into(), port: 80, path: path.into(), headers: vec![], user_agent: "kube-probe/1.36" }
    }

    #[test]
    fn urls_and_headers() {
        assert_eq!(target("x").url(), "http://10.0.0.1:80/x");
        let mut custom = target("/a?b=c");
        custom.headers = vec![HTTPHeader { name: "host".into(), value: "h".into() }, HTTPHeader { name: "X-A".into(), value: "1".into() }];
        let request = request(&custom).unwrap();
        assert_eq!(request.uri(), "/a?b=c");
        assert_eq!(request.headers()["host"], "h");
        assert_eq!(request.headers()["x-a"], "1");
        assert_eq!(request.headers()["user-agent"], "kube-probe/1.36");
    }

    #[test]
    fn redirects_stay_on_the_host() {
        assert_eq!(redirected(&target("/"), "/other").unwrap().path, "/other");
        assert_eq!(redirected(&target("/"), "https://10.0.0.1/x").unwrap().port, 443);
        assert!(redirected(&target("/"), "http://example.org/").is_none());
    }
}
