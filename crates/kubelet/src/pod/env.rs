//! The environment of a container: literal, from fields, resources, config maps and secrets, and of services
//! (makeEnvironmentVariables in pkg/kubelet/kubelet_pods.go; pkg/kubelet/envvars).

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::v1::{ConfigMap, Container, EnvFromSource, EnvVarSource, Pod, Secret, Service};

use super::downward::{Addresses, Allocatable, field, resource};
use super::expand::expand;
use super::{namespace, spec};
use crate::objects::{ObjectError, Objects};

/// What of the node and its pod the environment may name.
pub struct EnvContext<'a> {
    pub objects: &'a Objects,
    pub services: &'a [Arc<Service>],
    pub addresses: &'a Addresses,
    pub allocatable: &'a Allocatable,
}

/// Variables in order of definition, a later one of the same name replacing the earlier.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    list: Vec<(String, String)>,
}

impl Environment {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.list.iter_mut().find(|(key, _)| *key == name) {
            Some(entry) => entry.1 = value,
            None => self.list.push((name, value)),
        }
    }

    pub fn into_list(self) -> Vec<(String, String)> {
        self.list
    }
}

/// Makes the environment; an `Err` is what CreateContainerConfigError says.
pub async fn make(pod: &Pod, container: &Container, context: &EnvContext<'_>) -> Result<Environment, String> {
    let links = spec(pod).enable_service_links.unwrap_or(true);
    let service_env = service_variables(context.services, namespace(pod), links);
    let mut maker = Maker { pod, container, context, config_maps: BTreeMap::new(), secrets: BTreeMap::new(), out: Environment::default() };
    for source in container.env_from.as_deref().unwrap_or_default() {
        maker.all_of(source).await?;
    }
    for variable in container.env.as_deref().unwrap_or_default() {
        let value = match (&variable.value, &variable.value_from) {
            (Some(text), _) if !text.is_empty() => {
                let out = &maker.out;
                Some(expand(text, |name| out.get(name).or_else(|| service_env.get(name).map(String::as_str))))
            }
            (_, Some(source)) => maker.one_of(source).await?,
            _ => Some(String::new()),
        };
        if let Some(value) = value {
            maker.out.set(variable.name.clone(), value);
        }
    }
    let mut out = maker.out;
    for (name, value) in service_env {
        if out.get(&name).is_none() {
            out.set(name, value);
        }
    }
    Ok(out)
}

struct Maker<'a> {
    pod: &'a Pod,
    container: &'a Container,
    context: &'a EnvContext<'a>,
    config_maps: BTreeMap<String, ConfigMap>,
    secrets: BTreeMap<String, Secret>,
    out: Environment,
}

impl Maker<'_> {
    /// `None` when it is optional and absent.
    async fn config_map(&mut self, name: &str, optional: bool) -> Result<Option<&ConfigMap>, String> {
        if !self.config_maps.contains_key(name) {
            match self.context.objects.config_map(namespace(self.pod), name).await {
                Ok(map) => self.config_maps.insert(name.to_owned(), map),
                Err(ObjectError::NotFound { .. }) if optional => return Ok(None),
                Err(error) => return Err(error.to_string()),
            };
        }
        Ok(self.config_maps.get(name))
    }

    async fn secret(&mut self, name: &str, optional: bool) -> Result<Option<&Secret>, String> {
        if !self.secrets.contains_key(name) {
            match self.context.objects.secret(namespace(self.pod), name).await {
                Ok(secret) => self.secrets.insert(name.to_owned(), secret),
                Err(ObjectError::NotFound { .. }) if optional => return Ok(None),
                Err(error) => return Err(error.to_string()),
            };
        }
        Ok(self.secrets.get(name))
    }

    async fn all_of(&mut self, source: &EnvFromSource) -> Result<(), String> {
        let prefix = source.prefix.clone().unwrap_or_default();
        let mut found = Vec::new();
        if let Some(reference) = &source.config_map_ref
            && let Some(map) = self.config_map(&reference.name, reference.optional.unwrap_or(false)).await?
        {
            found.extend(map.data.iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        }
        if let Some(reference) = &source.secret_ref
            && let Some(secret) = self.secret(&reference.name, reference.optional.unwrap_or(false)).await?
        {
            found.extend(secret.data.iter().flatten().map(|(key, value)| (key.clone(), lossy(&value.0))));
        }
        for (key, value) in found {
            let name = format!("{prefix}{key}");
            if is_variable_name(&name) {
                self.out.set(name, value);
            }
        }
        Ok(())
    }

    /// `None`: an optional source that is absent defines no variable.
    async fn one_of(&mut self, source: &EnvVarSource) -> Result<Option<String>, String> {
        let ns = namespace(self.pod).to_owned();
        if let Some(reference) = &source.field_ref {
            let path = &reference.field_path;
            return field(self.pod, path, self.context.addresses).map(Some).ok_or_else(|| format!("unsupported fieldPath: {path}"));
        }
        if let Some(selector) = &source.resource_field_ref {
            return resource(self.pod, self.container, selector, self.context.allocatable).map(Some);
        }
        if let Some(reference) = &source.config_map_key_ref {
            let optional = reference.optional.unwrap_or(false);
            let Some(map) = self.config_map(&reference.name, optional).await? else { return Ok(None) };
            let value = map.data.as_ref().and_then(|data| data.get(&reference.key)).cloned();
            return match value {
                None if !optional => Err(format!("couldn't find key {} in ConfigMap {ns}/{}", reference.key, reference.name)),
                value => Ok(value),
            };
        }
        if let Some(reference) = &source.secret_key_ref {
            let optional = reference.optional.unwrap_or(false);
            let Some(secret) = self.secret(&reference.name, optional).await? else { return Ok(None) };
            let value = secret.data.as_ref().and_then(|data| data.get(&reference.key)).map(|bytes| lossy(&bytes.0));
            return match value {
                None if !optional => Err(format!("couldn't find key {} in Secret {ns}/{}", reference.key, reference.name)),
                value => Ok(value),
            };
        }
        if source.file_key_ref.is_some() {
            return Err("environment variables from files (fileKeyRef) are not supported by this kubelet".into());
        }
        Ok(Some(String::new()))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Since v1.34 any printable ASCII but `=` (RelaxedEnvironmentVariableValidation).
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'=')
}

