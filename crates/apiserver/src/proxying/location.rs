//! Paths of the kubelet's API for a pod's subresources (upstream: registry/core/pod/strategy.go). Pure.

use api::StatusError;
use api::core::v1::{Pod, PodSpec};

use crate::transport::query::Query;

/// Why a request cannot go on to a kubelet.
#[derive(Debug, thiserror::Error)]
pub enum LocationError {
    /// No node has the pod yet.
    #[error("pod {0} does not have a host assigned")]
    Unbound(String),
    #[error(transparent)]
    Refused(#[from] StatusError),
}

impl From<LocationError> for StatusError {
    fn from(error: LocationError) -> Self {
        match error {
            LocationError::Unbound(_) => Self::bad_request(error.to_string()),
            LocationError::Refused(status) => status,
        }
    }
}

/// The kubelet's path with its query: `/exec/NS/POD/CONTAINER?command=ls&output=1`.
pub fn kubelet_path(pod: &Pod, subresource: &str, query: &Query) -> Result<String, LocationError> {
    let (namespace, name) = (pod.metadata.namespace.as_deref().unwrap_or_default(), pod.metadata.name.as_deref().unwrap_or_default());
    let spec = pod.spec.as_ref().ok_or_else(|| StatusError::internal("a pod without a spec"))?;
    let container = if subresource == "portforward" { None } else { Some(container(spec, name, query.text("container"))?) };
    if spec.node_name.as_deref().unwrap_or_default().is_empty() {
        return Err(LocationError::Unbound(name.to_owned()));
    }
    let mut pairs: Vec<(&str, String)> = Vec::new();
    let path = match subresource {
        "log" => {
            for flag in ["follow", "previous", "timestamps"] {
                if query.flag(flag) {
                    pairs.push((flag, "true".into()));
                }
            }
            for text in ["sinceSeconds", "sinceTime", "tailLines", "limitBytes", "stream"] {
                pairs.extend(query.text(text).map(|value| (text, value.to_owned())));
            }
            "containerLogs"
        }
        "portforward" => {
            pairs.extend(query.all("ports").map(|port| ("port", port.to_owned())));
            "portForward"
        }
        connects => {
            for (asked, kubelets) in [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")] {
                if query.flag(asked) {
                    pairs.push((kubelets, "1".into()));
                }
            }
            pairs.extend(query.all("command").map(|word| ("command", word.to_owned())));
            connects
        }
    };
    let tail = container.map(|c| format!("/{c}")).unwrap_or_default();
    let query: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={}", encode(value))).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    Ok(format!("/{path}/{namespace}/{name}{tail}{mark}{}", query.join("&")))
}

/// The container that is meant; there must be one only where none is named.
fn container(spec: &PodSpec, pod: &str, wanted: Option<&str>) -> Result<String, StatusError> {
    let containers: Vec<&str> = spec.containers.iter().map(|c| c.name.as_str()).collect();
    let init: Vec<&str> = spec.init_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    let ephemeral: Vec<&str> = spec.ephemeral_containers.iter().flatten().map(|c| c.name.as_str()).collect();
    match (wanted, containers.as_slice()) {
        (Some(name), _) if containers.contains(&name) || init.contains(&name) || ephemeral.contains(&name) => Ok(name.to_owned()),
        (Some(name), _) => Err(StatusError::bad_request(format!("container {name} is not valid for pod {pod}"))),
        (None, [one]) => Ok((*one).to_owned()),
        (None, []) => Err(StatusError::bad_request(format!("a container name must be specified for pod {pod}"))),
        (None, _) => {
            let mut message = format!("a container name must be specified for pod {pod}, choose one of: [{}]", containers.join(" "));
            if !init.is_empty() {
                message.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(StatusError::bad_request(message))
        }
    }
}

/// Percent-encodes a query value.
fn encode(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(b).to_string(),
            _ => format!("%{b:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(containers: &[&str], subresource: &str, query: &str, expected: Result<&str, &str>) {
        let list: Vec<_> = containers.iter().map(|name| serde_json::json!({"name": name})).collect();
        let pod = serde_json::json!({"metadata": {"name": "p", "namespace": "n"}, "spec": {"nodeName": "x", "containers": list}});
        let seen = kubelet_path(&serde_json::from_value(pod).unwrap(), subresource, &Query::parse(Some(query)));
        let seen = seen.map_err(|error| error.to_string());
        assert_eq!(seen.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn paths() {
        check(&["c"], "log", "follow=true&tailLines=5", Ok("/containerLogs/n/p/c?follow=true&tailLines=5"));
        check(
            &["c"],
            "exec",
            "command=sh&command=-c&command=a+b&stdin=true&stdout=1&tty=false",
            Ok("/exec/n/p/c?input=1&output=1&command=sh&command=-c&command=a%20b"),
        );
        check(&["c", "d"], "attach", "container=d&stderr=true", Ok("/attach/n/p/d?error=1"));
        check(&["c"], "portforward", "", Ok("/portForward/n/p"));
        check(&["c", "d"], "log", "", Err("a container name must be specified for pod p, choose one of: [c d]"));
        check(&["c"], "log", "container=x", Err("container x is not valid for pod p"));
    }

    #[test]
    fn pods_without_a_node() {
        let pod: Pod =
            serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}})).unwrap();
        let error = StatusError::from(kubelet_path(&pod, "exec", &Query::default()).unwrap_err());
        assert_eq!((error.code(), error.message()), (400, "pod p does not have a host assigned"));
    }
}
