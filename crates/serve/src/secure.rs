//! `/healthz`, `/livez`, `/readyz` for everybody and `/metrics` for who may read it, over TLS with a certificate made at start, as upstream's. Must serve
//! nothing else.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::authentication::v1::{TokenReview, TokenReviewSpec};
use api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use base::Tasks;
use bytes::Bytes;
use client::Client;
use http::{Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use kube::Api;
use kube::api::PostParams;
use rustls::sign::SingleCertAndKey;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot make a serving certificate: {0}")]
    Certificate(#[from] pki::Error),
    #[error("cannot listen on {address}: {cause}. Stop what uses the port, or choose another with --secure-port")]
    Listen { address: SocketAddr, cause: std::io::Error },
}

/// Makes the text of `/metrics`.
pub type Metrics = Arc<dyn Fn() -> Result<String, std::fmt::Error> + Send + Sync>;

/// What the server answers from.
#[derive(Clone)]
pub struct Secure {
    pub metrics: Metrics,
    /// Asked about bearer tokens.
    pub client: Client,
}

impl Secure {
    /// Listens until the tasks are stopped. Returns the address once connections are taken.
    pub async fn start(self, address: SocketAddr, host: &str, tasks: &Tasks) -> Result<SocketAddr, ServeError> {
        let now = base::clock::now();
        let authority = pki::Authority::create(&format!("{host}-ca@{}", now.as_second()), now)?;
        let leaf = pki::Leaf::server(
            format!("{host}@{}", now.as_second()),
            vec![host.to_owned(), "localhost".into()],
            vec![[127, 0, 0, 1].into()],
        );
        let (certificate, key) = authority.issue(&leaf, now)?;
        let certified = pki::tls::certified_key(&certificate, &key.to_pem())?;
        let config = pki::tls::server_config(Arc::new(SingleCertAndKey::from(certified)), pki::tls::ClientAuth::None)?;
        let mut config = config;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let failed = |cause| ServeError::Listen { address, cause };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let connections = tasks.clone();
        tasks.spawn_critical("health and metrics server", async move { self.accept(listener, acceptor, connections).await });
        Ok(bound)
    }

    async fn accept(self, listener: TcpListener, acceptor: TlsAcceptor, tasks: Tasks) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => tasks.spawn("health or metrics connection", self.clone().connection(stream, acceptor.clone())),
                Err(error) => {
                    // Out of file descriptors, mostly: some will be free again.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, acceptor: TlsAcceptor) {
        let Ok(Ok(stream)) = tokio::time::timeout(TIMEOUT, acceptor.accept(stream)).await else { return };
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let server = self.clone();
            async move {
                let token = request
                    .headers()
                    .get(header::AUTHORIZATION)
                    .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
                Ok::<_, Infallible>(server.answer(request.uri().path(), token).await)
            }
        });
        let mut builder = hyper::server::conn::http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(TIMEOUT);
        if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "a connection ended");
        }
    }

    async fn answer(&self, path: &str, token: Option<String>) -> Response<Full<Bytes>> {
        match path {
            "/healthz" | "/livez" | "/readyz" => text(StatusCode::OK, "ok"),
            "/metrics" => match self.may_read(path, token).await {
                Ok(true) => match (self.metrics)() {
                    Ok(encoded) => text(StatusCode::OK, encoded),
                    Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "cannot encode the metrics"),
                },
                Ok(false) => text(StatusCode::FORBIDDEN, "Forbidden"),
                Err(error) => {
                    tracing::warn!(%error, "cannot ask who may read metrics");
                    text(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
                }
            },
            _ => text(StatusCode::NOT_FOUND, "404 page not found"),
        }
    }

    /// Authentication and authorization are the API server's (delegated, as upstream's).
    async fn may_read(&self, path: &str, token: Option<String>) -> Result<bool, kube::Error> {
        let Some(token) = token else { return Ok(false) };
        let review = TokenReview { spec: TokenReviewSpec { token, ..TokenReviewSpec::default() }, ..TokenReview::default() };
        let review = Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await?;
        let Some(user) = review.status.filter(|status| status.authenticated == Some(true)).and_then(|status| status.user) else {
            return Ok(false);
        };
        let attributes = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".into()) };
        let spec = SubjectAccessReviewSpec {
            user: user.username,
            groups: user.groups,
            uid: user.uid,
            non_resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let access = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let access = Api::<SubjectAccessReview>::all(self.client.clone()).create(&PostParams::default(), &access).await?;
        Ok(access.status.is_some_and(|status| status.allowed))
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use client::script::Script;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn metrics_need_a_token_that_may() {
        let review = |ok: bool| json!({"spec": {}, "status": {"authenticated": ok, "user": {"username": "prometheus"}}}).to_string();
        let access = |ok: bool| json!({"spec": {}, "status": {"allowed": ok}}).to_string();
        let script = Script::new([review(false), review(true), access(false), review(true), access(true)]);
        let server = Secure { metrics: Arc::new(|| Ok(String::new())), client: script.client() };
        let mut codes =
            vec![server.answer("/healthz", None).await.status().as_u16(), server.answer("/metrics", None).await.status().as_u16()];
        for _ in 0..3 {
            codes.push(server.answer("/metrics", Some("token".into())).await.status().as_u16());
        }
        assert_eq!(codes, [200, 403, 403, 403, 200]);
        assert_eq!(server.answer("/other", None).await.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn serves_over_tls() {
        let (script, tasks) = (Script::new([]), Tasks::new());
        let server = Secure { metrics: Arc::new(|| Ok(String::new())), client: script.client() };
        let address = server.start(([127, 0, 0, 1], 0).into(), "test", &tasks).await.expect("it listens");
        assert_ne!(address.port(), 0);
        let stream = TcpStream::connect(address).await.expect("it takes connections");
        drop(stream);
        tasks.stop();
    }
}
