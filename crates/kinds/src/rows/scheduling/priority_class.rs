//! PriorityClass.

use api::scheduling::v1::PriorityClass;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::{set, set_text};
use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::all_is_spec;
use crate::validation::{immutable, one_of};

impl Kind for PriorityClass {
    const INFO: KindInfo = KindInfo {
        singular: "priorityclass",
        short_names: &["pc"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.scheduling.v1.PriorityClass",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        set_text(&mut self.preemption_policy, "PreemptLowerPriority");
        set(&mut self.value, 0);
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let value = self.value.unwrap_or(0);
        let known = SYSTEM.iter().any(|(known, level)| *known == name && *level == value && self.global_default != Some(true));
        if name.starts_with("system-") && !known {
            let detail = "priority class names with 'system-' prefix are reserved for system use only. error: ";
            let detail = format!("{detail}{name} is not a known system priority class");
            errors.forbidden(&Path::new("metadata").child("name"), &detail);
        } else if !known && value > HIGHEST_USER_PRIORITY {
            let detail = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
            errors.forbidden(&Path::new("value"), &detail);
        }
        one_of(errors, &Path::new("preemptionPolicy"), self.preemption_policy.as_deref(), &["Never", "PreemptLowerPriority"]);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        if self.value != old.value {
            errors.forbidden(&Path::new("value"), "may not be changed in an update.");
        }
        immutable(errors, &Path::new("preemptionPolicy"), &self.preemption_policy, &old.preemption_policy);
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Value", "integer"), column("Global-Default", "boolean"), column("PreemptionPolicy", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![
            name(&self.metadata),
            json!(self.value.unwrap_or(0)),
            json!(self.global_default.unwrap_or(false)),
            json!(self.preemption_policy.as_deref().unwrap_or_default()),
            age(&self.metadata, now),
        ]
    }
}

const HIGHEST_USER_PRIORITY: i32 = 1_000_000_000;

/// The classes that a cluster makes for itself.
pub const SYSTEM: &[(&str, i32)] =
    &[("system-node-critical", 2 * HIGHEST_USER_PRIORITY + 1000), ("system-cluster-critical", 2 * HIGHEST_USER_PRIORITY)];
