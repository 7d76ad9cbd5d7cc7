//! From a request's names to an address: which kubelet, pod or endpoint, and the path there (pkg/registry/core/{pod,service,node}/strategy.go).

use api::core::v1::{Node, Pod, Service};
use api::discovery::v1::EndpointSlice;
use api::{Reason, StatusError};

use super::options::KubeletClientOptions;
use crate::Objects;
use crate::pipeline::route::Path;
use crate::transport::query::Query;

const KUBELET_PORT: i32 = 10250;

/// Where to send a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub scheme: &'static str,
    /// Host and port.
    pub authority: String,
    pub path_and_query: String,
    /// A kubelet: our client certificate is shown and its certificate verified.
    pub kubelet: bool,
}

pub struct Finder<'a> {
    pub objects: &'a Objects,
    pub options: &'a KubeletClientOptions,
    pub path: &'a Path,
    pub query: &'a Query,
}

/// `[scheme:]name[:port]`, as names in proxy paths are written (apimachinery/pkg/util/net/port_split.go).
fn split_name(text: &str) -> Option<(&'static str, &str, &str)> {
    let parts: Vec<&str> = text.split(':').collect();
    let scheme = |text: &str| match text {
        "" | "http" => Some("http"),
        "https" => Some("https"),
        _ => None,
    };
    match parts.as_slice() {
        [name] => Some(("http", name, "")),
        [name, port] => Some(("http", name, port)),
        [first, name, port] => Some((scheme(first)?, name, port)),
        _ => None,
    }
}

/// `host:port`, with IPv6 addresses in brackets.
fn authority(host: &str, port: impl std::fmt::Display) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) { out.push(char::from(byte)) } else { out.push_str(&format!("%{byte:02X}")) }
    }
    out
}

