//! The downward API: fields and resources of a pod as text. Pure (pkg/fieldpath, component-helpers/resource).

use std::collections::BTreeMap;

use api::Quantity;
use api::core::v1::{Container, Pod, ResourceFieldSelector};

use super::resources::{limit, request};
use super::{find_container, name, namespace, spec, uid};

/// Addresses that are known only once the pod has a network.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    pub host_ips: Vec<String>,
    pub pod_ips: Vec<String>,
}

/// What limits default to.
pub type Allocatable = BTreeMap<String, Quantity>;

/// The value of a fieldRef; `None` is a path that does not exist.
pub fn field(pod: &Pod, path: &str, addresses: &Addresses) -> Option<String> {
    let first = |list: &[String]| list.first().cloned().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.annotations" => pod.metadata.annotations.as_ref(),
            "metadata.labels" => pod.metadata.labels.as_ref(),
            _ => return None,
        };
        return Some(map.and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    Some(match path {
        "metadata.name" => name(pod).to_owned(),
        "metadata.namespace" => namespace(pod).to_owned(),
        "metadata.uid" => uid(pod).to_owned(),
        "metadata.labels" => map_text(pod.metadata.labels.as_ref()),
        "metadata.annotations" => map_text(pod.metadata.annotations.as_ref()),
        "spec.nodeName" => spec(pod).node_name.clone().unwrap_or_default(),
        "spec.serviceAccountName" => spec(pod).service_account_name.clone().unwrap_or_default(),
        "status.hostIP" => first(&addresses.host_ips),
        "status.hostIPs" => addresses.host_ips.join(","),
        "status.podIP" => first(&addresses.pod_ips),
        "status.podIPs" => addresses.pod_ips.join(","),
        _ => return None,
    })
}

/// `metadata.labels['key']` as its two parts.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// `key="value"` lines, values quoted as Go quotes.
fn map_text(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", go_quote(value))).collect();
    lines.join("\n")
}

fn go_quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && u32::from(c) < 0x80 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The value of a resourceFieldRef in units of its divisor, rounded up. Limits that are not set are what the node allows.
pub fn resource(pod: &Pod, own: &Container, selector: &ResourceFieldSelector, allocatable: &Allocatable) -> Result<String, String> {
    let other;
    let container = match selector.container_name.as_deref().filter(|name| !name.is_empty()) {
        None => own,
        Some(name) => {
            other = find_container(pod, name).ok_or_else(|| format!("container {name} not found"))?.0;
            &other
        }
    };
    let path = selector.resource.as_str();
    let quantity = match path.split_once('.') {
        Some(("limits", name)) => limit(container, name).or_else(|| allocatable.get(name)),
        Some(("requests", name)) => request(container, name),
        _ => return Err(format!("unsupported container resource : {path}")),
    };
    let text = quantity.map_or("0", |quantity| quantity.0.as_str());
    let divisor = selector.divisor.as_ref().map_or("1", |divisor| divisor.0.as_str());
    let divisor = if divisor == "0" { "1" } else { divisor };
    let amount = api::quantity::parse(text).map_err(|error| error.to_string())?;
    let divisor = api::quantity::parse(divisor).map_err(|error| error.to_string())?;
    let (amount, divisor) =
        if path.ends_with(".cpu") { (amount.milli_value(), divisor.milli_value()) } else { (amount.value(), divisor.value()) };
    let divisor = divisor.max(1);
    Ok((amount / divisor + i64::from(amount % divisor != 0)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "labels": {"a": "1", "b": "x\"y"}},
            "spec": {"nodeName": "node", "containers": [
                {"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "64Mi"}}}]}}))
        .unwrap()
    }

    #[test]
    fn fields() {
        let addresses = Addresses { host_ips: vec!["1.1.1.1".into()], pod_ips: vec!["2.2.2.2".into(), "::2".into()] };
        let check = |path: &str, expected: Option<&str>| assert_eq!(field(&pod(), path, &addresses).as_deref(), expected, "{path}");
        check("metadata.name", Some("p"));
        check("metadata.labels['a']", Some("1"));
        check("metadata.labels['none']", Some(""));
        check("metadata.labels", Some("a=\"1\"\nb=\"x\\\"y\""));
        check("spec.nodeName", Some("node"));
        check("status.podIPs", Some("2.2.2.2,::2"));
        check("status.hostIP", Some("1.1.1.1"));
        check("status.phase", None);
    }

    #[test]
    fn resources() {
        let allocatable = Allocatable::from([("memory".into(), Quantity("1Gi".into()))]);
        let check = |resource_name: &str, divisor: &str, expected: &str| {
            let selector = ResourceFieldSelector {
                resource: resource_name.into(),
                divisor: Some(Quantity(divisor.into())),
                container_name: Some("c".into()),
            };
            assert_eq!(resource(&pod(), &Container::default(), &selector, &allocatable).unwrap(), expected, "{resource_name}");
        };
        check("limits.cpu", "1", "2");
        check("limits.cpu", "1m", "1500");
        check("requests.memory", "1Mi", "64");
        check("limits.memory", "1Mi", "1024");
        check("requests.cpu", "0", "0");
    }
}