/// Docker-link style variables of the services that a pod of `namespace` sees: its own, and always default/kubernetes.
fn service_variables(services: &[Arc<Service>], namespace: &str, links: bool) -> BTreeMap<String, String> {
    let mut visible: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services {
        let own = service.metadata.namespace.as_deref() == Some(namespace);
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let master = service.metadata.namespace.as_deref() == Some("default") && name == "kubernetes";
        if (master && !visible.contains_key(name)) || (own && links) {
            visible.insert(name, service);
        }
    }
    let mut out = BTreeMap::new();
    for (name, service) in visible {
        add_service(name, service, &mut out);
    }
    out
}

fn add_service(name: &str, service: &Service, out: &mut BTreeMap<String, String>) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ip.is_empty() || ip == "None" {
        return;
    }
    let Some(first) = ports.first() else { return };
    let host = if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() };
    let prefix = variable_name(name);
    out.insert(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    out.insert(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(port_name) = port.name.as_deref().filter(|name| !name.is_empty()) {
            out.insert(format!("{prefix}_SERVICE_PORT_{}", variable_name(port_name)), port.port.to_string());
        }
    }
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let lower = protocol.to_lowercase();
        let url = format!("{lower}://{host}:{}", port.port);
        if index == 0 {
            out.insert(format!("{prefix}_PORT"), url.clone());
        }
        let port_prefix = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        out.insert(format!("{port_prefix}_PROTO"), lower);
        out.insert(format!("{port_prefix}_PORT"), port.port.to_string());
        out.insert(format!("{port_prefix}_ADDR"), ip.to_owned());
        out.insert(port_prefix, url);
    }
}

fn variable_name(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        Arc::new(
            serde_json::from_value(json!({"metadata": {"namespace": namespace, "name": name},
                "spec": {"clusterIP": ip, "ports": [{"name": "web", "port": 80, "protocol": "TCP"}]}}))
            .unwrap(),
        )
    }

    #[test]
    fn services_become_variables() {
        let services = [
            service("default", "kubernetes", "10.96.0.1"),
            service("n", "my-svc", "10.96.0.7"),
            service("n", "headless", "None"),
            service("m", "other", "10.96.0.8"),
        ];
        let all = service_variables(&services, "n", true);
        assert_eq!(all["MY_SVC_SERVICE_HOST"], "10.96.0.7");
        assert_eq!(all["MY_SVC_SERVICE_PORT_WEB"], "80");
        assert_eq!(all["MY_SVC_PORT_80_TCP"], "tcp://10.96.0.7:80");
        assert_eq!(all["KUBERNETES_SERVICE_HOST"], "10.96.0.1");
        assert!(!all.contains_key("HEADLESS_SERVICE_HOST") && !all.contains_key("OTHER_SERVICE_HOST"));
        let few = service_variables(&services, "n", false);
        assert!(few.contains_key("KUBERNETES_SERVICE_HOST") && !few.contains_key("MY_SVC_SERVICE_HOST"));
    }
}
