//! StatefulSet.

use api::apps::v1::{StatefulSet, StatefulSetSpec};
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::{self, set, set_text};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, containers, name, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{at_most_hundred_percent, int_or_percent, is_zero, not_negative_opt, one_of, pod_template, shown};

impl Kind for StatefulSet {
    const INFO: KindInfo = KindInfo {
        singular: "statefulset",
        short_names: &["sts"],
        categories: &["all"],
        subresources: &[Subresource::SCALE, Subresource::STATUS],
        schema: "io.k8s.api.apps.v1.StatefulSet",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        set_text(&mut spec.pod_management_policy, "OrderedReady");
        let strategy = spec.update_strategy.get_or_insert_default();
        set_text(&mut strategy.type_, "RollingUpdate");
        if strategy.type_.as_deref() == Some("RollingUpdate") {
            set(&mut strategy.rolling_update.get_or_insert_default().partition, 0);
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        set_text(&mut retention.when_deleted, "Retain");
        set_text(&mut retention.when_scaled, "Retain");
        set(&mut spec.replicas, 1);
        set(&mut spec.revision_history_limit, 10);
        defaults::pod_template(&mut spec.template);
        for claim in spec.volume_claim_templates.iter_mut().flatten() {
            claim.default_fields();
        }
        set(&mut self.status.get_or_insert_default().available_replicas, 0);
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let none = StatefulSetSpec::default();
        spec_rules(errors, &Path::new("spec"), self.spec.as_ref().unwrap_or(&none));
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        let (Some(new), Some(old)) = (&self.spec, &old.spec) else { return };
        let mut kept = new.clone();
        kept.replicas = old.replicas;
        kept.template = old.template.clone();
        kept.update_strategy.clone_from(&old.update_strategy);
        kept.min_ready_seconds = old.min_ready_seconds;
        kept.ordinals.clone_from(&old.ordinals);
        kept.revision_history_limit = old.revision_history_limit;
        kept.persistent_volume_claim_retention_policy.clone_from(&old.persistent_volume_claim_retention_policy);
        if kept != *old {
            errors.forbidden(
                &Path::new("spec"),
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
                 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            );
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Ready", "string"), AGE, wide("Containers", "string"), wide("Images", "string")] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let [names, images] = containers(&spec.template.spec.unwrap_or_default().containers);
        let ready = format!("{}/{}", status.ready_replicas.unwrap_or(0), spec.replicas.unwrap_or(0));
        vec![name(&self.metadata), json!(ready), age(&self.metadata, now), names, images]
    }
}

fn spec_rules(errors: &mut FieldErrors, path: &Path, spec: &StatefulSetSpec) {
    one_of(errors, &path.child("podManagementPolicy"), spec.pod_management_policy.as_deref(), &["OrderedReady", "Parallel"]);
    let strategy_path = path.child("updateStrategy");
    let strategy = spec.update_strategy.clone().unwrap_or_default();
    let rolling_path = strategy_path.child("rollingUpdate");
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("", _) => errors.required(&strategy_path, ""),
        ("OnDelete", Some(_)) => {
            errors.invalid(&rolling_path, &shown(&strategy.rolling_update), "only allowed for updateStrategy 'RollingUpdate'");
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(rolling)) => {
            not_negative_opt(errors, &rolling_path.child("partition"), rolling.partition);
            if let Some(unavailable) = &rolling.max_unavailable {
                let path = rolling_path.child("maxUnavailable");
                int_or_percent(errors, &path, unavailable);
                if is_zero(unavailable) {
                    errors.invalid(&path, &shown(unavailable), "cannot be 0");
                }
                at_most_hundred_percent(errors, &path, unavailable);
            }
        }
        (other, _) => errors.invalid(&strategy_path, other, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let retention = spec.persistent_volume_claim_retention_policy.clone().unwrap_or_default();
    let retention_path = path.child("persistentVolumeClaimRetentionPolicy");
    one_of(errors, &retention_path.child("whenDeleted"), retention.when_deleted.as_deref(), &["Retain", "Delete"]);
    one_of(errors, &retention_path.child("whenScaled"), retention.when_scaled.as_deref(), &["Retain", "Delete"]);
    not_negative_opt(errors, &path.child("replicas"), spec.replicas);
    not_negative_opt(errors, &path.child("minReadySeconds"), spec.min_ready_seconds);
    if let Some(ordinals) = &spec.ordinals {
        not_negative_opt(errors, &path.child("ordinals").child("start"), ordinals.start);
    }
    super::workload_selector(errors, &path.child("selector"), &spec.selector);
    let template_path = path.child("template");
    pod_template::selected(errors, &template_path, &spec.template, &spec.selector);
    // The pods mount the claims of the set under the names of their templates.
    let mut template = spec.template.clone();
    let volumes = template.spec.get_or_insert_default().volumes.get_or_insert_default();
    for claim in spec.volume_claim_templates.iter().flatten() {
        let name = claim.metadata.name.clone().unwrap_or_default();
        if !name.is_empty() && !volumes.iter().any(|volume| volume.name == name) {
            volumes.push(api::core::v1::Volume {
                name: name.clone(),
                persistent_volume_claim: Some(api::core::v1::PersistentVolumeClaimVolumeSource { claim_name: name, ..Default::default() }),
                ..Default::default()
            });
        }
    }
    pod_template::pod_template(errors, &template_path, &template);
    pod_template::always_restarting(errors, &template_path, &template);
}
