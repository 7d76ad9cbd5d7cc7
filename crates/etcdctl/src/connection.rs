//! Connections to the servers: endpoints, certificates, and the token of a user who logs in. Requests go over the `etcd` crate's transport.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use etcd::pb::auth_client::AuthClient;
use etcd::pb::cluster_client::ClusterClient;
use etcd::pb::kv_client::KvClient;
use etcd::pb::lease_client::LeaseClient;
use etcd::pb::maintenance_client::MaintenanceClient;
use etcd::pb::watch_client::WatchClient;
use etcd::{Dial, Transport, pb};
use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::body::Body;

use crate::exit::{self, Failure, Outcome};
use crate::global::{Global, TlsFlags};
use crate::terminal;

/// Messages from the server may have any size.
const MESSAGE_BYTES: usize = i32::MAX as usize;
/// The roots that a machine trusts, where no `--cacert` names others.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
/// Requests look for an endpoint until the command's own time is over.
const SEARCH: Duration = Duration::from_secs(3600);

/// The servers, for all services. Cheap to clone.
#[derive(Clone)]
pub struct Channel {
    transport: Transport,
    /// Goes with every request once a user has logged in.
    token: Option<HeaderValue>,
}

impl tower::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.transport.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Some(token) = &self.token {
            request.headers_mut().insert("token", token.clone());
        }
        self.transport.call(request)
    }
}

impl Channel {
    /// The present server cannot serve: the next request goes to another, where there is one.
    pub fn leave(&self) {
        self.transport.leave_current();
    }

    pub fn kv(&self) -> KvClient<Self> {
        KvClient::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    pub fn lease(&self) -> LeaseClient<Self> {
        LeaseClient::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    pub fn watch(&self) -> WatchClient<Self> {
        WatchClient::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    pub fn cluster(&self) -> ClusterClient<Self> {
        ClusterClient::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    pub fn maintenance(&self) -> MaintenanceClient<Self> {
        MaintenanceClient::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }

    pub fn auth(&self) -> AuthClient<Self> {
        AuthClient::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES)
    }
}

/// With `--discovery-srv` the endpoints are those that DNS names; without TLS only where that is allowed.
pub async fn discover(global: &mut Global) -> Outcome {
    if global.discovery_srv.is_empty() {
        return Ok(());
    }
    let found = etcd::client_urls(&global.discovery_srv, &global.discovery_srv_name).await;
    let mut urls = found.map_err(|error| Failure::error(error.to_string()))?;
    if !global.insecure_discovery {
        urls.retain(|url| {
            let secure = url.starts_with("https://");
            if !secure {
                eprintln!("ignoring discovered insecure endpoint {url:?}");
            }
            secure
        });
    }
    if !urls.is_empty() {
        global.endpoints = urls;
    }
    Ok(())
}

/// Opens nothing unless a user has to log in: connections are made by requests.
pub async fn connect(global: &Global, endpoints: &[String], tasks: &base::Tasks) -> Outcome<Channel> {
    let connector = connector(&global.tls, endpoints, !global.discovery_srv.is_empty() && !global.insecure_discovery)?;
    let dial = Dial {
        connect_timeout: global.dial_timeout,
        search: SEARCH,
        keepalive: global.keepalive,
        server_name: (!global.insecure_discovery && !global.discovery_srv.is_empty()).then(|| global.discovery_srv.clone()),
    };
    let transport = Transport::new(endpoints, connector.as_ref(), &dial, tasks).map_err(|error| Failure::bad_args(error.to_string()))?;
    let mut channel = Channel { transport, token: None };
    if let Some((name, password)) = credentials(global)? {
        channel.token = log_in(&channel, name, password, global.dial_timeout).await?;
    }
    Ok(channel)
}

fn credentials(global: &Global) -> Outcome<Option<(String, String)>> {
    if global.user.is_empty() {
        return Ok(None);
    }
    if !global.password.is_empty() {
        return Ok(Some((global.user.clone(), global.password.clone())));
    }
    Ok(Some(match global.user.split_once(':') {
        Some((name, password)) => (name.to_owned(), password.to_owned()),
        None => (global.user.clone(), terminal::ask_password("Password: ")?),
    }))
}

/// The token, or none where the servers do without authentication.
async fn log_in(channel: &Channel, name: String, password: String, limit: Duration) -> Outcome<Option<HeaderValue>> {
    let failed = |text: String| Failure::new(exit::BAD_CONNECTION, text);
    let mut client = channel.auth();
    let answer = tokio::time::timeout(limit, client.authenticate(pb::AuthenticateRequest { name, password })).await;
    match answer.map_err(|_| failed(exit::DEADLINE.to_owned()))? {
        Ok(answer) => {
            let token = HeaderValue::from_str(&answer.into_inner().token);
            token.map(Some).map_err(|_| failed("the server's token is not a header value".to_owned()))
        }
        Err(status) if status.message() == "etcdserver: authentication is not enabled" => Ok(None),
        Err(status) => Err(failed(exit::rpc_text(&status))),
    }
}

/// Certificates, where any flag or endpoint asks for TLS.
fn connector(flags: &TlsFlags, endpoints: &[String], discovered: bool) -> Outcome<Option<TlsConnector>> {
    let files = [&flags.cert, &flags.key, &flags.cacert].iter().any(|file| !file.is_empty());
    let secure = endpoints.iter().any(|url| url.starts_with("https://") || url.starts_with("unixs://"));
    if !files && !secure && !discovered && flags.insecure_transport {
        return Ok(None);
    }
    if flags.cert.is_empty() != flags.key.is_empty() {
        let text = format!("KeyFile and CertFile must both be present[key: {}, cert: {}]", flags.key, flags.cert);
        return Err(Failure::bad_args(text));
    }
    let identity = if flags.cert.is_empty() { None } else { Some((read(&flags.cert)?, read(&flags.key)?)) };
    let identity = identity.as_ref().map(|(cert, key)| (cert.as_str(), key.as_str()));
    let config = if flags.skip_verify {
        pki::tls::unverified_client_config(identity)
    } else {
        let roots = if flags.cacert.is_empty() { system_roots() } else { read(&flags.cacert)? };
        pki::tls::client_config(&roots, identity)
    };
    let mut config = config.map_err(|error| Failure::bad_args(error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

/// Empty where the machine has none: then no server is believed.
fn system_roots() -> String {
    let path = std::env::var("SSL_CERT_FILE").unwrap_or_else(|_| SYSTEM_ROOTS.to_owned());
    std::fs::read_to_string(path).unwrap_or_default()
}

fn read(path: &str) -> Outcome<String> {
    std::fs::read_to_string(path).map_err(|error| Failure::bad_args(format!("open {path}: {}", go_error(&error))))
}

/// The system's text for an error, as Go writes it.
pub fn go_error(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}
