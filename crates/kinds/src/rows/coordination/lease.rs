//! Lease.

use api::coordination::v1::Lease;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{AGE, NAME, age, column, name};
use crate::validation::{POSITIVE, not_negative_opt};

impl Kind for Lease {
    const INFO: KindInfo = KindInfo {
        singular: "lease",
        schema: "io.k8s.api.coordination.v1.Lease",
        create_on_update: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), self.spec.clone().unwrap_or_default());
        if let Some(seconds) = spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), seconds, POSITIVE);
        }
        not_negative_opt(errors, &path.child("leaseTransitions"), spec.lease_transitions);
        if spec.preferred_holder.as_deref().is_some_and(|holder| !holder.is_empty()) && spec.strategy.is_none() {
            errors.forbidden(&path.child("preferredHolder"), "may only be specified if `strategy` is defined");
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Holder", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let holder = self.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
        vec![name(&self.metadata), json!(holder), age(&self.metadata, now)]
    }
}
