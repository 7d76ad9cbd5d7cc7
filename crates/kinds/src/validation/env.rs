//! Rules on environment variables and references to fields (pkg/apis/core/validation: ValidateEnv).

use api::core::v1::{EnvFromSource, EnvVar, EnvVarSource, ObjectFieldSelector, ResourceFieldSelector};
use api::{FieldErrors, Path, names};

use super::{each, not_supported_sorted, required, required_text};

const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// Fields that a downward API volume may show.
pub const VOLUME_FIELDS: &[&str] = &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

const RESOURCES: &[&str] =
    &["limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory"];

pub fn env(errors: &mut FieldErrors, path: &Path, vars: &[EnvVar]) {
    for (index, var) in vars.iter().enumerate() {
        let path = path.index(index);
        required_text(errors, &path.child("name"), &var.name, names::env_var_name);
        if let Some(source) = &var.value_from {
            let value = var.value.as_deref().unwrap_or_default();
            env_source(errors, &path.child("valueFrom"), source, value);
        }
    }
}

fn env_source(errors: &mut FieldErrors, path: &Path, source: &EnvVarSource, value: &str) {
    let mut count = 0;
    if let Some(field) = &source.field_ref {
        count += 1;
        field_ref(errors, &path.child("fieldRef"), field, ENV_FIELDS);
    }
    if let Some(resource) = &source.resource_field_ref {
        count += 1;
        resource_field_ref(errors, &path.child("resourceFieldRef"), resource, false);
    }
    if let Some(selector) = &source.config_map_key_ref {
        count += 1;
        required_text(errors, &path.child("configMapKeyRef").child("key"), &selector.key, names::config_map_key);
    }
    if let Some(selector) = &source.secret_key_ref {
        count += 1;
        required_text(errors, &path.child("secretKeyRef").child("key"), &selector.key, names::config_map_key);
    }
    if let Some(selector) = &source.file_key_ref {
        count += 1;
        let path = path.child("fileKeyRef");
        required_text(errors, &path.child("key"), &selector.key, names::env_var_name);
        required_text(errors, &path.child("volumeName"), &selector.volume_name, names::dns_label);
        super::volumes::local_path(errors, &path.child("path"), &selector.path);
    }
    match count {
        0 => errors.invalid(
            path,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if !value.is_empty() => errors.invalid(path, "", "may not be specified when `value` is not empty"),
        1 => {}
        _ => errors.invalid(path, "", "may not have more than one field specified at a time"),
    }
}

/// A reference to a field of the pod; `fields` is sorted.
pub fn field_ref(errors: &mut FieldErrors, path: &Path, field: &ObjectFieldSelector, fields: &[&str]) {
    let version = field.api_version.as_deref().unwrap_or_default();
    let field_path = path.child("fieldPath");
    if version.is_empty() {
        errors.required(&path.child("apiVersion"), "");
        return;
    }
    if field.field_path.is_empty() {
        errors.required(&field_path, "");
        return;
    }
    if version != "v1" {
        let detail = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.invalid(&field_path, &field.field_path, &detail);
        return;
    }
    if let Some((map, key)) = field.field_path.strip_suffix("']").and_then(|rest| rest.split_once("['")) {
        match map {
            "metadata.annotations" => each(errors, &field_path, key, names::qualified_name(&key.to_lowercase())),
            "metadata.labels" => each(errors, &field_path, key, names::qualified_name(key)),
            _ => errors.invalid(&field_path, map, "does not support subscript"),
        }
    } else if !fields.contains(&field.field_path.as_str()) {
        unknown_field(errors, &field_path, &field.field_path, fields);
    }
}

fn unknown_field(errors: &mut FieldErrors, path: &Path, field: &str, fields: &[&str]) {
    if ENV_FIELDS.contains(&field) || VOLUME_FIELDS.contains(&field) {
        not_supported_sorted(errors, path, field, fields);
    } else {
        errors.invalid(path, field, &format!("error converting fieldPath: field label not supported: {field}"));
    }
}

/// A reference to a container's resources; in volumes the container must be named.
pub fn resource_field_ref(errors: &mut FieldErrors, path: &Path, field: &ResourceFieldSelector, volume: bool) {
    if volume && field.container_name.as_deref().unwrap_or_default().is_empty() {
        errors.required(&path.child("containerName"), "");
        return;
    }
    required(errors, &path.child("resource"), &field.resource, "");
    let huge = field.resource.starts_with("requests.hugepages-") || field.resource.starts_with("limits.hugepages-");
    if !field.resource.is_empty() && !huge && !RESOURCES.contains(&field.resource.as_str()) {
        not_supported_sorted(errors, &path.child("resource"), &field.resource, RESOURCES);
    }
    if let Some(divisor) = &field.divisor {
        divisor_of(errors, &path.child("divisor"), &field.resource, divisor);
    }
}

fn divisor_of(errors: &mut FieldErrors, path: &Path, resource: &str, divisor: &api::Quantity) {
    let Ok(amount) = api::quantity::parse(&divisor.0) else {
        errors.invalid(path, &divisor.0, "must be a quantity");
        return;
    };
    if amount.is_zero() {
        return;
    }
    let known: &[&str] = match resource.split_once('.').map(|(_, name)| name) {
        Some("cpu") => &["1m", "1"],
        Some("memory" | "ephemeral-storage") => &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"],
        _ => return,
    };
    if !known.contains(&amount.to_string().as_str()) {
        let only = if known.len() == 2 {
            "only divisor's values 1m and 1 are supported with the cpu resource"
        } else {
            "only divisor's values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory resource"
        };
        errors.invalid(path, &divisor.0, only);
    }
}

pub fn env_from(errors: &mut FieldErrors, path: &Path, sources: &[EnvFromSource]) {
    for (index, source) in sources.iter().enumerate() {
        let path = path.index(index);
        if let Some(prefix) = source.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
            each(errors, &path.child("prefix"), prefix, names::env_var_name(prefix));
        }
        let mut count = 0;
        if let Some(reference) = &source.config_map_ref {
            count += 1;
            required_text(errors, &path.child("configMapRef").child("name"), &reference.name, names::dns_subdomain);
        }
        if let Some(reference) = &source.secret_ref {
            count += 1;
            required_text(errors, &path.child("secretRef").child("name"), &reference.name, names::dns_subdomain);
        }
        match count {
            0 => errors.invalid(&path, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(&path, "", "may not have more than one field specified at a time"),
        }
    }
}
