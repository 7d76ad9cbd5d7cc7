//! PersistentVolume.

use api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use super::persistent_volume_claim::{access_modes, validate_access_modes};
use crate::defaults::{resource_list, set_text};
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource};
use crate::printing::{AGE, NAME, UNSET, age, column, name, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{self, one_of_present, optional_text, resources, scheduling};

impl Kind for PersistentVolume {
    const INFO: KindInfo = KindInfo {
        singular: "persistentvolume",
        short_names: &["pv"],
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.core.v1.PersistentVolume",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set_text(&mut spec.persistent_volume_reclaim_policy, "Retain");
        set_text(&mut spec.volume_mode, "Filesystem");
        resource_list(&mut spec.capacity);
        if let Some(source) = &mut spec.host_path {
            source.type_.get_or_insert_default();
        }
        set_text(&mut self.status.get_or_insert_default().phase, "Pending");
    }

    fn prepare_create(&mut self) {
        self.status = Some(PersistentVolumeStatus { phase: Some("Pending".into()), ..PersistentVolumeStatus::default() });
    }

    spec_and_status!(updates);

    fn validate(&self, errors: &mut FieldErrors) {
        spec_rules(errors, &Path::new("spec"), self.spec.as_ref().unwrap_or(&PersistentVolumeSpec::default()));
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else { return };
        validation::immutable(errors, &Path::new("spec").child("volumeMode"), &new.volume_mode, &old.volume_mode);
        if source_of(new) != source_of(old) {
            errors.forbidden(&Path::new("spec.persistentvolumesource"), "spec.persistentvolumesource is immutable after creation\n");
        }
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Capacity", "string"),
                column("Access Modes", "string"),
                column("Reclaim Policy", "string"),
                column("Status", "string"),
                column("Claim", "string"),
                column("StorageClass", "string"),
                column("VolumeAttributesClass", "string"),
                column("Reason", "string"),
                AGE,
                wide("VolumeMode", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let claim = spec
            .claim_ref
            .map_or_else(String::new, |claim| format!("{}/{}", claim.namespace.unwrap_or_default(), claim.name.unwrap_or_default()));
        let capacity = spec.capacity.as_ref().and_then(|capacity| capacity.get("storage")).map(|amount| amount.0.clone());
        let dying = self.metadata.deletion_timestamp.is_some();
        vec![
            name(&self.metadata),
            json!(capacity.unwrap_or_else(|| "0".into())),
            json!(access_modes(spec.access_modes.as_deref())),
            json!(spec.persistent_volume_reclaim_policy.unwrap_or_default()),
            json!(if dying { "Terminating".to_owned() } else { status.phase.unwrap_or_default() }),
            json!(claim),
            json!(spec.storage_class_name.unwrap_or_default()),
            json!(spec.volume_attributes_class_name.unwrap_or_else(|| UNSET.into())),
            json!(status.reason.unwrap_or_default()),
            age(&self.metadata, now),
            json!(spec.volume_mode.unwrap_or_else(|| UNSET.into())),
        ]
    }
}

/// The fields of the spec that say where the data is.
fn source_of(spec: &PersistentVolumeSpec) -> serde_json::Map<String, Value> {
    const OTHERS: &[&str] = &[
        "accessModes",
        "capacity",
        "claimRef",
        "mountOptions",
        "nodeAffinity",
        "persistentVolumeReclaimPolicy",
        "storageClassName",
        "volumeAttributesClassName",
        "volumeMode",
    ];
    match validation::shown(spec) {
        Value::Object(mut fields) => {
            fields.retain(|key, _| !OTHERS.contains(&key.as_str()));
            fields
        }
        _ => serde_json::Map::new(),
    }
}

fn spec_rules(errors: &mut FieldErrors, path: &Path, spec: &PersistentVolumeSpec) {
    validate_access_modes(errors, &path.child("accessModes"), spec.access_modes.as_deref().unwrap_or_default());
    let capacity = path.child("capacity");
    match spec.capacity.as_ref().filter(|capacity| !capacity.is_empty()) {
        None => errors.required(&capacity, ""),
        Some(list) if list.len() != 1 || !list.contains_key("storage") => {
            errors.not_supported(&capacity, &validation::shown(list), &["storage"]);
        }
        Some(list) => {
            for (name, quantity) in list {
                let path = capacity.key(name);
                if resources::amount(errors, &path, quantity).is_some_and(|amount| amount.is_zero()) {
                    errors.invalid(&path, &quantity.0, "must be greater than zero");
                }
            }
        }
    }
    const POLICIES: &[&str] = &["Delete", "Recycle", "Retain"];
    one_of_present(errors, &path.child("persistentVolumeReclaimPolicy"), spec.persistent_volume_reclaim_policy.as_deref(), POLICIES);
    optional_text(errors, &path.child("storageClassName"), spec.storage_class_name.as_deref(), names::dns_subdomain);
    one_of_present(errors, &path.child("volumeMode"), spec.volume_mode.as_deref(), &["Block", "Filesystem"]);
    let sources = source_of(spec);
    if sources.is_empty() {
        errors.required(path, "must specify a volume type");
    }
    for extra in sources.keys().skip(1) {
        errors.forbidden(&path.child(extra), "may not specify more than 1 volume type");
    }
    if let Some(source) = &spec.host_path {
        validation::volumes::host_path(errors, &path.child("hostPath"), source);
    }
    if let Some(source) = &spec.nfs {
        validation::volumes::nfs(errors, &path.child("nfs"), source);
    }
    if let Some(source) = &spec.local {
        validation::required(errors, &path.child("local").child("path"), &source.path, "");
        if spec.node_affinity.is_none() {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    }
    if let Some(selector) = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref()) {
        scheduling::node_selector(errors, &path.child("nodeAffinity").child("required"), selector);
    }
}
