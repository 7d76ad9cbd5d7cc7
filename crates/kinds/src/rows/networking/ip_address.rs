//! IPAddress.

use api::networking::v1::IPAddress;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, NameRule, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::validation::required;

impl Kind for IPAddress {
    const INFO: KindInfo = KindInfo {
        singular: "ipaddress",
        short_names: &["ip"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.networking.v1.IPAddress",
        name_rule: NameRule::PathSegment,
        ..KindInfo::of::<Self>()
    };

    fn validate(&self, errors: &mut FieldErrors) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        crate::validation::each(errors, &Path::new("metadata").child("name"), name, names::ip(name));
        let path = Path::new("spec").child("parentRef");
        required(errors, &path.child("resource"), &self.spec.parent_ref.resource, "");
        required(errors, &path.child("name"), &self.spec.parent_ref.name, "");
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        crate::validation::immutable(errors, &Path::new("spec").child("parentRef"), &self.spec.parent_ref, &old.spec.parent_ref);
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("ParentRef", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let owner = &self.spec.parent_ref;
        let group = owner.group.as_deref().filter(|group| !group.is_empty());
        let resource = group.map_or_else(|| owner.resource.clone(), |group| format!("{}.{group}", owner.resource));
        let place = owner.namespace.as_deref().filter(|namespace| !namespace.is_empty());
        let parent = match place {
            Some(namespace) => format!("{resource}/{namespace}/{}", owner.name),
            None => format!("{resource}/{}", owner.name),
        };
        vec![name(&self.metadata), json!(parent), age(&self.metadata, now)]
    }
}
