//! The names of other objects that a pod refers to (upstream: pkg/api/pod/util.go, VisitPodSecretNames and its siblings).

use std::collections::BTreeSet;

use api::core::v1::{Container, EnvFromSource, EnvVar, Pod, PodSpec, Volume};

/// Objects of the pod's namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PodRefs {
    pub secrets: BTreeSet<String>,
    pub config_maps: BTreeSet<String>,
    /// PersistentVolumeClaims, those of ephemeral volumes included.
    pub claims: BTreeSet<String>,
    pub resource_claims: BTreeSet<String>,
    pub service_account: String,
    pub cluster_trust_bundles: bool,
}

/// The annotation of pods that only mirror a kubelet's own.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// A mirror pod refers to nothing: nodes make them, and must not gain access by them.
pub fn pod_refs(pod: &Pod) -> PodRefs {
    if pod.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(MIRROR)) {
        return PodRefs::default();
    }
    all_refs(pod)
}

/// Also of mirror pods.
pub fn all_refs(pod: &Pod) -> PodRefs {
    let mut refs = PodRefs::default();
    let Some(spec) = &pod.spec else { return refs };
    refs.service_account = spec.service_account_name.clone().unwrap_or_default();
    refs.secrets.extend(spec.image_pull_secrets.iter().flatten().map(|s| s.name.clone()));
    for_each_container(spec, |env, env_from| refs.add_env(env, env_from));
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    for volume in spec.volumes.iter().flatten() {
        refs.add_volume(volume, pod_name);
    }
    refs.resource_claims.extend(spec.resource_claims.iter().flatten().filter_map(|claim| claim.resource_claim_name.clone()));
    let statuses = pod.status.iter().flat_map(|status| status.resource_claim_statuses.iter().flatten());
    refs.resource_claims.extend(statuses.filter_map(|status| status.resource_claim_name.clone()));
    refs
}

fn for_each_container(spec: &PodSpec, mut visit: impl FnMut(Option<&Vec<EnvVar>>, Option<&Vec<EnvFromSource>>)) {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.for_each(|c: &Container| visit(c.env.as_ref(), c.env_from.as_ref()));
    spec.ephemeral_containers.iter().flatten().for_each(|c| visit(c.env.as_ref(), c.env_from.as_ref()));
}

impl PodRefs {
    fn add_env(&mut self, env: Option<&Vec<EnvVar>>, env_from: Option<&Vec<EnvFromSource>>) {
        for source in env_from.into_iter().flatten() {
            self.secrets.extend(source.secret_ref.as_ref().map(|r| r.name.clone()));
            self.config_maps.extend(source.config_map_ref.as_ref().map(|r| r.name.clone()));
        }
        for source in env.into_iter().flatten().filter_map(|var| var.value_from.as_ref()) {
            self.secrets.extend(source.secret_key_ref.as_ref().map(|r| r.name.clone()));
            self.config_maps.extend(source.config_map_key_ref.as_ref().map(|r| r.name.clone()));
        }
    }

    fn add_volume(&mut self, volume: &Volume, pod: &str) {
        self.secrets.extend(volume.secret.as_ref().and_then(|s| s.secret_name.clone()));
        self.config_maps.extend(volume.config_map.as_ref().map(|c| c.name.clone()));
        self.claims.extend(volume.persistent_volume_claim.as_ref().map(|c| c.claim_name.clone()));
        if volume.ephemeral.is_some() {
            self.claims.insert(format!("{pod}-{}", volume.name));
        }
        let csi = volume.csi.as_ref().and_then(|v| v.node_publish_secret_ref.as_ref());
        let others = [
            volume.cephfs.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume.flex_volume.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume.iscsi.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume.rbd.as_ref().and_then(|v| v.secret_ref.as_ref()),
            volume.scale_io.as_ref().map(|v| &v.secret_ref),
            volume.storageos.as_ref().and_then(|v| v.secret_ref.as_ref()),
            csi,
        ];
        self.secrets.extend(others.into_iter().flatten().map(|r| r.name.clone()));
        self.secrets.extend(volume.azure_file.as_ref().map(|v| v.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            self.secrets.extend(source.secret.as_ref().map(|s| s.name.clone()));
            self.config_maps.extend(source.config_map.as_ref().map(|c| c.name.clone()));
            self.cluster_trust_bundles |= source.cluster_trust_bundle.is_some();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_is_visited() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "sa",
                "imagePullSecrets": [{"name": "s1"}],
                "initContainers": [{"name": "i", "env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}}]}],
                "containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "c1"}}, {"secretRef": {"name": "s3"}}]}],
                "ephemeralContainers": [{"name": "e", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}}]}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "s4"}},
                    {"name": "b", "configMap": {"name": "c3"}},
                    {"name": "d", "persistentVolumeClaim": {"claimName": "v1"}},
                    {"name": "e", "ephemeral": {}},
                    {"name": "f", "projected": {"sources": [{"secret": {"name": "s5"}}, {"configMap": {"name": "c4"}}]}},
                    {"name": "g", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s6"}}},
                ],
            },
        }))
        .unwrap();
        let refs = all_refs(&pod);
        assert_eq!(refs.secrets.iter().map(String::as_str).collect::<Vec<_>>(), ["s1", "s2", "s3", "s4", "s5", "s6"]);
        assert_eq!(refs.config_maps.iter().map(String::as_str).collect::<Vec<_>>(), ["c1", "c2", "c3", "c4"]);
        assert_eq!(refs.claims.iter().map(String::as_str).collect::<Vec<_>>(), ["p-e", "v1"]);
        assert_eq!(refs.service_account, "sa");
        let mut mirror = pod;
        mirror.metadata.annotations = Some([(MIRROR.to_owned(), String::new())].into());
        assert_eq!(pod_refs(&mirror), PodRefs::default());
    }
}
