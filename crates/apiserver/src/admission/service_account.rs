//! ServiceAccount: every pod runs as a service account that exists, and finds a token for it
//! (plugin/pkg/admission/serviceaccount).

use std::sync::Arc;
use std::time::Duration;

use api::StatusError;
use api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, KeyToPath, ObjectFieldSelector, Pod, PodSpec,
    ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use async_trait::async_trait;
use rand::Rng;

use super::{AdmissionRequest, Operation, Plugin, forbid};
use crate::Objects;
use crate::auth::TOKEN_WARN_SECONDS;
use crate::pod_refs::{MIRROR, all_refs};

const DEFAULT_ACCOUNT: &str = "default";
const TOKEN_VOLUME_PREFIX: &str = "kube-api-access-";
const TOKEN_MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const ENFORCE_MOUNTABLE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
/// The default account of a new namespace is made by a controller: a pod may come first (upstream: ten looks, 0.1 to 0.2 s apart).
const WAIT_FOR_DEFAULT: Duration = Duration::from_millis(1500);

pub struct ServiceAccounts {
    objects: Objects,
}

impl ServiceAccounts {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    async fn find(&self, namespace: &str, name: &str) -> Result<Option<Arc<ServiceAccount>>, StatusError> {
        let look = || self.objects.get::<ServiceAccount>(Some(namespace), name);
        if let Some(found) = look() {
            return Ok(Some(found));
        }
        if name == DEFAULT_ACCOUNT
            && let Some(mut changes) = self.objects.subscribe::<ServiceAccount>()
        {
            let appears = async {
                loop {
                    if let Some(found) = look() {
                        return Some(found);
                    }
                    if changes.changed().await.is_err() {
                        return None;
                    }
                }
            };
            if let Ok(Some(found)) = tokio::time::timeout(WAIT_FOR_DEFAULT, appears).await {
                return Ok(Some(found));
            }
        }
        Ok(self.objects.read::<ServiceAccount>(Some(namespace), name).await?.map(Arc::new))
    }
}

fn check_mirror(request: &AdmissionRequest<'_>, pod: &Pod) -> Result<(), StatusError> {
    let refs = all_refs(pod);
    let cause = if !refs.service_account.is_empty() {
        "a mirror pod may not reference service accounts"
    } else if !refs.secrets.is_empty() {
        "a mirror pod may not reference secrets"
    } else if !refs.config_maps.is_empty() {
        "a mirror pod may not reference configmaps"
    } else if refs.cluster_trust_bundles {
        "a mirror pod may not reference clustertrustbundles"
    } else if !refs.claims.is_empty() {
        "a mirror pod may not reference persistentvolumeclaims"
    } else {
        return Ok(());
    };
    Err(forbid(request, cause))
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR))
}

/// Secrets that an account with the annotation does not list may not be used by its pods.
fn check_secrets(account: &ServiceAccount, pod: &Pod) -> Result<(), String> {
    let enforced = account.metadata.annotations.as_ref().and_then(|a| a.get(ENFORCE_MOUNTABLE_SECRETS));
    if enforced.is_none_or(|value| value != "true") {
        return Ok(());
    }
    let name = account.metadata.name.as_deref().unwrap_or_default();
    let listed: Vec<&str> = account.secrets.iter().flatten().filter_map(|s| s.name.as_deref()).collect();
    let pull: Vec<&str> = account.image_pull_secrets.iter().flatten().map(|s| s.name.as_str()).collect();
    let refs = all_refs(pod);
    let of_pod: Vec<&str> = pod.spec.iter().flat_map(|s| s.image_pull_secrets.iter().flatten()).map(|s| s.name.as_str()).collect();
    for (at, secret) in of_pod.iter().enumerate() {
        if !pull.contains(secret) {
            return Err(format!(
                "imagePullSecrets[{at}].name=\"{secret}\" is not allowed because service account {name} does not reference that imagePullSecret"
            ));
        }
    }
    match refs.secrets.iter().find(|s| !listed.contains(&s.as_str()) && !of_pod.contains(&s.as_str())) {
        Some(secret) => Err(format!(
            "volume with secret.secretName=\"{secret}\" is not allowed because service account {name} does not reference that secret"
        )),
        None => Ok(()),
    }
}

/// Mounts the token volume into every container that has nothing at its place yet.
fn mount_token(spec: &mut PodSpec, suffix: &str) {
    let existing = spec.volumes.iter().flatten().find(|v| v.name.starts_with(TOKEN_VOLUME_PREFIX)).map(|v| v.name.clone());
    let name = existing.clone().unwrap_or_else(|| format!("{TOKEN_VOLUME_PREFIX}{suffix}"));
    let mut needed = false;
    let mut mount = |container: &mut Container| {
        let mounts = container.volume_mounts.get_or_insert_default();
        if !mounts.iter().any(|m| m.mount_path == TOKEN_MOUNT_PATH) {
            needed = true;
            mounts.push(VolumeMount {
                name: name.clone(),
                read_only: Some(true),
                mount_path: TOKEN_MOUNT_PATH.into(),
                ..VolumeMount::default()
            });
        }
    };
    spec.init_containers.iter_mut().flatten().for_each(&mut mount);
    spec.containers.iter_mut().for_each(&mut mount);
    if needed && existing.is_none() {
        let volume = Volume { projected: Some(token_volume()), name, ..Volume::default() };
        spec.volumes.get_or_insert_default().push(volume);
    }
}

