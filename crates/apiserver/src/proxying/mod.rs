//! Requests that go on to a kubelet, pod, service or node: log, exec, attach, portforward, proxy. Must not read what it carries.

mod dial;
mod forward;
mod location;
mod proxy;

use api::StatusError;
use api::core::v1::{Node, Pod};
use http::header::{HeaderValue, UPGRADE};
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use stream::translate::{self, Command};
use stream::upgrade::{self, Upgrade};

pub use dial::Kubelets;
use location::LocationError;

use crate::admission::{AdmissionRequest, Operation};
use crate::pipeline::Call;
use crate::transport::body::{Body, RequestBody, request_body};

pub async fn connect(call: &mut Call, request: Request<RequestBody>) -> Result<Response<Body>, StatusError> {
    if call.subresource() != "log" {
        let core = call.core.clone();
        let mut asked = AdmissionRequest {
            operation: Operation::Connect,
            info: call.info(),
            namespace: call.namespace().unwrap_or_default(),
            name: call.name(),
            subresource: call.subresource(),
            user: &call.user,
            dry_run: false,
            object: None,
            old: None,
            body: None,
            warnings: Vec::new(),
        };
        core.admission.mutate(&mut asked).await?;
        core.admission.validate(&mut asked).await?;
    }
    match call.subresource() {
        "proxy" => proxy::serve(call, request).await,
        "log" if call.method != Method::GET => Err(crate::transport::response::method_not_allowed()),
        "log" => log(call).await,
        _ => streams(call, request).await,
    }
}

/// The pod with the kubelet that runs it, and the path there.
async fn kubelet_of(call: &Call) -> Result<(dial::Target, String), LocationError> {
    let name = call.name();
    let pod: Pod = call.core.objects.read(call.namespace(), name).await?.ok_or_else(|| call.not_found(name))?;
    let path = location::kubelet_path(&pod, call.subresource(), &call.query)?;
    let node = pod.spec.as_ref().and_then(|s| s.node_name.clone()).unwrap_or_default();
    let node: Node = call.core.objects.read(None, &node).await?.ok_or_else(|| StatusError::not_found("", "nodes", &node))?;
    Ok((call.core.kubelets.target(&node)?, path))
}

async fn log(call: &Call) -> Result<Response<Body>, StatusError> {
    let (target, path) = match kubelet_of(call).await {
        // Upstream answers an empty log for a pod that no node has yet.
        Err(LocationError::Unbound(_)) => return Ok(plain_log(Body::empty())),
        found => found?,
    };
    let request = Request::builder().uri(&path).body(request_body(http_body_util::Empty::new())).map_err(StatusError::internal)?;
    let response = forward::send(&call.core.tasks, &target, request).await?;
    if !response.status().is_success() {
        let code = response.status().as_u16();
        return Err(forward::as_status(code, &forward::text(response).await, call.info().resource, call.name()));
    }
    Ok(plain_log(Body::Proxied(response.into_body().map_err(Into::into).boxed_unsync())))
}

fn plain_log(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    response
}

/// exec, attach and portforward: new clients speak WebSocket, which is translated; SPDY goes through as it is.
async fn streams(call: &Call, mut request: Request<RequestBody>) -> Result<Response<Body>, StatusError> {
    let (target, path) = kubelet_of(call).await?;
    if upgrade::requested(request.headers()) == Some(Upgrade::WebSocket) {
        let offered = upgrade::values(request.headers(), &upgrade::SEC_WEBSOCKET_PROTOCOL);
        let known = [upgrade::V5_CHANNEL, upgrade::V4_CHANNEL, upgrade::PORT_FORWARD_TUNNEL];
        if let Some(protocol) = known.into_iter().find(|p| offered.contains(p)) {
            return translated(call, request, &target, &path, protocol).await;
        }
    }
    *request.uri_mut() = path.parse().map_err(StatusError::internal)?;
    forward::relay(&call.core.tasks, &target, request).await
}

/// Speaks SPDY with the kubelet and, once that stands, WebSocket with the client.
async fn translated(
    call: &Call,
    mut request: Request<RequestBody>,
    target: &dial::Target,
    path: &str,
    protocol: &'static str,
) -> Result<Response<Body>, StatusError> {
    let is_tunnel = protocol == upgrade::PORT_FORWARD_TUNNEL;
    let inner = if is_tunnel { upgrade::PORT_FORWARD } else { upgrade::V4_CHANNEL };
    let onward = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(http::header::CONNECTION, "Upgrade")
        .header(UPGRADE, "SPDY/3.1")
        .header(upgrade::STREAM_PROTOCOL_VERSION, inner)
        .body(request_body(http_body_util::Empty::new()))
        .map_err(StatusError::internal)?;
    let mut answer = forward::send(&call.core.tasks, target, onward).await?;
    if answer.status() != http::StatusCode::SWITCHING_PROTOCOLS {
        let code = answer.status().as_u16();
        return Err(forward::as_status(code, &forward::text(answer).await, call.info().resource, call.name()));
    }
    let response = upgrade::accept_websocket::<()>(request.headers(), Some(protocol))
        .ok_or_else(|| StatusError::bad_request("a WebSocket request needs Sec-WebSocket-Key"))?;
    let command = Command::from_query(call.uri.query().unwrap_or_default());
    let ours = hyper::upgrade::on(&mut request);
    let theirs = hyper::upgrade::on(&mut answer);
    call.core.tasks.spawn("apiserver-stream", async move {
        let joined = tokio::try_join!(ours, theirs);
        let (client, runtime) = match joined {
            Ok((client, runtime)) => (hyper_util::rt::TokioIo::new(client), hyper_util::rt::TokioIo::new(runtime)),
            Err(error) => return tracing::debug!(%error, "an upgrade did not happen"),
        };
        let ended =
            if is_tunnel { translate::tunnel(client, runtime).await } else { translate::remote_command(client, runtime, command).await };
        if let Err(error) = ended {
            tracing::debug!(%error, "a stream ended");
        }
    });
    Ok(response.map(|()| Body::empty()))
}
