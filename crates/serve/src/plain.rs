//! Small answers to GET over HTTP/1.1 without TLS: health, metrics. Must never serve anything that needs authorization.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

/// The content type of short texts.
pub const PLAIN: &str = "text/plain; charset=utf-8";

pub type Answer = Response<Full<Bytes>>;

/// What a path answers.
pub type Handler = Arc<dyn Fn(&str) -> Answer + Send + Sync>;

pub fn text(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let response = Response::builder().status(status).header("Content-Type", content_type).header("X-Content-Type-Options", "nosniff");
    response.body(Full::new(body.into())).expect("constant headers are valid")
}

pub fn not_found() -> Answer {
    text(404, PLAIN, "404 page not found\n")
}

/// What a scraper gets.
pub fn metrics(registry: &Registry) -> Answer {
    let mut encoded = String::new();
    match prometheus_client::encoding::text::encode(&mut encoded, registry) {
        Ok(()) => text(200, "application/openmetrics-text; version=1.0.0; charset=utf-8", encoded),
        Err(error) => text(500, PLAIN, error.to_string()),
    }
}

pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, handler: Handler) {
    loop {
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                // Out of file descriptors, mostly: some will be free again.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let handler = handler.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let answer = handler(request.uri().path());
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(async move {
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(std::time::Duration::from_secs(10));
            if let Err(error) = builder.serve_connection(TokioIo::new(connection), service).await {
                tracing::debug!(%error, "a health connection ended");
            }
        });
    }
}
