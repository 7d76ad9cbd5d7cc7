//! ResourceSlice.

use api::resource::v1::ResourceSlice;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::all_is_spec;
use crate::validation::{immutable, required_text};

impl Kind for ResourceSlice {
    const INFO: KindInfo = KindInfo {
        singular: "resourceslice",
        scope: Scope::Cluster,
        schema: "io.k8s.api.resource.v1.ResourceSlice",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), &self.spec);
        required_text(errors, &path.child("driver"), &spec.driver, names::dns_subdomain);
        required_text(errors, &path.child("pool").child("name"), &spec.pool.name, |_| Vec::new());
        if spec.pool.resource_slice_count <= 0 {
            let path = path.child("pool").child("resourceSliceCount");
            errors.invalid(&path, spec.pool.resource_slice_count, "must be greater than zero");
        }
        let places = [
            spec.node_name.as_ref().is_some_and(|name| !name.is_empty()),
            spec.node_selector.is_some(),
            spec.all_nodes == Some(true),
            spec.per_device_node_selection == Some(true),
        ];
        if places.iter().filter(|place| **place).count() != 1 {
            let detail = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
            errors.required(&path, detail);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        immutable(errors, &path.child("driver"), &self.spec.driver, &old.spec.driver);
        immutable(errors, &path.child("pool").child("name"), &self.spec.pool.name, &old.spec.pool.name);
        immutable(errors, &path.child("nodeName"), &self.spec.node_name, &old.spec.node_name);
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let node = self.spec.node_name.clone().unwrap_or_default();
        vec![("spec.nodeName", node), ("spec.driver", self.spec.driver.clone())]
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Node", "string"), column("Driver", "string"), column("Pool", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let node = self.spec.node_name.as_deref().unwrap_or(crate::printing::UNSET);
        vec![name(&self.metadata), json!(node), json!(self.spec.driver), json!(self.spec.pool.name), age(&self.metadata, now)]
    }
}
