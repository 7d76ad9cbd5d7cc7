//! ResourceQuota.

use api::core::v1::ResourceQuota;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::resource_list;
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{self, resources};

impl Kind for ResourceQuota {
    const INFO: KindInfo = KindInfo {
        singular: "resourcequota",
        short_names: &["quota"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.core.v1.ResourceQuota",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        resource_list(&mut self.spec.get_or_insert_default().hard);
        let status = self.status.get_or_insert_default();
        resource_list(&mut status.hard);
        resource_list(&mut status.used);
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let Some(spec) = &self.spec else { return };
        let path = Path::new("spec").child("hard");
        for (name, quantity) in spec.hard.iter().flatten() {
            let path = path.key(name);
            resources::resource_name(errors, &path, name);
            resources::amount(errors, &path, quantity);
        }
        for (index, scope) in spec.scopes.iter().flatten().enumerate() {
            let path = Path::new("spec").child("scopes").index(index);
            if !SCOPES.contains(&scope.as_str()) {
                errors.invalid(&path, scope, "unsupported scope");
            }
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let scopes = |quota: &Self| quota.spec.as_ref().and_then(|spec| spec.scopes.clone()).unwrap_or_default();
        validation::immutable(errors, &Path::new("spec").child("scopes"), &scopes(self), &scopes(old));
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Request", "string"), column("Limit", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let (mut requests, mut limits) = (Vec::new(), Vec::new());
        for (resource, hard) in status.hard.iter().flatten() {
            let used = status.used.as_ref().and_then(|used| used.get(resource)).map_or("0", |amount| &amount.0);
            let list = if resource.starts_with("limits") { &mut limits } else { &mut requests };
            list.push(format!("{resource}: {used}/{}", hard.0));
        }
        vec![name(&self.metadata), json!(requests.join(", ")), json!(limits.join(", ")), age(&self.metadata, now)]
    }
}

const SCOPES: &[&str] = &[
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];
