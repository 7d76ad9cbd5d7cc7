//! ResourceClaimTemplate.

use api::resource::v1::ResourceClaimTemplate;
use api::{FieldErrors, Path};
use serde_json::Value;

use super::devices;
use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{AGE, NAME, age, name};
use crate::validation::immutable;

impl Kind for ResourceClaimTemplate {
    const INFO: KindInfo =
        KindInfo { singular: "resourceclaimtemplate", schema: "io.k8s.api.resource.v1.ResourceClaimTemplate", ..KindInfo::of::<Self>() };

    fn default_fields(&mut self) {
        devices::default_spec(&mut self.spec.spec);
    }

    fn validate(&self, errors: &mut FieldErrors) {
        devices::spec(errors, &Path::new("spec").child("spec"), &self.spec.spec);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(&self.metadata), age(&self.metadata, now)]
    }
}
