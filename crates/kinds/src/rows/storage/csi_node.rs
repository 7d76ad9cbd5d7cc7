//! CSINode.

use api::storage::v1::CSINode;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::validation::{required, required_text};

impl Kind for CSINode {
    const INFO: KindInfo = KindInfo {
        singular: "csinode",
        scope: Scope::Cluster,
        schema: "io.k8s.api.storage.v1.CSINode",
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        let mut seen: Vec<&str> = Vec::new();
        for (index, driver) in self.spec.drivers.iter().enumerate() {
            let path = Path::new("spec").child("drivers").index(index);
            required_text(errors, &path.child("name"), &driver.name, names::dns_subdomain);
            required(errors, &path.child("nodeID"), &driver.node_id, "");
            if seen.contains(&driver.name.as_str()) {
                errors.duplicate(&path.child("name"), &driver.name);
            }
            seen.push(&driver.name);
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Drivers", "integer"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(&self.metadata), json!(self.spec.drivers.len()), age(&self.metadata, now)]
    }
}