fn token_volume() -> ProjectedVolumeSource {
    let token = ServiceAccountTokenProjection { path: "token".into(), expiration_seconds: Some(TOKEN_WARN_SECONDS), audience: None };
    let root_ca = ConfigMapProjection {
        name: "kube-root-ca.crt".into(),
        items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), mode: None }]),
        optional: None,
    };
    let namespace = DownwardAPIVolumeFile {
        path: "namespace".into(),
        field_ref: Some(ObjectFieldSelector { api_version: Some("v1".into()), field_path: "metadata.namespace".into() }),
        ..DownwardAPIVolumeFile::default()
    };
    ProjectedVolumeSource {
        default_mode: Some(0o644),
        sources: Some(vec![
            VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
            VolumeProjection { config_map: Some(root_ca), ..VolumeProjection::default() },
            VolumeProjection { downward_api: Some(DownwardAPIProjection { items: Some(vec![namespace]) }), ..VolumeProjection::default() },
        ]),
    }
}

/// Five letters as upstream's name generator makes them.
fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut random = rand::rng();
    (0..5).map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())])).collect()
}

#[async_trait]
impl Plugin for ServiceAccounts {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        let Some(pod) = request.get::<Pod>() else { return Ok(()) };
        if is_mirror(pod) {
            return check_mirror(request, pod);
        }
        let named = pod.spec.as_ref().and_then(|s| s.service_account_name.clone()).filter(|n| !n.is_empty());
        let name = named.unwrap_or_else(|| DEFAULT_ACCOUNT.to_owned());
        let namespace = request.namespace;
        let Some(account) = self.find(namespace, &name).await? else {
            let cause = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(forbid(request, cause));
        };
        if let Err(cause) = request.get::<Pod>().map_or(Ok(()), |pod| check_secrets(&account, pod)) {
            return Err(forbid(request, cause));
        }
        let Some(spec) = request.get_mut::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
        spec.service_account = Some(name.clone());
        spec.service_account_name = Some(name);
        if spec.automount_service_account_token.or(account.automount_service_account_token).unwrap_or(true) {
            mount_token(spec, &suffix());
        }
        if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
            spec.image_pull_secrets = account.image_pull_secrets.clone().filter(|s| !s.is_empty());
        }
        Ok(())
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        match request.get::<Pod>() {
            Some(pod) if is_mirror(pod) => check_mirror(request, pod),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(value: serde_json::Value) -> PodSpec {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_container_gets_the_token() {
        let mut pod = spec(serde_json::json!({"containers": [{"name": "a"}], "initContainers": [{"name": "i"}]}));
        mount_token(&mut pod, "abcde");
        let value = serde_json::to_value(&pod).unwrap();
        assert_eq!(value["containers"][0]["volumeMounts"][0]["name"], "kube-api-access-abcde");
        assert_eq!(value["initContainers"][0]["volumeMounts"][0]["mountPath"], TOKEN_MOUNT_PATH);
        assert_eq!(
            value["volumes"][0],
            serde_json::json!({"name": "kube-api-access-abcde", "projected": {"defaultMode": 420, "sources": [
                {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                {"configMap": {"items": [{"key": "ca.crt", "path": "ca.crt"}], "name": "kube-root-ca.crt"}},
                {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}, "path": "namespace"}]}},
            ]}})
        );
    }

    #[test]
    fn what_is_mounted_already_stays() {
        let mount = serde_json::json!([{"name": "own", "mountPath": TOKEN_MOUNT_PATH}]);
        let mut pod = spec(serde_json::json!({"containers": [{"name": "a", "volumeMounts": mount}]}));
        let before = pod.clone();
        mount_token(&mut pod, "abcde");
        assert_eq!(pod, before);
    }

    #[test]
    fn only_listed_secrets_where_that_is_enforced() {
        let account: ServiceAccount = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "sa", "annotations": {ENFORCE_MOUNTABLE_SECRETS: "true"}}, "secrets": [{"name": "ok"}]
        }))
        .unwrap();
        let pod = |secret: &str| -> Pod {
            serde_json::from_value(
                serde_json::json!({"spec": {"containers": [], "volumes": [{"name": "v", "secret": {"secretName": secret}}]}}),
            )
            .unwrap()
        };
        assert!(check_secrets(&account, &pod("ok")).is_ok());
        assert!(check_secrets(&account, &pod("other")).is_err());
        assert!(check_secrets(&ServiceAccount::default(), &pod("other")).is_ok());
    }
}
