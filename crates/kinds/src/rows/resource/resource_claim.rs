//! ResourceClaim.

use api::resource::v1::ResourceClaim;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use super::devices;
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::immutable;

impl Kind for ResourceClaim {
    const INFO: KindInfo = KindInfo {
        singular: "resourceclaim",
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.resource.v1.ResourceClaim",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        devices::default_spec(&mut self.spec);
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        devices::spec(errors, &Path::new("spec"), &self.spec);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("State", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let mut words = Vec::new();
        if self.metadata.deletion_timestamp.is_some() {
            words.push("deleted");
        }
        if status.allocation.is_some() {
            words.push("allocated");
        } else if self.metadata.deletion_timestamp.is_none() {
            words.push("pending");
        }
        if status.reserved_for.is_some_and(|list| !list.is_empty()) {
            words.push("reserved");
        }
        let state = words.join(",");
        vec![name(&self.metadata), json!(state), age(&self.metadata, now)]
    }
}
