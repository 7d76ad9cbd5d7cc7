//! Policy rules: whether one allows a request, whether some cover others. Pure.
//! Upstream: pkg/apis/rbac/v1/evaluation_helpers.go, component-helpers/auth/rbac/validation/policy_comparator.go.

use api::rbac::v1::PolicyRule;

use crate::auth::Attributes;

fn list(field: &Option<Vec<String>>) -> &[String] {
    field.as_deref().unwrap_or_default()
}

fn has(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == value)
}

fn has_or_star(list: &[String], value: &str) -> bool {
    list.iter().any(|item| item == "*" || item == value)
}

pub fn allows(rule: &PolicyRule, asked: &Attributes<'_>) -> bool {
    if !has_or_star(&rule.verbs, asked.verb) {
        return false;
    }
    if !asked.is_resource {
        return list(&rule.non_resource_urls).iter().any(|pattern| url_matches(pattern, asked.path));
    }
    has_or_star(list(&rule.api_groups), asked.group)
        && list(&rule.resources).iter().any(|pattern| resource_matches(pattern, asked.resource, asked.subresource))
        && (list(&rule.resource_names).is_empty() || has(list(&rule.resource_names), asked.name))
}

/// `*` is everything, `*/scale` a subresource of everything.
fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some((parent, sub)) => !subresource.is_empty() && sub == subresource && (parent == "*" || parent == resource),
    }
}

fn url_matches(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || pattern.strip_suffix('*').is_some_and(|prefix| path.starts_with(prefix.trim_end_matches('*')))
}

/// The parts of `wanted` that no rule of `held` covers; empty: everything is covered. Each part has one verb and one resource or URL.
pub fn uncovered(held: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<PolicyRule> {
    let mut missing = Vec::new();
    for part in wanted.iter().flat_map(parts) {
        if !held.iter().any(|rule| covers(rule, &part)) && !missing.contains(&part) {
            missing.push(part);
        }
    }
    missing
}

/// A rule as rules with one verb and one resource (with its group and at most one name) or URL each.
fn parts(rule: &PolicyRule) -> Vec<PolicyRule> {
    let mut parts = Vec::new();
    let names: Vec<Option<Vec<String>>> = match list(&rule.resource_names) {
        [] => vec![None],
        names => names.iter().map(|name| Some(vec![name.clone()])).collect(),
    };
    for verb in &rule.verbs {
        for group in list(&rule.api_groups) {
            for resource in list(&rule.resources) {
                parts.extend(names.iter().map(|names| PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    resource_names: names.clone(),
                    non_resource_urls: None,
                }));
            }
        }
        for url in list(&rule.non_resource_urls) {
            parts.push(PolicyRule { verbs: vec![verb.clone()], non_resource_urls: Some(vec![url.clone()]), ..PolicyRule::default() });
        }
    }
    parts
}

fn covers(held: &PolicyRule, part: &PolicyRule) -> bool {
    let all = |held: &[String], wanted: &[String]| has(held, "*") || wanted.iter().all(|w| has(held, w));
    if !all(&held.verbs, &part.verbs) {
        return false;
    }
    if !list(&part.non_resource_urls).is_empty() {
        return list(&part.non_resource_urls)
            .iter()
            .all(|url| list(&held.non_resource_urls).iter().any(|pattern| url_matches(pattern, url)));
    }
    let names = list(&held.resource_names);
    let resource_covered = list(&part.resources).iter().all(|resource| {
        let sub = resource.split_once('/').map(|(_, sub)| format!("*/{sub}"));
        list(&held.resources).iter().any(|h| h == "*" || h == resource || sub.as_deref() == Some(h))
    });
    all(list(&held.api_groups), list(&part.api_groups))
        && resource_covered
        && (names.is_empty() || (!list(&part.resource_names).is_empty() && list(&part.resource_names).iter().all(|n| has(names, n))))
}

/// Joins rules that differ only in their verbs, so that messages stay short.
pub fn compact(rules: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut joined: Vec<PolicyRule> = Vec::new();
    for rule in rules {
        let same = |other: &&mut PolicyRule| {
            other.api_groups == rule.api_groups
                && other.resources == rule.resources
                && other.resource_names == rule.resource_names
                && other.non_resource_urls == rule.non_resource_urls
        };
        match joined.iter_mut().find(same) {
            Some(other) => other.verbs.extend(rule.verbs),
            None => joined.push(rule),
        }
    }
    joined
}

