//! Connections to the endpoints: opened when needed, shared by all calls, replaced when they break. A request that was not sent is sent to the next
//! endpoint; one that may have been sent is never sent again here, but its trace says whether it may have been done.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::Status;
use tonic::body::Body;

use super::ConnectError;

const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// How connections are opened and watched.
#[derive(Clone, Debug)]
pub struct Dial {
    /// For one connection, its TLS handshake included.
    pub connect_timeout: Duration,
    /// How long a request looks for an endpoint that takes connections.
    pub search: Duration,
    /// How often a quiet connection is probed, and how long it may stay silent then.
    pub keepalive: (Duration, Duration),
    /// The name that the servers' certificates must hold, where it is not the endpoint's host.
    pub server_name: Option<String>,
}

impl Default for Dial {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            search: Duration::from_secs(5),
            keepalive: (Duration::from_secs(10), Duration::from_secs(5)),
            server_name: None,
        }
    }
}

/// Carries requests of all services. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    inner: Arc<Inner>,
    trace: Option<Arc<Trace>>,
}

/// What became of one request.
#[derive(Default)]
pub(crate) struct Trace {
    /// The endpoint that was used last.
    endpoint: AtomicUsize,
    /// The server surely did not do it.
    unsent: AtomicBool,
    /// No endpoint took a connection.
    unreachable: AtomicBool,
}

impl Trace {
    pub fn is_unsent(&self) -> bool {
        self.unsent.load(Ordering::Acquire)
    }

    pub fn is_unreachable(&self) -> bool {
        self.unreachable.load(Ordering::Acquire)
    }
}

struct Inner {
    endpoints: Vec<Endpoint>,
    /// The endpoint in use.
    current: AtomicUsize,
    search: Duration,
    tasks: base::Tasks,
}

pub(crate) struct Endpoint {
    /// What requests name: scheme and authority.
    uri: Uri,
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    connect_timeout: Duration,
    keepalive: (Duration, Duration),
    sender: Mutex<Option<SendRequest<Body>>>,
    /// Held by the one who connects.
    connecting: tokio::sync::Mutex<()>,
}

enum Address {
    Tcp(String),
    Unix(String),
}

impl Transport {
    /// Takes `http://HOST:PORT`, `https://HOST:PORT`, `unix://PATH`, and `HOST:PORT`, which is secure where `tls` is given. Opens nothing yet.
    pub fn new(endpoints: &[String], tls: Option<&TlsConnector>, dial: &Dial, tasks: &base::Tasks) -> Result<Self, ConnectError> {
        if endpoints.is_empty() {
            return Err(ConnectError::Endpoint { url: String::new(), reason: "no endpoint is given".into() });
        }
        let endpoints = endpoints.iter().map(|url| Endpoint::parse(url, tls, dial)).collect::<Result<_, _>>()?;
        let inner = Arc::new(Inner { endpoints, current: AtomicUsize::new(0), search: dial.search, tasks: tasks.clone() });
        Ok(Self { inner, trace: None })
    }

    /// For one request; the trace tells how it went.
    pub(crate) fn traced(&self) -> (Self, Arc<Trace>) {
        let trace = Arc::new(Trace { endpoint: AtomicUsize::new(self.current()), ..Trace::default() });
        (Self { inner: self.inner.clone(), trace: Some(trace.clone()) }, trace)
    }

    /// The trace of a traced transport; one that nobody looks at elsewhere.
    pub(crate) fn trace(&self) -> Arc<Trace> {
        self.trace.clone().unwrap_or_default()
    }

    fn current(&self) -> usize {
        self.inner.current.load(Ordering::Acquire)
    }

    /// Goes to the endpoint after the one that failed, unless somebody else has done so already.
    pub(crate) fn leave(&self, trace: &Trace) {
        self.leave_endpoint(trace.endpoint.load(Ordering::Acquire));
    }

    /// The present endpoint answered that it cannot serve.
    pub fn leave_current(&self) {
        self.leave_endpoint(self.current());
    }

    fn leave_endpoint(&self, index: usize) {
        let next = (index + 1) % self.inner.endpoints.len();
        let _ = self.inner.current.compare_exchange(index, next, Ordering::AcqRel, Ordering::Relaxed);
    }

    fn note(&self, what: impl FnOnce(&Trace)) {
        if let Some(trace) = &self.trace {
            what(trace);
        }
    }

    async fn send(self, request: Request<Body>) -> Result<Response<Incoming>, Status> {
        let mut request = request;
        let give_up = base::clock::monotonic() + self.inner.search;
        let mut backoff = base::Backoff::new(Duration::from_millis(20), Duration::from_millis(500)).with_jitter(0.2);
        let mut failures = 0;
        loop {
            let index = self.current();
            let endpoint = &self.inner.endpoints[index];
            self.note(|trace| trace.endpoint.store(index, Ordering::Release));
            let reason = match endpoint.sender(&self.inner.tasks).await {
                Ok(mut sender) => match sender.try_send_request(endpoint.address_to(request)?).await {
                    Ok(response) => return Ok(response),
                    Err(mut failed) => match failed.take_message() {
                        Some(unsent) => {
                            request = unsent;
                            "the connection was closed".to_owned()
                        }
                        None => {
                            let error = failed.into_error();
                            self.leave_endpoint(index);
                            self.note(|trace| trace.unsent.store(is_refused(&error), Ordering::Release));
                            return Err(Status::unavailable(format!("{}: the connection broke: {error}", endpoint.uri)));
                        }
                    },
                },
                Err(reason) => reason,
            };
            self.leave_endpoint(index);
            failures += 1;
            if base::clock::monotonic() >= give_up {
                self.note(|trace| {
                    trace.unsent.store(true, Ordering::Release);
                    trace.unreachable.store(true, Ordering::Release);
                });
                return Err(Status::unavailable(format!("no endpoint can be reached, the last was {}: {reason}", endpoint.uri)));
            }
            if failures % self.inner.endpoints.len() == 0 {
                tokio::time::sleep(backoff.next_delay()).await;
            }
        }
    }
}

