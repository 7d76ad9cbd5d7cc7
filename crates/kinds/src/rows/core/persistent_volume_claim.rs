//! PersistentVolumeClaim: the row; its spec is also that of ephemeral volumes and StatefulSets.

use api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus};
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::{resource_list, set_text};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, UNSET, age, column, name, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{self, resources, selectors};

impl Kind for PersistentVolumeClaim {
    const INFO: KindInfo = KindInfo {
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        default_spec(self.spec.get_or_insert_default());
        let status = self.status.get_or_insert_default();
        set_text(&mut status.phase, "Pending");
        resource_list(&mut status.capacity);
    }

    fn prepare_create(&mut self) {
        self.status = Some(PersistentVolumeClaimStatus { phase: Some("Pending".into()), ..Default::default() });
    }

    spec_and_status!(updates);

    fn validate(&self, errors: &mut FieldErrors) {
        claim_spec(errors, &Path::new("spec"), self.spec.as_ref().unwrap_or(&PersistentVolumeClaimSpec::default()));
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else { return };
        let mut comparable = new.clone();
        comparable.resources.clone_from(&old.resources);
        comparable.volume_attributes_class_name.clone_from(&old.volume_attributes_class_name);
        if old.volume_name.as_deref().unwrap_or_default().is_empty() {
            // The binder sets it once.
            comparable.volume_name.clone_from(&old.volume_name);
        }
        if comparable != *old {
            let detail = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";
            errors.forbidden(&Path::new("spec"), detail);
        }
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Status", "string"),
                column("Volume", "string"),
                column("Capacity", "string"),
                column("Access Modes", "string"),
                column("StorageClass", "string"),
                column("VolumeAttributesClass", "string"),
                AGE,
                wide("VolumeMode", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let phase = if self.metadata.deletion_timestamp.is_some() { "Terminating".into() } else { status.phase.unwrap_or_default() };
        let volume = spec.volume_name.unwrap_or_default();
        let capacity = status.capacity.as_ref().and_then(|capacity| capacity.get("storage")).map(|amount| amount.0.clone());
        let bound = !volume.is_empty();
        vec![
            name(&self.metadata),
            json!(phase),
            json!(volume),
            json!(capacity.filter(|_| bound).unwrap_or_default()),
            json!(if bound { access_modes(status.access_modes.as_deref()) } else { String::new() }),
            json!(spec.storage_class_name.unwrap_or_default()),
            json!(spec.volume_attributes_class_name.unwrap_or_else(|| UNSET.into())),
            age(&self.metadata, now),
            json!(spec.volume_mode.unwrap_or_else(|| UNSET.into())),
        ]
    }
}

/// Defaults of a claim's spec, wherever it stands.
pub fn default_spec(spec: &mut PersistentVolumeClaimSpec) {
    set_text(&mut spec.volume_mode, "Filesystem");
    let resources = spec.resources.get_or_insert_default();
    resource_list(&mut resources.limits);
    resource_list(&mut resources.requests);
}

const MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];

/// The access modes of claims and volumes.
pub fn validate_access_modes(errors: &mut FieldErrors, path: &Path, modes: &[String]) {
    if modes.is_empty() {
        errors.required(path, "at least 1 access mode is required");
    }
    for mode in modes.iter().filter(|mode| !MODES.contains(&mode.as_str())) {
        errors.not_supported(path, mode, MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == "ReadWriteOncePod") {
        errors.forbidden(path, "may not use ReadWriteOncePod with other access modes");
    }
}

/// Rules on a claim's spec, wherever it stands.
pub fn claim_spec(errors: &mut FieldErrors, path: &Path, spec: &PersistentVolumeClaimSpec) {
    validate_access_modes(errors, &path.child("accessModes"), spec.access_modes.as_deref().unwrap_or_default());
    selectors::label_selector(errors, &path.child("selector"), spec.selector.as_ref());
    let requests_path = path.child("resources").child("requests").key("storage");
    match spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()?.get("storage")) {
        None => errors.required(&path.child("resources").key("storage"), ""),
        Some(quantity) => {
            if resources::amount(errors, &requests_path, quantity).is_some_and(|amount| amount.is_zero()) {
                errors.invalid(&requests_path, &quantity.0, "must be greater than zero");
            }
        }
    }
    validation::optional_text(errors, &path.child("storageClassName"), spec.storage_class_name.as_deref(), api::names::dns_subdomain);
    validation::one_of_present(errors, &path.child("volumeMode"), spec.volume_mode.as_deref(), &["Block", "Filesystem"]);
}

/// `RWO,ROX`, in a fixed order.
pub fn access_modes(modes: Option<&[String]>) -> String {
    let has = |mode: &str| modes.into_iter().flatten().any(|m| m == mode);
    let short = [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    short.iter().filter(|(mode, _)| has(mode)).map(|(_, short)| *short).collect::<Vec<_>>().join(",")
}
