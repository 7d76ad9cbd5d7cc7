//! VolumeAttributesClass.

use api::storage::v1::VolumeAttributesClass;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};

impl Kind for VolumeAttributesClass {
    const INFO: KindInfo = KindInfo {
        singular: "volumeattributesclass",
        short_names: &["vac"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.storage.v1.VolumeAttributesClass",
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        crate::validation::required_text(errors, &Path::new("driverName"), &self.driver_name, names::dns_subdomain);
        if self.parameters.as_ref().is_none_or(|parameters| parameters.is_empty()) {
            errors.required(&Path::new("parameters"), "must contain at least one key/value pair");
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        for (field, same) in [("driverName", self.driver_name == old.driver_name), ("parameters", self.parameters == old.parameters)] {
            if !same {
                errors.forbidden(&Path::new(field), &format!("updates to {field} are forbidden."));
            }
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("DriverName", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(&self.metadata), json!(self.driver_name), age(&self.metadata, now)]
    }
}
