//! Makes a `Client`: from a kubeconfig file over HTTPS, or around a server's own service in the same process.
//! TLS is rustls with ring, chosen here explicitly.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use parking_lot::Mutex;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use crate::limit::TokenBucket;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot read the kubeconfig file {path}: {cause}")]
    Kubeconfig { path: String, cause: KubeconfigError },
    #[error("cannot use the credentials of {path}: {cause}")]
    Credentials { path: String, cause: Box<kube::Error> },
    #[error("the user agent {0:?} is not a valid header value")]
    UserAgent(String),
}

/// Who an in-process request comes from. The API server's authenticator trusts this request extension: it cannot arrive over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InProcessUser {
    pub name: String,
    pub groups: Vec<String>,
}

impl InProcessUser {
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        Self { name: name.into(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
    }
}

/// Connects as a kubeconfig file's current context says (certificates, tokens, token files that are read again). `qps` limits requests per second on
/// the client's side with a burst of twice that; none by default, as the server's priority and fairness does it better.
pub async fn from_kubeconfig(path: impl AsRef<Path>, user_agent: &str, qps: Option<f32>) -> Result<Client, ConnectError> {
    let path = path.as_ref();
    let named = |cause| ConnectError::Kubeconfig { path: path.display().to_string(), cause };
    let kubeconfig = Kubeconfig::read_from(path).map_err(named)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(named)?;
    from_config(config, user_agent, qps).map_err(|error| match error {
        ConnectError::Credentials { cause, .. } => ConnectError::Credentials { path: path.display().to_string(), cause },
        other => other,
    })
}

/// Connects as `config` says. Must be called within a Tokio runtime.
pub fn from_config(config: Config, user_agent: &str, qps: Option<f32>) -> Result<Client, ConnectError> {
    // Another part of the process may have chosen it before: it is the same one.
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
    let agent = HeaderValue::from_str(user_agent).map_err(|_| ConnectError::UserAgent(user_agent.to_owned()))?;
    let credentials = |cause| ConnectError::Credentials { path: config.cluster_url.to_string(), cause: Box::new(cause) };

    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.set_connect_timeout(Some(Duration::from_secs(10)));
    // HTTP/1.1: a connection per watch. One HTTP/2 connection would run into the server's limit of streams and needs another one for upgrades.
    let https = config.rustls_https_connector_with_connector(tcp).map_err(credentials)?;
    let transport = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(Duration::from_secs(90))
        .build::<_, Body>(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer().map_err(credentials)?)
        .layer(config.extra_headers_layer().map_err(credentials)?)
        .map_err(BoxError::from)
        .service(transport);
    let limit = qps.filter(|&qps| qps > 0.0);
    Ok(Client::new(Outgoing::new(service, agent, limit, None), config.default_namespace))
}

/// A client of a server in this process: no TCP, no TLS, the same pipeline. `service` is the API server's router.
pub fn in_process<S, B>(service: S, user: InProcessUser) -> Client
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    // The component's name is enough of an agent; names of users are valid header values except for control characters.
    let agent = HeaderValue::from_str(&format!("oxikube/{}", user.name)).unwrap_or_else(|_| HeaderValue::from_static("oxikube"));
    Client::new(Outgoing::new(service, agent, None, Some(Arc::new(user))), "default")
}

/// Adds the agent and the in-process user to a request and holds it back to the rate.
#[derive(Clone)]
struct Outgoing<S> {
    inner: S,
    agent: HeaderValue,
    user: Option<Arc<InProcessUser>>,
    limit: Option<Arc<Mutex<TokenBucket>>>,
}

impl<S> Outgoing<S> {
    fn new(inner: S, agent: HeaderValue, qps: Option<f32>, user: Option<Arc<InProcessUser>>) -> Self {
        let bucket = |qps: f32| {
            let burst = (qps * 2.0).ceil().max(1.0) as u32;
            Arc::new(Mutex::new(TokenBucket::new(f64::from(qps), burst, base::clock::monotonic())))
        };
        Self { inner, agent, user, limit: qps.map(bucket) }
    }
}

impl<S, B> Service<Request<Body>> for Outgoing<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<B>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        request.headers_mut().insert(header::USER_AGENT, self.agent.clone());
        if let Some(user) = &self.user {
            request.extensions_mut().insert(InProcessUser::clone(user));
        }
        let wait = self.limit.as_ref().map(|limit| limit.lock().reserve(base::clock::monotonic())).unwrap_or_default();
        let inner = self.inner.clone();
        Box::pin(async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            inner.oneshot(request).await.map_err(Into::into)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn in_process_requests_carry_the_user_and_the_agent() {
        let service = tower::service_fn(|request: Request<Body>| async move {
            let user = request.extensions().get::<InProcessUser>().expect("the user").clone();
            let agent = request.headers()[header::USER_AGENT].to_str().expect("text").to_owned();
            let info = serde_json::json!({"major": user.name, "minor": agent, "gitVersion": user.groups[0], "buildDate": "", "compiler": "",
                "gitCommit": "", "gitTreeState": "", "goVersion": "", "platform": ""});
            Ok::<_, BoxError>(Response::new(Body::from(info.to_string().into_bytes())))
        });
        let client = in_process(service, InProcessUser::new("system:kube-scheduler", &["system:authenticated"]));
        let info = client.apiserver_version().await.expect("an answer");
        assert_eq!((info.major.as_str(), info.minor.as_str()), ("system:kube-scheduler", "oxikube/system:kube-scheduler"));
        assert_eq!(info.git_version, "system:authenticated");
    }

    #[tokio::test]
    async fn kubeconfig_errors_name_the_file() {
        let Err(error) = from_kubeconfig("/nonexistent/admin.conf", "test", None).await else { panic!("no such file") };
        assert!(error.to_string().starts_with("cannot read the kubeconfig file /nonexistent/admin.conf"), "{error}");
    }
}