impl Finder<'_> {
    fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    fn namespace(&self) -> &str {
        self.path.namespace.as_deref().unwrap_or_default()
    }

    fn get_pod(&self, name: &str) -> Result<std::sync::Arc<Pod>, StatusError> {
        self.objects.get::<Pod>(Some(self.namespace()), name).ok_or_else(|| StatusError::not_found("", "pods", name))
    }

    /// The container that is asked for; the only one, or the annotated default, where none is.
    fn container(&self, pod: &Pod) -> Result<String, StatusError> {
        let spec = pod.spec.clone().unwrap_or_default();
        let init: Vec<String> = spec.init_containers.iter().flatten().map(|c| c.name.clone()).collect();
        let mut plain: Vec<String> = spec.containers.iter().map(|c| c.name.clone()).collect();
        let debug: Vec<String> = spec.ephemeral_containers.iter().flatten().map(|c| c.name.clone()).collect();
        let pod_name = self.name();
        if let Some(wanted) = self.query.text("container") {
            let known = init.iter().chain(&plain).chain(&debug).any(|name| name == wanted);
            return if known {
                Ok(wanted.to_owned())
            } else {
                Err(StatusError::bad_request(format!("container {wanted} is not valid for pod {pod_name}")))
            };
        }
        if plain.len() == 1 && debug.is_empty() || plain.len() == 1 && self.path.subresource.as_deref() != Some("log") {
            return Ok(plain.remove(0));
        }
        if let Some(default) = pod.metadata.annotations.as_ref().and_then(|all| all.get("kubectl.kubernetes.io/default-container"))
            && plain.contains(default)
        {
            return Ok(default.clone());
        }
        let mut message = format!("a container name must be specified for pod {pod_name}, choose one of: [{}]", plain.join(" "));
        if !init.is_empty() {
            message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
        }
        if !debug.is_empty() {
            message.push_str(&format!(" or one of the ephemeral containers: [{}]", debug.join(" ")));
        }
        Err(StatusError::bad_request(message))
    }

    fn kubelet(&self, node: &Node, path_and_query: String) -> Result<Target, StatusError> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let status = node.status.clone().unwrap_or_default();
        let port = status.daemon_endpoints.and_then(|e| e.kubelet_endpoint).map_or(KUBELET_PORT, |e| e.port);
        let addresses = status.addresses.unwrap_or_default();
        // A host's name need not resolve here: addresses that are IPs are taken first where the wanted kinds have one.
        let wanted = || self.options.kubelet_preferred_address_types.iter();
        let of = |kind: &String| addresses.iter().find(|address| address.type_ == *kind);
        let ip = wanted().filter_map(of).find(|address| address.address.parse::<std::net::IpAddr>().is_ok());
        let host = ip.or_else(|| wanted().find_map(of)).map(|address| address.address.clone());
        let host = host.ok_or_else(|| StatusError::internal(format!("node {name:?} has no address that the API server may use")))?;
        Ok(Target { scheme: "https", authority: authority(&host, port), path_and_query, kubelet: true })
    }

    /// The kubelet of the pod's node; `None` when it has none.
    fn kubelet_of(&self, pod: &Pod, path_and_query: String) -> Result<Option<Target>, StatusError> {
        let Some(node) = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty()) else { return Ok(None) };
        let node = self.objects.get::<Node>(None, node).ok_or_else(|| StatusError::not_found("", "nodes", node))?;
        self.kubelet(&node, path_and_query).map(Some)
    }

    fn on_node(&self, pod: &Pod, path_and_query: String) -> Result<Target, StatusError> {
        let target = self.kubelet_of(pod, path_and_query)?;
        target.ok_or_else(|| StatusError::bad_request(format!("pod {} does not have a host assigned", self.name())))
    }

    /// Query parameters that go on unchanged.
    fn forwarded(&self, names: &[&str]) -> String {
        let pairs = names.iter().flat_map(|name| self.query.all(name).map(move |value| format!("{name}={}", encode(value))));
        let joined = pairs.collect::<Vec<_>>().join("&");
        if joined.is_empty() { joined } else { format!("?{joined}") }
    }

    pub fn log(&self) -> Result<Option<Target>, StatusError> {
        let pod = self.get_pod(self.name())?;
        let container = self.container(&pod)?;
        let query =
            self.forwarded(&["follow", "previous", "timestamps", "sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"]);
        self.kubelet_of(&pod, format!("/containerLogs/{}/{}/{container}{query}", self.namespace(), self.name()))
    }

    /// `what`: exec or attach. The kubelet names the streams differently than the API does.
    pub fn exec(&self, what: &str) -> Result<Target, StatusError> {
        let pod = self.get_pod(self.name())?;
        let container = self.container(&pod)?;
        let mut query: Vec<String> = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")]
            .into_iter()
            .filter(|(name, _)| self.query.flag(name))
            .filter(|(name, _)| !(*name == "stderr" && self.query.flag("tty")))
            .map(|(_, name)| format!("{name}=1"))
            .collect();
        query.extend(self.query.all("command").map(|word| format!("command={}", encode(word))));
        self.on_node(&pod, format!("/{what}/{}/{}/{container}?{}", self.namespace(), self.name(), query.join("&")))
    }

    pub fn port_forward(&self) -> Result<Target, StatusError> {
        let pod = self.get_pod(self.name())?;
        let query = self.forwarded(&["ports"]).replace("ports=", "port=");
        self.on_node(&pod, format!("/portForward/{}/{}{query}", self.namespace(), self.name()))
    }

    /// The path after `/proxy`, with the query.
    fn rest(&self) -> String {
        if self.path.rest.is_empty() { "/".to_owned() } else { self.path.rest.clone() }
    }

    fn bad_name(&self, kind: &str) -> StatusError {
        StatusError::bad_request(format!("invalid {kind} request {:?}", self.name()))
    }

    pub fn pod(&self) -> Result<Target, StatusError> {
        let (scheme, name, port) = split_name(self.name()).ok_or_else(|| self.bad_name("pod"))?;
        let pod = self.get_pod(name)?;
        let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).filter(|ip| !ip.is_empty());
        let address = address.ok_or_else(|| StatusError::bad_request("address not allowed"))?;
        let port = if port.is_empty() {
            let ports = pod.spec.iter().flat_map(|spec| &spec.containers).flat_map(|c| c.ports.iter().flatten());
            ports.map(|p| p.container_port).next().map_or_else(String::new, |port| port.to_string())
        } else {
            port.to_owned()
        };
        let port = if port.is_empty() { "80".to_owned() } else { port };
        Ok(Target { scheme, authority: authority(&address, port), path_and_query: self.rest(), kubelet: false })
    }

    pub fn node(&self) -> Result<Target, StatusError> {
        let (scheme, name, port) = split_name(self.name()).ok_or_else(|| self.bad_name("node"))?;
        let node = self.objects.get::<Node>(None, name).ok_or_else(|| StatusError::not_found("", "nodes", name))?;
        let kubelet = self.kubelet(&node, self.rest())?;
        if port.is_empty() || kubelet.authority.ends_with(&format!(":{port}")) {
            return Ok(kubelet);
        }
        let host = kubelet.authority.rsplit_once(':').map_or("", |(host, _)| host).trim_matches(['[', ']']);
        Ok(Target { scheme, authority: authority(host, port), path_and_query: self.rest(), kubelet: false })
    }

    pub fn service(&self) -> Result<Target, StatusError> {
        let (scheme, name, port) = split_name(self.name()).ok_or_else(|| self.bad_name("service"))?;
        let service = self.objects.get::<Service>(Some(self.namespace()), name);
        let service = service.ok_or_else(|| StatusError::not_found("", "services", name))?;
        let spec = service.spec.clone().unwrap_or_default();
        let ports = spec.ports.unwrap_or_default();
        let unavailable = |what: &str| StatusError::new(Reason::ServiceUnavailable, what.to_owned());
        let chosen = ports.iter().find(|candidate| {
            let named = candidate.name.as_deref().unwrap_or_default() == port || candidate.port.to_string() == port;
            named || port.is_empty() && ports.len() == 1
        });
        let chosen = chosen.ok_or_else(|| unavailable(&format!("no service port {port:?} found for service {name:?}")))?;
        let slices = self.objects.list::<EndpointSlice>(Some(self.namespace()));
        let of_service = slices.iter().filter(|slice| {
            slice.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/service-name")).map(String::as_str) == Some(name)
        });
        let mut ready: Vec<String> = Vec::new();
        for slice in of_service {
            let numbers = slice.ports.iter().flatten().filter(|p| p.name.clone().unwrap_or_default() == chosen.name.clone().unwrap_or_default());
            for number in numbers.filter_map(|p| p.port) {
                let endpoints = slice.endpoints.iter().filter(|e| e.conditions.as_ref().is_none_or(|c| c.ready != Some(false)));
                ready.extend(endpoints.filter_map(|e| e.addresses.first()).map(|address| authority(address, number)));
            }
        }
        if ready.is_empty() {
            return Err(unavailable(&format!("no endpoints available for service {name:?}")));
        }
        let chosen_at = (rand::random::<u32>() as usize) % ready.len();
        Ok(Target { scheme, authority: ready.swap_remove(chosen_at), path_and_query: self.rest(), kubelet: false })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_scheme_and_port() {
        let check = |text: &str, wanted: Option<(&'static str, &str, &str)>| assert_eq!(split_name(text), wanted, "{text}");
        check("web", Some(("http", "web", "")));
        check("web:80", Some(("http", "web", "80")));
        check("https:web:443", Some(("https", "web", "443")));
        check(":web:", Some(("http", "web", "")));
        check("ftp:web:1", None);
        check("a:b:c:d", None);
    }

    #[test]
    fn addresses_and_escapes() {
        assert_eq!(authority("10.0.0.1", 80), "10.0.0.1:80");
        assert_eq!(authority("fd00::1", "443"), "[fd00::1]:443");
        assert_eq!(encode("sh -c 'a&b'"), "sh%20-c%20%27a%26b%27");
    }
}
