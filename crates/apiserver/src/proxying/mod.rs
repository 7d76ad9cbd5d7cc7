//! Requests that the API server hands on: log, exec, attach, port-forward to the kubelet; proxy to pods, services and nodes. Authorization and CONNECT admission
//! happen before; this only finds the target and carries bytes. Must not interpret what it carries, but for new clients' WebSocket (crate `stream`).

mod carry;
mod options;
mod target;
mod tls;

use api::StatusError;
use http::request::Parts;
use http::{Method, Response};
use stream::translate::Command;

pub use options::KubeletClientOptions;

use crate::Objects;
use crate::pipeline::route::Path;
use crate::transport::body::{Body, RequestBody};
use crate::transport::query::Query;
use carry::{Carrier, Translation};
use target::Target;

/// The subresources that `connect` serves.
pub fn serves(path: &Path) -> bool {
    let subresource = path.subresource.as_deref().unwrap_or_default();
    path.group.is_empty()
        && match path.resource.as_str() {
            "pods" => matches!(subresource, "log" | "exec" | "attach" | "portforward" | "proxy"),
            "nodes" | "services" => subresource == "proxy",
            _ => false,
        }
}

/// The clients that reach kubelets, pods and services.
pub struct Proxying {
    options: KubeletClientOptions,
    carrier: Carrier,
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ProxyingError(pub String);

impl Proxying {
    /// Reads the kubelet client's certificate and authority.
    pub fn new(options: &KubeletClientOptions) -> Result<Self, ProxyingError> {
        Ok(Self { carrier: Carrier::new(options)?, options: options.clone() })
    }

    /// Serves one of the subresources above, to the end of its stream where it upgrades (a task of its own carries that).
    pub async fn connect(
        &self,
        objects: &Objects,
        path: &Path,
        query: &Query,
        parts: Parts,
        body: RequestBody,
    ) -> Result<Response<Body>, StatusError> {
        let finder = target::Finder { objects, options: &self.options, path, query };
        match (path.resource.as_str(), path.subresource.as_deref().unwrap_or_default()) {
            ("pods", "log") => match finder.log()? {
                Some(target) => self.carrier.fetch(target, Method::GET).await,
                // Not on a node yet: there is nothing to show (pkg/registry/core/pod/strategy.go, LogLocation).
                None => Ok(crate::transport::response::text(200, "")),
            },
            ("pods", "exec") => self.command(finder.exec("exec")?, parts, body).await,
            ("pods", "attach") => self.command(finder.exec("attach")?, parts, body).await,
            ("pods", "portforward") => self.carrier.upgrade(finder.port_forward()?, parts, body, Translation::PortForward).await,
            ("pods", "proxy") => self.proxy(finder.pod()?, parts, body).await,
            ("services", "proxy") => self.proxy(finder.service()?, parts, body).await,
            ("nodes", "proxy") => self.proxy(finder.node()?, parts, body).await,
            _ => Err(StatusError::not_found("", &path.resource, path.name.as_deref().unwrap_or_default())),
        }
    }

    async fn command(&self, target: Target, parts: Parts, body: RequestBody) -> Result<Response<Body>, StatusError> {
        let command = Command::from_query(parts.uri.query().unwrap_or_default());
        if !(command.stdin || command.stdout || command.stderr) {
            return Err(StatusError::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        self.carrier.upgrade(target, parts, body, Translation::Command(command)).await
    }

    async fn proxy(&self, target: Target, parts: Parts, body: RequestBody) -> Result<Response<Body>, StatusError> {
        if stream::upgrade::requested(&parts.headers).is_some() {
            return self.carrier.upgrade(target, parts, body, Translation::None).await;
        }
        self.carrier.pass(target, parts, body).await
    }
}
