//! CSIStorageCapacity.

use api::storage::v1::CSIStorageCapacity;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{NAME, UNSET, column, name};
use crate::validation::{immutable, required_text, resources, selectors};

impl Kind for CSIStorageCapacity {
    const INFO: KindInfo = KindInfo {
        singular: "csistoragecapacity",
        schema: "io.k8s.api.storage.v1.CSIStorageCapacity",
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        for amount in [&mut self.capacity, &mut self.maximum_volume_size].into_iter().flatten() {
            api::quantity::canonicalize(amount);
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        selectors::label_selector(errors, &Path::new("nodeTopology"), self.node_topology.as_ref());
        required_text(errors, &Path::new("storageClassName"), &self.storage_class_name, names::dns_subdomain);
        for (field, amount) in [("capacity", &self.capacity), ("maximumVolumeSize", &self.maximum_volume_size)] {
            if let Some(amount) = amount {
                resources::amount(errors, &Path::new(field), amount);
            }
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("nodeTopology"), &self.node_topology, &old.node_topology);
        immutable(errors, &Path::new("storageClassName"), &self.storage_class_name, &old.storage_class_name);
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("StorageClassName", "string"), column("Capacity", "string")] }
    }

    fn cells(&self, _now: jiff::Timestamp) -> Vec<Value> {
        let capacity = self.capacity.as_ref().map_or(UNSET, |amount| &amount.0);
        vec![name(&self.metadata), json!(self.storage_class_name), json!(capacity)]
    }
}
