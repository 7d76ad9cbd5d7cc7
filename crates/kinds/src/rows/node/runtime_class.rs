//! RuntimeClass.

use api::node::v1::RuntimeClass;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::defaults::resource_list;
use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::validation::{immutable, metadata, required_text, resources, scheduling};

impl Kind for RuntimeClass {
    const INFO: KindInfo = KindInfo {
        singular: "runtimeclass",
        scope: Scope::Cluster,
        schema: "io.k8s.api.node.v1.RuntimeClass",
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        if let Some(overhead) = &mut self.overhead {
            resource_list(&mut overhead.pod_fixed);
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        required_text(errors, &Path::new("handler"), &self.handler, names::dns_label);
        for (name, amount) in self.overhead.iter().flat_map(|overhead| overhead.pod_fixed.iter().flatten()) {
            let path = Path::new("overhead").child("podFixed").key(name);
            resources::resource_name(errors, &path, name);
            resources::amount(errors, &path, amount);
        }
        if let Some(scheduling) = &self.scheduling {
            let path = Path::new("scheduling");
            metadata::labels(scheduling.node_selector.as_ref(), &path.child("nodeSelector"), errors);
            scheduling::tolerations(errors, &path.child("tolerations"), scheduling.tolerations.as_deref().unwrap_or_default());
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("handler"), &self.handler, &old.handler);
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Handler", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(&self.metadata), json!(self.handler), age(&self.metadata, now)]
    }
}
