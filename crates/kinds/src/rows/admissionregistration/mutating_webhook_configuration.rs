//! MutatingWebhookConfiguration.

use api::FieldErrors;
use api::admissionregistration::v1::MutatingWebhookConfiguration;
use serde_json::{Value, json};

use super::webhooks::{self, Webhook};
use crate::defaults::set;
use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::all_is_spec;

impl Kind for MutatingWebhookConfiguration {
    const INFO: KindInfo = KindInfo {
        singular: "mutatingwebhookconfiguration",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        for webhook in self.webhooks.iter_mut().flatten() {
            set(&mut webhook.failure_policy, "Fail".to_owned());
            set(&mut webhook.match_policy, "Equivalent".to_owned());
            webhook.namespace_selector.get_or_insert_default();
            webhook.object_selector.get_or_insert_default();
            set(&mut webhook.timeout_seconds, 10);
            set(&mut webhook.reinvocation_policy, "Never".to_owned());
            webhooks::default_client(&mut webhook.client_config);
            webhooks::default_rules(webhook.rules.as_deref_mut().unwrap_or_default());
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let views = self.webhooks.iter().flatten().map(|webhook| Webhook {
            name: &webhook.name,
            client_config: &webhook.client_config,
            review_versions: &webhook.admission_review_versions,
            rules: webhook.rules.as_deref().unwrap_or_default(),
            failure_policy: webhook.failure_policy.as_deref(),
            match_policy: webhook.match_policy.as_deref(),
            side_effects: &webhook.side_effects,
            timeout_seconds: webhook.timeout_seconds,
            namespace_selector: webhook.namespace_selector.as_ref(),
            object_selector: webhook.object_selector.as_ref(),
        });
        webhooks::validate(errors, views);
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Webhooks", "integer"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(&self.metadata), json!(self.webhooks.as_ref().map_or(0, Vec::len)), age(&self.metadata, now)]
    }
}