/// Whether the server says that it did not look at the request: it stops, or has too many (RFC 9113, 6.8 and 8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        error.is_remote()
            && (error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

impl tower::Service<Request<Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().send(request))
    }
}

impl Endpoint {
    /// `http://HOST:PORT`, `https://HOST:PORT`, `unix://PATH`, or `HOST:PORT`.
    pub(crate) fn parse(url: &str, tls: Option<&TlsConnector>, dial: &Dial) -> Result<Self, ConnectError> {
        let wrong = |reason: &str| ConnectError::Endpoint { url: url.to_owned(), reason: reason.to_owned() };
        let (scheme, rest) = url.split_once("://").unwrap_or((if tls.is_some() { "https" } else { "http" }, url));
        let rest = if scheme.starts_with("unix") { rest } else { rest.trim_end_matches('/') };
        let (address, authority, secure) = match scheme {
            "http" | "https" => (Address::Tcp(rest.to_owned()), rest, scheme == "https"),
            "unix" | "unixs" => (Address::Unix(rest.to_owned()), "localhost", scheme == "unixs"),
            _ => return Err(wrong("the scheme must be http, https, unix or unixs")),
        };
        let uri = Uri::builder().scheme(if secure { "https" } else { "http" }).authority(authority).path_and_query("/").build();
        let uri = uri.map_err(|error| wrong(&error.to_string()))?;
        if matches!(address, Address::Tcp(_)) && uri.port_u16().is_none() {
            return Err(wrong("the port is missing"));
        }
        let tls = match (secure, tls) {
            (false, _) => None,
            (true, None) => return Err(wrong("https needs the certificate authority that signed the server's certificate")),
            (true, Some(connector)) => {
                let host = dial.server_name.as_deref().or(uri.host()).unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
                let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(&error.to_string()))?;
                Some((connector.clone(), name))
            }
        };
        let (connect_timeout, keepalive) = (dial.connect_timeout, dial.keepalive);
        Ok(Self { uri, address, tls, connect_timeout, keepalive, sender: Mutex::new(None), connecting: tokio::sync::Mutex::new(()) })
    }

    /// The same request, to this endpoint.
    pub(crate) fn address_to(&self, request: Request<Body>) -> Result<Request<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        let mut uri = self.uri.clone().into_parts();
        uri.path_and_query = parts.uri.into_parts().path_and_query;
        parts.uri = Uri::from_parts(uri).map_err(|error| Status::internal(error.to_string()))?;
        parts.version = http::Version::HTTP_2;
        Ok(Request::from_parts(parts, body))
    }

    fn usable(&self) -> Option<SendRequest<Body>> {
        self.sender.lock().as_ref().filter(|sender| !sender.is_closed()).cloned()
    }

    /// The shared connection, opened where there is none.
    pub(crate) async fn sender(&self, tasks: &base::Tasks) -> Result<SendRequest<Body>, String> {
        if let Some(sender) = self.usable() {
            return Ok(sender);
        }
        let _turn = self.connecting.lock().await;
        if let Some(sender) = self.usable() {
            return Ok(sender);
        }
        let connected = tokio::time::timeout(self.connect_timeout, self.connect(tasks)).await;
        let sender = connected.map_err(|_| "it does not answer".to_owned())??;
        *self.sender.lock() = Some(sender.clone());
        Ok(sender)
    }

    async fn connect(&self, tasks: &base::Tasks) -> Result<SendRequest<Body>, String> {
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
                stream.set_nodelay(true).map_err(|error| error.to_string())?;
                self.secure(stream, tasks).await
            }
            Address::Unix(path) => self.secure(UnixStream::connect(path).await.map_err(|error| error.to_string())?, tasks).await,
        }
    }

    async fn secure<S>(&self, stream: S, tasks: &base::Tasks) -> Result<SendRequest<Body>, String>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        match &self.tls {
            None => handshake(TokioIo::new(stream), self.keepalive, tasks).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(|error| format!("TLS handshake: {error}"))?;
                handshake(TokioIo::new(stream), self.keepalive, tasks).await
            }
        }
    }
}

async fn handshake<I>(io: I, keepalive: (Duration, Duration), tasks: &base::Tasks) -> Result<SendRequest<Body>, String>
where
    I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(keepalive.0)
        .keep_alive_timeout(keepalive.1)
        .keep_alive_while_idle(true)
        .handshake(io)
        .await
        .map_err(|error| error.to_string())?;
    tasks.spawn("etcd client connection", async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to etcd ended");
        }
    });
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        let check = |url: &str, expected: Option<&str>| {
            let found = Endpoint::parse(url, None, &Dial::default());
            assert_eq!(found.as_ref().map(|endpoint| endpoint.uri.to_string()).ok().as_deref(), expected, "{url}");
        };
        check("http://localhost:2379", Some("http://localhost:2379/"));
        check("http://localhost:2379/", Some("http://localhost:2379/"));
        check("[::1]:2379", Some("http://[::1]:2379/"));
        check("unix:///run/etcd.sock", Some("http://localhost/"));
        check("http://localhost", None);
        check("https://localhost:2379", None);
        check("ftp://localhost:2379", None);
        check("http://local host:2379", None);
        assert!(Transport::new(&[], None, &Dial::default(), &base::Tasks::new()).is_err());
    }
}
