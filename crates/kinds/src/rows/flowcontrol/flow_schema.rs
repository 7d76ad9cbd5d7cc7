//! FlowSchema.

use api::flowcontrol::v1::FlowSchema;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::defaults::set;
use crate::kind::{Column, Kind, KindInfo, Scope, Subresource};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{one_of, required_text};

impl Kind for FlowSchema {
    const INFO: KindInfo = KindInfo {
        singular: "flowschema",
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.flowcontrol.v1.FlowSchema",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        set(&mut self.spec.get_or_insert_default().matching_precedence, 1000);
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        let (path, spec) = (Path::new("spec"), self.spec.clone().unwrap_or_default());
        let precedence = spec.matching_precedence.unwrap_or(0);
        if !(1..=10_000).contains(&precedence) {
            let detail = if precedence < 1 { "must be a positive value" } else { "must not be greater than 10000" };
            errors.invalid(&path.child("matchingPrecedence"), precedence, detail);
        }
        if let Some(method) = &spec.distinguisher_method {
            one_of(errors, &path.child("distinguisherMethod").child("type"), Some(&method.type_), &["ByNamespace", "ByUser"]);
        }
        let level = path.child("priorityLevelConfiguration").child("name");
        let name = &spec.priority_level_configuration.name;
        if name.is_empty() {
            errors.required(&level, "must reference a priority level");
        } else {
            required_text(errors, &level, name, names::dns_subdomain);
        }
        for (index, rule) in spec.rules.iter().flatten().enumerate() {
            let path = path.child("rules").index(index);
            if rule.subjects.is_empty() {
                errors.required(&path.child("subjects"), "subjects must contain at least one value");
            }
            let none = |count: usize| count == 0;
            let resources = rule.resource_rules.as_ref().map_or(0, Vec::len);
            if none(resources + rule.non_resource_rules.as_ref().map_or(0, Vec::len)) {
                errors.required(&path, "at least one of resourceRules and nonResourceRules has to be non-empty");
            }
        }
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("PriorityLevel", "string"),
                column("MatchingPrecedence", "integer"),
                column("DistinguisherMethod", "string"),
                AGE,
                column("MissingPL", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let conditions = self.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let dangling = conditions.iter().find(|condition| condition.type_.as_deref() == Some("Dangling"));
        let missing = dangling.and_then(|condition| condition.status.as_deref()).unwrap_or("?");
        let method = spec.distinguisher_method.map_or_else(|| crate::printing::NONE.to_owned(), |method| method.type_);
        vec![
            name(&self.metadata),
            json!(spec.priority_level_configuration.name),
            json!(spec.matching_precedence.unwrap_or(0)),
            json!(method),
            age(&self.metadata, now),
            json!(missing),
        ]
    }
}
