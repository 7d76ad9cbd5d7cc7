//! VolumeAttachment.

use api::storage::v1::VolumeAttachment;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{immutable, required};

impl Kind for VolumeAttachment {
    const INFO: KindInfo = KindInfo {
        singular: "volumeattachment",
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.storage.v1.VolumeAttachment",
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        required(errors, &path.child("attacher"), &self.spec.attacher, "");
        required(errors, &path.child("nodeName"), &self.spec.node_name, "");
        let source = &self.spec.source;
        if source.persistent_volume_name.is_none() == source.inline_volume_spec.is_none() {
            errors.required(&path.child("source"), "must specify exactly one of inlineVolumeSpec and persistentVolumeName");
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Attacher", "string"), column("PV", "string"), column("Node", "string"), column("Attached", "boolean"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let volume = self.spec.source.persistent_volume_name.clone().unwrap_or_default();
        let attached = self.status.as_ref().is_some_and(|status| status.attached);
        vec![
            name(&self.metadata),
            json!(self.spec.attacher),
            json!(volume),
            json!(self.spec.node_name),
            json!(attached),
            age(&self.metadata, now),
        ]
    }
}
