//! CSIDriver.

use api::storage::v1::CSIDriver;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::{set, set_text};
use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::all_is_spec;
use crate::validation::{immutable, one_of_present};

impl Kind for CSIDriver {
    const INFO: KindInfo = KindInfo {
        singular: "csidriver",
        scope: Scope::Cluster,
        schema: "io.k8s.api.storage.v1.CSIDriver",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        set(&mut spec.attach_required, true);
        set(&mut spec.pod_info_on_mount, false);
        set(&mut spec.storage_capacity, false);
        set_text(&mut spec.fs_group_policy, "ReadWriteOnceWithFSType");
        set(&mut spec.requires_republish, false);
        set(&mut spec.se_linux_mount, false);
        if spec.volume_lifecycle_modes.as_ref().is_none_or(Vec::is_empty) {
            spec.volume_lifecycle_modes = Some(vec!["Persistent".into()]);
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        let policy = self.spec.fs_group_policy.as_deref();
        one_of_present(errors, &path.child("fsGroupPolicy"), policy, &["File", "None", "ReadWriteOnceWithFSType"]);
        for mode in self.spec.volume_lifecycle_modes.iter().flatten() {
            one_of_present(errors, &path.child("volumeLifecycleModes"), Some(mode), &["Ephemeral", "Persistent"]);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let path = Path::new("spec");
        immutable(errors, &path.child("attachRequired"), &self.spec.attach_required, &old.spec.attach_required);
        let (new, old) = (&self.spec.volume_lifecycle_modes, &old.spec.volume_lifecycle_modes);
        immutable(errors, &path.child("volumeLifecycleModes"), new, old);
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("AttachRequired", "boolean"),
                column("PodInfoOnMount", "boolean"),
                column("StorageCapacity", "boolean"),
                column("TokenRequests", "string"),
                column("RequiresRepublish", "boolean"),
                column("Modes", "string"),
                AGE,
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone();
        let audiences: Vec<String> = spec.token_requests.iter().flatten().map(|request| request.audience.clone()).collect();
        let tokens = if spec.token_requests.is_some() { audiences.join(",") } else { crate::printing::UNSET.to_owned() };
        let modes = crate::printing::or_none(Some(&spec.volume_lifecycle_modes.unwrap_or_default().join(","))).to_owned();
        vec![
            name(&self.metadata),
            json!(spec.attach_required.unwrap_or(true)),
            json!(spec.pod_info_on_mount.unwrap_or(false)),
            json!(spec.storage_capacity.unwrap_or(false)),
            json!(tokens),
            json!(spec.requires_republish.unwrap_or(false)),
            json!(modes),
            age(&self.metadata, now),
        ]
    }
}
