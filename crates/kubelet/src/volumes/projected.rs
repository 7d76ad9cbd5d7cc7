//! The contents of config-map, secret, downward-API and projected volumes (pkg/volume/{configmap,secret,downwardapi,projected}).

use std::collections::BTreeMap;

use api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, DownwardAPIVolumeFile, DownwardAPIVolumeSource, Pod, ProjectedVolumeSource, Secret,
    SecretVolumeSource, ServiceAccountTokenProjection, VolumeProjection,
};

use super::payload::{File, Payload, add_items};
use crate::context::Context;
use crate::objects::ObjectError;
use crate::pod::downward::{Addresses, field, resource};
use crate::pod::{namespace, security, spec};

const DEFAULT_MODE: u32 = 0o644;
const DEFAULT_TOKEN_SECONDS: i64 = 3600;

fn mode(given: Option<i32>) -> u32 {
    given.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(DEFAULT_MODE)
}

fn config_map_data(map: ConfigMap) -> BTreeMap<String, Vec<u8>> {
    let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
    text.chain(map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0))).collect()
}

fn secret_data(secret: Secret) -> BTreeMap<String, Vec<u8>> {
    secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect()
}

/// An optional object that is not there has no contents.
fn or_empty(found: Result<BTreeMap<String, Vec<u8>>, ObjectError>, optional: bool) -> Result<BTreeMap<String, Vec<u8>>, String> {
    match found {
        Err(error) if optional && error.is_not_found() => Ok(BTreeMap::new()),
        found => found.map_err(|error| error.to_string()),
    }
}

pub async fn config_map(context: &Context, pod: &Pod, source: &ConfigMapVolumeSource) -> Result<Payload, String> {
    let optional = source.optional.unwrap_or(false);
    let found = context.objects.config_map(namespace(pod), &source.name).await.map(config_map_data);
    let mut out = Payload::new();
    add_items(&mut out, &or_empty(found, optional)?, source.items.as_deref(), mode(source.default_mode), optional, "config")?;
    Ok(out)
}

pub async fn secret(context: &Context, pod: &Pod, source: &SecretVolumeSource) -> Result<Payload, String> {
    let optional = source.optional.unwrap_or(false);
    let name = source.secret_name.as_deref().unwrap_or_default();
    let found = context.objects.secret(namespace(pod), name).await.map(secret_data);
    let mut out = Payload::new();
    add_items(&mut out, &or_empty(found, optional)?, source.items.as_deref(), mode(source.default_mode), optional, "secret")?;
    Ok(out)
}

pub fn downward(context: &Context, pod: &Pod, source: &DownwardAPIVolumeSource) -> Result<Payload, String> {
    let mut out = Payload::new();
    add_downward(&mut out, context, pod, source.items.as_deref().unwrap_or_default(), mode(source.default_mode))?;
    Ok(out)
}

fn add_downward(out: &mut Payload, context: &Context, pod: &Pod, items: &[DownwardAPIVolumeFile], default: u32) -> Result<(), String> {
    let machine = context.machine.read();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(reference), _) => {
                let path = &reference.field_path;
                field(pod, path, &Addresses::default()).ok_or_else(|| format!("unsupported fieldPath: {path}"))?
            }
            (None, Some(selector)) => resource(pod, &Container::default(), selector, &machine.allocatable)?,
            (None, None) => return Err(format!("downward API file {:?} has neither fieldRef nor resourceFieldRef", item.path)),
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(default);
        out.insert(item.path.clone(), File { bytes: text.into_bytes(), mode, uid: None });
    }
    Ok(())
}

pub async fn projected(context: &Context, pod: &Pod, source: &ProjectedVolumeSource) -> Result<Payload, String> {
    let default = mode(source.default_mode);
    let mut out = Payload::new();
    for projection in source.sources.iter().flatten() {
        add_projection(&mut out, context, pod, projection, default).await?;
    }
    Ok(out)
}

async fn add_projection(out: &mut Payload, context: &Context, pod: &Pod, from: &VolumeProjection, default: u32) -> Result<(), String> {
    if let Some(source) = &from.config_map {
        let optional = source.optional.unwrap_or(false);
        let found = context.objects.config_map(namespace(pod), &source.name).await.map(config_map_data);
        add_items(out, &or_empty(found, optional)?, source.items.as_deref(), default, optional, "config")?;
    }
    if let Some(source) = &from.secret {
        let optional = source.optional.unwrap_or(false);
        let found = context.objects.secret(namespace(pod), &source.name).await.map(secret_data);
        add_items(out, &or_empty(found, optional)?, source.items.as_deref(), default, optional, "secret")?;
    }
    if let Some(source) = &from.downward_api {
        add_downward(out, context, pod, source.items.as_deref().unwrap_or_default(), default)?;
    }
    if let Some(source) = &from.service_account_token {
        add_token(out, context, pod, source, default).await?;
    }
    if from.cluster_trust_bundle.is_some() {
        return Err("ClusterTrustBundle projection is not supported by this kubelet".into());
    }
    if from.pod_certificate.is_some() {
        return Err("PodCertificate projection is not supported by this kubelet".into());
    }
    Ok(())
}

async fn add_token(
    out: &mut Payload,
    context: &Context,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
    default: u32,
) -> Result<(), String> {
    let seconds = source.expiration_seconds.unwrap_or(DEFAULT_TOKEN_SECONDS);
    let token =
        context.tokens.get(pod, source.audience.as_deref().unwrap_or_default(), seconds).await.map_err(|error| error.to_string())?;
    let (mode, uid) = token_rights(pod, default);
    out.insert(source.path.clone(), File { bytes: token.into_bytes(), mode, uid });
    Ok(())
}

/// A token is its reader's alone where it is known who reads: the fsGroup, or the one user of all containers (KEP-1205).
fn token_rights(pod: &Pod, default: u32) -> (u32, Option<u32>) {
    if spec(pod).security_context.as_ref().is_some_and(|context| context.fs_group.is_some()) {
        return (0o600, None);
    }
    let init = crate::pod::init_containers(pod).iter();
    let mut users = init.chain(crate::pod::regular_containers(pod)).map(|container| security::run_as_user(pod, container));
    let first = users.next().flatten();
    match first.and_then(|user| u32::try_from(user).ok()) {
        Some(user) if users.all(|other| other == first) => (0o600, Some(user)),
        _ => (default, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn who_may_read_a_token() {
        let check = |spec: Value, expected: (u32, Option<u32>)| {
            let pod: Pod = serde_json::from_value(json!({"spec": spec})).unwrap();
            assert_eq!(token_rights(&pod, 0o644), expected, "{spec}");
        };
        check(json!({"containers": [{"name": "a"}]}), (0o644, None));
        check(json!({"securityContext": {"fsGroup": 5}, "containers": [{"name": "a"}]}), (0o600, None));
        check(json!({"securityContext": {"runAsUser": 7}, "containers": [{"name": "a"}]}), (0o600, Some(7)));
        check(
            json!({"securityContext": {"runAsUser": 7}, "containers": [{"name": "a"}, {"name": "b", "securityContext": {"runAsUser": 8}}]}),
            (0o644, None),
        );
    }
}