/// `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`, as upstream's CompactString.
pub fn show(rule: &PolicyRule) -> String {
    let mut fields = Vec::new();
    let mut field = |name: &str, values: &[String]| {
        if !values.is_empty() {
            let quoted: Vec<String> = values.iter().map(|v| format!("{v:?}")).collect();
            fields.push(format!("{name}:[{}]", quoted.join(" ")));
        }
    };
    field("APIGroups", list(&rule.api_groups));
    field("Resources", list(&rule.resources));
    field("NonResourceURLs", list(&rule.non_resource_urls));
    field("ResourceNames", list(&rule.resource_names));
    field("Verbs", &rule.verbs);
    format!("{{{}}}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::UserInfo;
    use crate::auth::rbac::policy::{named, on, urls};

    fn asks<'a>(user: &'a UserInfo, verb: &'a str, group: &'a str, resource: &'a str, name: &'a str) -> Attributes<'a> {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            user,
            verb,
            is_resource: true,
            group,
            version: "v1",
            resource,
            subresource,
            namespace: "",
            name,
            path: "",
            field_selector: "",
            label_selector: "",
        }
    }

    #[test]
    fn resources() {
        let user = UserInfo::default();
        let check = |rule: &PolicyRule, asked: (&str, &str, &str, &str), expected: bool| {
            let (verb, group, resource, name) = asked;
            assert_eq!(allows(rule, &asks(&user, verb, group, resource, name)), expected, "{} {asked:?}", show(rule));
        };
        let pods = on("get list", "core", "pods").to_rule();
        check(&pods, ("get", "", "pods", "a"), true);
        check(&pods, ("delete", "", "pods", "a"), false);
        check(&pods, ("get", "apps", "pods", "a"), false);
        check(&pods, ("get", "", "pods/log", "a"), false);
        let scale = on("*", "*", "*/scale").to_rule();
        check(&scale, ("update", "apps", "deployments/scale", "a"), true);
        check(&scale, ("update", "apps", "deployments", "a"), false);
        let all = on("*", "*", "*").to_rule();
        check(&all, ("x", "y", "z/s", ""), true);
        let one = named("get", "core", "secrets", "a b").to_rule();
        check(&one, ("get", "", "secrets", "b"), true);
        check(&one, ("get", "", "secrets", "c"), false);
        check(&one, ("get", "", "secrets", ""), false);
    }

    #[test]
    fn paths() {
        let user = UserInfo::default();
        let rule = urls("get", "/version /apis/*").to_rule();
        let check = |path: &str, expected: bool| {
            let asked = Attributes { is_resource: false, path, ..asks(&user, "get", "", "", "") };
            assert_eq!(allows(&rule, &asked), expected, "{path}");
        };
        check("/version", true);
        check("/version/", false);
        check("/apis/apps/v1", true);
        check("/apis", false);
    }

    #[test]
    fn covering() {
        let check = |held: &[PolicyRule], wanted: PolicyRule, expected: &str| {
            let missing: Vec<String> = compact(uncovered(held, &[wanted])).iter().map(show).collect();
            assert_eq!(missing.join("\n"), expected);
        };
        let edit = [on("get list", "core", "pods").to_rule(), on("watch", "core", "pods secrets").to_rule()];
        check(&edit, on("get watch", "core", "pods").to_rule(), "");
        check(&edit, on("get delete", "core", "secrets").to_rule(), r#"{APIGroups:[""], Resources:["secrets"], Verbs:["delete" "get"]}"#);
        check(&[on("*", "*", "*").to_rule()], on("get", "core", "pods/log").to_rule(), "");
        check(&[urls("get", "/apis/*").to_rule()], urls("get", "/apis/apps").to_rule(), "");
        check(
            &[named("get", "core", "secrets", "a").to_rule()],
            on("get", "core", "secrets").to_rule(),
            r#"{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}"#,
        );
    }
}
