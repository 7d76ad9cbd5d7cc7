//! Namespace. The finalizer in its spec keeps it until its content is gone.

use api::core::v1::{Namespace, NamespaceSpec, NamespaceStatus};
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::defaults::set_text;
use crate::kind::{Column, Kind, KindInfo, NameRule, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::validation::{each, metadata};

impl Kind for Namespace {
    const INFO: KindInfo = KindInfo {
        singular: "namespace",
        short_names: &["ns"],
        scope: Scope::Cluster,
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        subresources: &[Subresource { name: "finalize", kind: None, verbs: &["update"] }, Subresource::STATUS],
        schema: "io.k8s.api.core.v1.Namespace",
        name_rule: NameRule::DnsLabel,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        self.spec.get_or_insert_default();
        set_text(&mut self.status.get_or_insert_default().phase, "Active");
        // Selectors find a namespace by name through this label.
        if let Some(name) = self.metadata.name.clone().filter(|name| !name.is_empty()) {
            self.metadata.labels.get_or_insert_default().insert("kubernetes.io/metadata.name".into(), name);
        }
    }

    fn prepare_create(&mut self) {
        self.status = Some(NamespaceStatus { phase: Some("Active".into()), ..NamespaceStatus::default() });
        let finalizers = self.spec.get_or_insert_default().finalizers.get_or_insert_default();
        if !finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
            finalizers.push(FINALIZER.to_owned());
        }
    }

    fn prepare_update(&mut self, old: &Self) {
        self.spec = old.spec.clone();
        self.status = old.status.clone();
    }

    fn prepare_status_update(&mut self, old: &Self) {
        self.spec = old.spec.clone();
    }

    fn prepare_part(&mut self, part: &str, old: &Self) {
        if part == "finalize" {
            let sent = self.spec.take().and_then(|spec| spec.finalizers);
            *self = old.clone();
            self.spec = Some(NamespaceSpec { finalizers: sent });
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let finalizers = self.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
        for (index, finalizer) in finalizers.into_iter().flatten().enumerate() {
            let path = Path::new("spec").child("finalizers");
            each(errors, &path, finalizer, names::qualified_name(finalizer));
            metadata::finalizer_name(finalizer, &path.index(index), errors);
        }
    }

    fn validate_status_update(&self, _old: &Self, errors: &mut FieldErrors) {
        let phase = self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
        let path = Path::new("status").child("Phase");
        match (self.metadata.deletion_timestamp.is_some(), phase) {
            (false, "Active") | (true, "Terminating") => {}
            (false, phase) => errors.invalid(&path, phase, "may only be 'Active' if `deletionTimestamp` is empty"),
            (true, phase) => errors.invalid(&path, phase, "may only be 'Terminating' if `deletionTimestamp` is not empty"),
        }
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let phase = self.status.as_ref().and_then(|status| status.phase.clone());
        vec![("status.phase", phase.unwrap_or_default())]
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Status", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let phase = self.status.as_ref().and_then(|status| status.phase.clone()).unwrap_or_default();
        vec![name(&self.metadata), json!(phase), age(&self.metadata, now)]
    }
}

/// Kept in `spec.finalizers` until the namespace's content is gone.
pub const FINALIZER: &str = "kubernetes";
