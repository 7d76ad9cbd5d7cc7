//! Ingress.

use api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressSpec};
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, NONE, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{each, each_int, optional_text, required, required_text, shown};

impl Kind for Ingress {
    const INFO: KindInfo = KindInfo {
        singular: "ingress",
        short_names: &["ing"],
        subresources: &[Subresource::STATUS],
        storage_prefix: "ingress",
        schema: "io.k8s.api.networking.v1.Ingress",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
        self.status.get_or_insert_default().load_balancer.get_or_insert_default();
    }

    fn prepare_create(&mut self) {
        self.status = Some(api::networking::v1::IngressStatus { load_balancer: Some(Default::default()) });
    }

    spec_and_status!(updates);

    fn validate(&self, errors: &mut FieldErrors) {
        let none = IngressSpec::default();
        spec_rules(errors, &Path::new("spec"), self.spec.as_ref().unwrap_or(&none));
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Class", "string"), column("Hosts", "string"), column("Address", "string"), column("Ports", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let ports = if spec.tls.as_ref().is_some_and(|tls| !tls.is_empty()) { "80, 443" } else { "80" };
        vec![
            name(&self.metadata),
            json!(spec.ingress_class_name.as_deref().unwrap_or(NONE)),
            json!(hosts(&spec)),
            json!(addresses(self)),
            json!(ports),
            age(&self.metadata, now),
        ]
    }
}

fn hosts(spec: &IngressSpec) -> String {
    let rules = spec.rules.as_deref().unwrap_or_default();
    let named = rules.iter().filter_map(|rule| rule.host.clone()).filter(|host| !host.is_empty());
    let list: Vec<String> = named.take(3).collect();
    if list.is_empty() {
        return "*".to_owned();
    }
    let shown = list.join(",");
    if rules.len() > 3 { format!("{shown} + {} more...", rules.len() - 3) } else { shown }
}

fn addresses(ingress: &Ingress) -> String {
    let status = ingress.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let points = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let mut list: Vec<String> = points.filter_map(|point| given(&point.ip).or_else(|| given(&point.hostname))).collect();
    list.sort();
    list.dedup();
    list.join(",")
}

fn spec_rules(errors: &mut FieldErrors, path: &Path, spec: &IngressSpec) {
    let rules = spec.rules.as_deref().unwrap_or_default();
    match &spec.default_backend {
        Some(backend) => backend_rules(errors, &path.child("defaultBackend"), backend),
        None if rules.is_empty() => {
            errors.invalid(path, &shown(&rules), "either `defaultBackend` or `rules` must be specified");
        }
        None => {}
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = path.child("rules").index(index);
        host(errors, &path.child("host"), rule.host.as_deref().unwrap_or_default());
        let Some(http) = &rule.http else { continue };
        let paths_path = path.child("http").child("paths");
        if http.paths.is_empty() {
            errors.required(&paths_path, "");
        }
        for (index, rule) in http.paths.iter().enumerate() {
            path_rules(errors, &paths_path.index(index), rule);
        }
    }
    for (index, tls) in spec.tls.iter().flatten().enumerate() {
        let path = path.child("tls").index(index);
        for (position, name) in tls.hosts.iter().flatten().enumerate() {
            host(errors, &path.child("hosts").index(position), name);
        }
        optional_text(errors, &path.child("secretName"), tls.secret_name.as_deref(), names::dns_subdomain);
    }
    optional_text(errors, &path.child("ingressClassName"), spec.ingress_class_name.as_deref(), names::dns_subdomain);
}

fn host(errors: &mut FieldErrors, path: &Path, host: &str) {
    if host.parse::<std::net::IpAddr>().is_ok() {
        errors.invalid(path, host, "must be a DNS name, not an IP address");
    } else if host.contains('*') {
        each(errors, path, host, names::wildcard_dns_subdomain(host));
    } else if !host.is_empty() {
        each(errors, path, host, names::dns_subdomain(host));
    }
}

fn path_rules(errors: &mut FieldErrors, path: &Path, rule: &HTTPIngressPath) {
    let text = rule.path.as_deref().unwrap_or_default();
    match rule.path_type.as_str() {
        "" => errors.required(&path.child("pathType"), "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !text.starts_with('/') {
                errors.invalid(&path.child("path"), text, "must be an absolute path");
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|bad| text.contains(**bad)) {
                errors.invalid(&path.child("path"), text, &format!("must not contain '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.starts_with('/') {
                errors.invalid(&path.child("path"), text, "must be an absolute path");
            }
        }
        other => errors.not_supported(&path.child("pathType"), other, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend_rules(errors, &path.child("backend"), &rule.backend);
}

fn backend_rules(errors: &mut FieldErrors, path: &Path, backend: &IngressBackend) {
    match (&backend.service, &backend.resource) {
        (Some(_), Some(_)) => errors.invalid(path, "", "cannot set both resource and service backends"),
        (None, None) => errors.required(path, "backend must specify one of service or resource"),
        (None, Some(resource)) => {
            required(errors, &path.child("resource").child("kind"), &resource.kind, "kind is required");
            required(errors, &path.child("resource").child("name"), &resource.name, "name is required");
        }
        (Some(service), None) => {
            let path = path.child("service");
            required_text(errors, &path.child("name"), &service.name, names::dns_1035_label);
            let port = service.port.clone().unwrap_or_default();
            let (name, number) = (port.name.unwrap_or_default(), port.number.unwrap_or(0));
            match (name.is_empty(), number) {
                (true, 0) => errors.required(&path, "port name or number is required"),
                (true, number) => {
                    let path = path.child("port").child("number");
                    each_int(errors, &path, i64::from(number), names::port_number(number));
                }
                (false, 0) => each(errors, &path.child("port").child("name"), &name, names::port_name(&name)),
                (false, _) => errors.invalid(&path, "", "cannot set both port name & port number"),
            }
        }
    }
}
