//! `proxy` of pods, services and nodes: any HTTP request to a port inside the cluster.

use api::core::v1::{Endpoints, Node, Pod, Service};
use api::{Reason, StatusError};
use http::{Request, Response};
use rand::Rng;

use super::dial::Target;
use super::forward;
use crate::pipeline::Call;
use crate::transport::body::{Body, RequestBody};

pub async fn serve(call: &Call, mut request: Request<RequestBody>) -> Result<Response<Body>, StatusError> {
    let wanted = Wanted::parse(call.name())?;
    let target = match call.info().resource {
        "pods" => pod(call, &wanted).await?,
        "services" => service(call, &wanted)?,
        _ => node(call, &wanted).await?,
    };
    let path = if call.path.rest.is_empty() { "/" } else { call.path.rest.as_str() };
    let uri = call.uri.query().map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    *request.uri_mut() = uri.parse().map_err(StatusError::internal)?;
    forward::relay(&call.core.tasks, &target, request)
        .await
        .map_err(|error| StatusError::new(Reason::ServiceUnavailable, format!("error trying to reach service: {}", error.message())))
}

/// `[SCHEME:]NAME[:PORT]`.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    is_https: bool,
    name: String,
    port: String,
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, StatusError> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return Err(StatusError::bad_request(format!("invalid proxy request {text:?}"))),
        };
        if !matches!(scheme, "" | "http" | "https") || name.is_empty() {
            return Err(StatusError::bad_request(format!("invalid proxy request {text:?}")));
        }
        Ok(Self { is_https: scheme == "https", name: name.to_owned(), port: port.to_owned() })
    }

    fn number(&self) -> Option<u16> {
        self.port.parse().ok()
    }
}

fn target(call: &Call, host: String, port: u16, is_https: bool) -> Target {
    Target { host, port, tls: is_https.then(|| call.core.kubelets.unverified.clone()) }
}

async fn pod(call: &Call, wanted: &Wanted) -> Result<Target, StatusError> {
    let pod: Pod = call.core.objects.read(call.namespace(), &wanted.name).await?.ok_or_else(|| call.not_found(&wanted.name))?;
    let ip = pod.status.and_then(|s| s.pod_ip).filter(|ip| !ip.is_empty());
    let ip = ip.ok_or_else(|| StatusError::bad_request("address not allowed: the pod has no IP yet"))?;
    let containers = pod.spec.map(|s| s.containers).unwrap_or_default();
    let mut ports = containers.iter().flat_map(|c| c.ports.iter().flatten());
    let port = match (wanted.number(), wanted.port.as_str()) {
        (Some(number), _) => number,
        (None, "") => ports.next().and_then(|p| u16::try_from(p.container_port).ok()).unwrap_or(if wanted.is_https { 443 } else { 80 }),
        (None, name) => {
            let found = ports.find(|p| p.name.as_deref() == Some(name)).and_then(|p| u16::try_from(p.container_port).ok());
            found.ok_or_else(|| StatusError::bad_request(format!("the pod has no port {name:?}")))?
        }
    };
    Ok(target(call, ip, port, wanted.is_https))
}

/// One of the service's ready endpoints, by chance (ResourceLocation in registry/core/service/storage).
fn service(call: &Call, wanted: &Wanted) -> Result<Target, StatusError> {
    let objects = &call.core.objects;
    let service = objects.get::<Service>(call.namespace(), &wanted.name).ok_or_else(|| call.not_found(&wanted.name))?;
    let ports = service.spec.as_ref().and_then(|s| s.ports.as_deref()).unwrap_or_default();
    let unavailable = |message: String| StatusError::new(Reason::ServiceUnavailable, message);
    let port = match (wanted.number(), wanted.port.as_str()) {
        (None, "") => ports.first().filter(|_| ports.len() == 1),
        (number, name) => ports.iter().find(|p| p.name.as_deref() == Some(name) || number.is_some_and(|n| i32::from(n) == p.port)),
    };
    let port = port.ok_or_else(|| unavailable(format!("no service port {:?} found for service {:?}", wanted.port, wanted.name)))?;
    let port_name = port.name.as_deref().unwrap_or_default();
    let endpoints = objects.get::<Endpoints>(call.namespace(), &wanted.name);
    let subsets = endpoints.as_ref().and_then(|e| e.subsets.as_deref()).unwrap_or_default();
    let mut found: Vec<(String, u16)> = Vec::new();
    for subset in subsets {
        let number = subset.ports.iter().flatten().find(|p| p.name.as_deref().unwrap_or_default() == port_name);
        let Some(number) = number.and_then(|p| u16::try_from(p.port).ok()) else { continue };
        found.extend(subset.addresses.iter().flatten().map(|a| (a.ip.clone(), number)));
    }
    if found.is_empty() {
        return Err(unavailable(format!("no endpoints available for service {:?}", wanted.name)));
    }
    let (ip, number) = found.swap_remove(rand::rng().random_range(0..found.len()));
    Ok(target(call, ip, number, wanted.is_https))
}

/// The kubelet, or another port of the node.
async fn node(call: &Call, wanted: &Wanted) -> Result<Target, StatusError> {
    let node: Node = call.core.objects.read(None, &wanted.name).await?.ok_or_else(|| call.not_found(&wanted.name))?;
    let kubelet = call.core.kubelets.target(&node)?;
    match wanted.number() {
        None if wanted.port.is_empty() => Ok(kubelet),
        Some(port) if port == kubelet.port => Ok(kubelet),
        Some(port) => Ok(target(call, kubelet.host, port, wanted.is_https)),
        None => Err(StatusError::bad_request(format!("{:?} is not a port number", wanted.port))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(bool, &str, &str)>) {
        let seen = Wanted::parse(text).ok();
        let expected = expected.map(|(is_https, name, port)| Wanted { is_https, name: name.into(), port: port.into() });
        assert_eq!(seen, expected, "{text}");
    }

    #[test]
    fn names() {
        check("a", Some((false, "a", "")));
        check("a:80", Some((false, "a", "80")));
        check("https:a:web", Some((true, "a", "web")));
        check("ftp:a:1", None);
        check("a:b:c:d", None);
    }
}
