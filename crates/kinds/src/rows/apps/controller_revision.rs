//! ControllerRevision: a past template of a DaemonSet or StatefulSet.

use api::apps::v1::ControllerRevision;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{AGE, NAME, NONE, age, column, name};
use crate::validation::{immutable, not_negative};

impl Kind for ControllerRevision {
    const INFO: KindInfo =
        KindInfo { singular: "controllerrevision", schema: "io.k8s.api.apps.v1.ControllerRevision", ..KindInfo::of::<Self>() };

    fn validate(&self, errors: &mut FieldErrors) {
        not_negative(errors, &Path::new("revision"), self.revision);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        immutable(errors, &Path::new("data"), &self.data, &old.data);
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Controller", "string"), column("Revision", "integer"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let owner = self.metadata.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
        let owner = owner.map_or_else(
            || NONE.to_owned(),
            |owner| {
                let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
                let kind = owner.kind.to_lowercase();
                if group.is_empty() { format!("{kind}/{}", owner.name) } else { format!("{kind}.{group}/{}", owner.name) }
            },
        );
        vec![name(&self.metadata), json!(owner), json!(self.revision), age(&self.metadata, now)]
    }
}
