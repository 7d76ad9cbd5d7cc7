//! StorageClass.

use api::storage::v1::StorageClass;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::defaults::set_text;
use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column};
use crate::validation::{immutable, one_of_present, required_text};

impl Kind for StorageClass {
    const INFO: KindInfo = KindInfo {
        singular: "storageclass",
        short_names: &["sc"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.storage.v1.StorageClass",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        set_text(&mut self.reclaim_policy, "Delete");
        set_text(&mut self.volume_binding_mode, "Immediate");
    }

    fn validate(&self, errors: &mut FieldErrors) {
        required_text(errors, &Path::new("provisioner"), &self.provisioner, |text| names::qualified_name(&text.to_lowercase()));
        one_of_present(errors, &Path::new("reclaimPolicy"), self.reclaim_policy.as_deref(), &["Delete", "Retain"]);
        let modes = &["Immediate", "WaitForFirstConsumer"];
        one_of_present(errors, &Path::new("volumeBindingMode"), self.volume_binding_mode.as_deref(), modes);
        if self.parameters.as_ref().is_some_and(|parameters| parameters.contains_key("")) {
            errors.invalid(&Path::new("parameters"), "", "field must not be empty.");
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        if self.parameters != old.parameters {
            errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
        }
        if self.provisioner != old.provisioner {
            errors.forbidden(&Path::new("provisioner"), "updates to provisioner are forbidden.");
        }
        if self.reclaim_policy != old.reclaim_policy {
            errors.forbidden(&Path::new("reclaimPolicy"), "updates to reclaimPolicy are forbidden.");
        }
        immutable(errors, &Path::new("volumeBindingMode"), &self.volume_binding_mode, &old.volume_binding_mode);
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Provisioner", "string"),
                column("ReclaimPolicy", "string"),
                column("VolumeBindingMode", "string"),
                column("AllowVolumeExpansion", "boolean"),
                AGE,
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![
            super::class_name(&self.metadata, "storageclass.kubernetes.io/is-default-class"),
            json!(self.provisioner),
            json!(self.reclaim_policy),
            json!(self.volume_binding_mode),
            json!(self.allow_volume_expansion.unwrap_or(false)),
            age(&self.metadata, now),
        ]
    }
}
