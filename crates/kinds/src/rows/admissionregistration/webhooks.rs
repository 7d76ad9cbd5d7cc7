//! What webhooks of both kinds share (pkg/apis/admissionregistration).

use api::admissionregistration::v1::{MatchResources, NamedRuleWithOperations, RuleWithOperations, WebhookClientConfig};
use api::meta::v1::LabelSelector;
use api::{FieldErrors, Path, names};

use crate::defaults::set;
use crate::validation::{each, one_of, one_of_present, required, selectors, shown};

pub fn default_client(config: &mut WebhookClientConfig) {
    if let Some(service) = &mut config.service {
        set(&mut service.port, 443);
    }
}

pub fn default_rules(rules: &mut [RuleWithOperations]) {
    for rule in rules {
        set(&mut rule.scope, "*".to_owned());
    }
}

pub fn default_match(resources: Option<&mut MatchResources>) {
    let Some(resources) = resources else { return };
    set(&mut resources.match_policy, "Equivalent".to_owned());
    resources.namespace_selector.get_or_insert_default();
    resources.object_selector.get_or_insert_default();
    let rules = resources.resource_rules.iter_mut().chain(&mut resources.exclude_resource_rules).flatten();
    for rule in rules {
        set(&mut rule.scope, "*".to_owned());
    }
}

/// The common part of both kinds of webhooks.
pub struct Webhook<'a> {
    pub name: &'a str,
    pub client_config: &'a WebhookClientConfig,
    pub review_versions: &'a [String],
    pub rules: &'a [RuleWithOperations],
    pub failure_policy: Option<&'a str>,
    pub match_policy: Option<&'a str>,
    pub side_effects: &'a str,
    pub timeout_seconds: Option<i32>,
    pub namespace_selector: Option<&'a LabelSelector>,
    pub object_selector: Option<&'a LabelSelector>,
}

pub fn validate<'a>(errors: &mut FieldErrors, webhooks: impl Iterator<Item = Webhook<'a>>) {
    let mut seen: Vec<&str> = Vec::new();
    for (index, webhook) in webhooks.enumerate() {
        let path = Path::new("webhooks").index(index);
        validate_one(errors, &path, &webhook);
        if seen.contains(&webhook.name) {
            errors.duplicate(&path.child("name"), webhook.name);
        }
        seen.push(webhook.name);
    }
}

fn validate_one(errors: &mut FieldErrors, path: &Path, webhook: &Webhook<'_>) {
    required(errors, &path.child("name"), webhook.name, "");
    if !webhook.name.is_empty() {
        each(errors, &path.child("name"), webhook.name, names::dns_subdomain(webhook.name));
        if webhook.name.split('.').count() < 3 {
            let detail = "should be a domain with at least three segments separated by dots";
            errors.invalid(&path.child("name"), webhook.name, detail);
        }
    }
    let versions = path.child("admissionReviewVersions");
    if webhook.review_versions.is_empty() {
        errors.required(&versions, "must specify one of v1, v1beta1");
    } else if !webhook.review_versions.iter().any(|version| matches!(version.as_str(), "v1" | "v1beta1")) {
        let detail = "must include at least one of v1, v1beta1";
        errors.invalid(&versions, &shown(&webhook.review_versions), detail);
    }
    for (index, rule) in webhook.rules.iter().enumerate() {
        let path = path.child("rules").index(index);
        rule_of(errors, &path, rule);
    }
    one_of_present(errors, &path.child("failurePolicy"), webhook.failure_policy, &["Fail", "Ignore"]);
    one_of_present(errors, &path.child("matchPolicy"), webhook.match_policy, &["Equivalent", "Exact"]);
    one_of(errors, &path.child("sideEffects"), Some(webhook.side_effects), &["None", "NoneOnDryRun"]);
    if let Some(seconds) = webhook.timeout_seconds.filter(|seconds| !(1..=30).contains(seconds)) {
        errors.invalid(&path.child("timeoutSeconds"), seconds, "the timeout value must be between 1 and 30 seconds");
    }
    selectors::label_selector(errors, &path.child("namespaceSelector"), webhook.namespace_selector);
    selectors::label_selector(errors, &path.child("objectSelector"), webhook.object_selector);
    client(errors, &path.child("clientConfig"), webhook.client_config);
}

fn client(errors: &mut FieldErrors, path: &Path, config: &WebhookClientConfig) {
    match (&config.url, &config.service) {
        (None, None) | (Some(_), Some(_)) => errors.required(path, "exactly one of url or service is required"),
        (Some(url), None) => {
            let host = url.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap_or_default());
            match host {
                None => {
                    errors.invalid(&path.child("url"), url, "'https' is the only allowed URL scheme; desired format: https://host[/path]")
                }
                Some("") => errors.invalid(&path.child("url"), url, "host must be specified; desired format: https://host[/path]"),
                Some(host) if host.contains('@') => {
                    errors.invalid(&path.child("url"), url, "user information is not permitted in the URL");
                }
                Some(_) => {}
            }
        }
        (None, Some(service)) => {
            let path = path.child("service");
            required(errors, &path.child("name"), &service.name, "service name is required");
            required(errors, &path.child("namespace"), &service.namespace, "service namespace is required");
            let port = service.port.unwrap_or(443);
            for problem in names::port_number(port) {
                errors.invalid(&path.child("port"), port, &format!("port is not valid: {problem}"));
            }
        }
    }
}

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];

fn rule_of(errors: &mut FieldErrors, path: &Path, rule: &RuleWithOperations) {
    let lists = [
        ("operations", &rule.operations),
        ("apiGroups", &rule.api_groups),
        ("apiVersions", &rule.api_versions),
        ("resources", &rule.resources),
    ];
    rule_lists(errors, path, &lists);
    one_of_present(errors, &path.child("scope"), rule.scope.as_deref(), &["*", "Cluster", "Namespaced"]);
}

fn rule_lists(errors: &mut FieldErrors, path: &Path, lists: &[(&str, &Option<Vec<String>>)]) {
    for (field, list) in lists {
        let path = path.child(field);
        let list = list.as_deref().unwrap_or_default();
        if list.is_empty() {
            errors.required(&path, "");
        }
        if list.len() > 1 && list.iter().any(|item| item == "*") {
            errors.invalid(&path, &shown(&list), "if '*' is present, must not specify other values");
        }
        if *field == "operations" {
            for (index, operation) in list.iter().enumerate() {
                one_of_present(errors, &path.index(index), Some(operation), OPERATIONS);
            }
        }
    }
}

/// What a policy matches.
pub fn match_resources(errors: &mut FieldErrors, path: &Path, resources: &MatchResources) {
    selectors::label_selector(errors, &path.child("namespaceSelector"), resources.namespace_selector.as_ref());
    selectors::label_selector(errors, &path.child("objectSelector"), resources.object_selector.as_ref());
    one_of(errors, &path.child("matchPolicy"), resources.match_policy.as_deref(), &["Equivalent", "Exact"]);
    for (field, rules) in [("resourceRules", &resources.resource_rules), ("excludeResourceRules", &resources.exclude_resource_rules)] {
        for (index, rule) in rules.iter().flatten().enumerate() {
            named_rule(errors, &path.child(field).index(index), rule);
        }
    }
}

fn named_rule(errors: &mut FieldErrors, path: &Path, rule: &NamedRuleWithOperations) {
    let lists = [
        ("operations", &rule.operations),
        ("apiGroups", &rule.api_groups),
        ("apiVersions", &rule.api_versions),
        ("resources", &rule.resources),
    ];
    rule_lists(errors, path, &lists);
}
