//! The discovery documents as values, out of the table.

use kinds::{KindInfo, Subresource};
use serde_json::{Value, json};

use crate::options::Options;
use crate::table::{Resource, Table};

/// Versions in their order of preference; here each group has them in the table's order, newest first (`v2` before `v1`).
fn versions<'t>(table: &'t Table, group: &str) -> Vec<&'t str> {
    let mut found: Vec<&str> = Vec::new();
    for resource in table.all().iter().filter(|r| r.info().group == group) {
        if !found.contains(&resource.info().version) {
            found.push(resource.info().version);
        }
    }
    found.sort_by_key(|version| std::cmp::Reverse(version.trim_start_matches('v').parse::<u32>().unwrap_or(0)));
    found
}

fn group_names(table: &Table) -> Vec<&'static str> {
    let mut found = Vec::new();
    for resource in table.all() {
        let group = resource.info().group;
        if !group.is_empty() && !found.contains(&group) {
            found.push(group);
        }
    }
    found
}

pub fn paths(table: &Table) -> Value {
    let mut paths = vec!["/.well-known/openid-configuration".to_owned(), "/api".into(), "/api/v1".into(), "/apis".into()];
    for group in group_names(table) {
        paths.push(format!("/apis/{group}"));
        paths.extend(versions(table, group).iter().map(|version| format!("/apis/{group}/{version}")));
    }
    for path in ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"] {
        paths.push(path.to_owned());
    }
    paths.sort();
    json!({ "paths": paths })
}

pub fn core_versions(options: &Options) -> Value {
    let address = options.advertise_address.map_or_else(|| "127.0.0.1".to_owned(), |a| a.to_string());
    let server = format!("{address}:{}", options.secure_port);
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
    })
}

pub fn groups(table: &Table) -> Value {
    let groups: Vec<Value> = group_names(table).into_iter().filter_map(|name| group_body(table, name)).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

pub fn group(table: &Table, name: &str) -> Option<Value> {
    let mut body = group_body(table, name)?;
    body["kind"] = "APIGroup".into();
    body["apiVersion"] = "v1".into();
    Some(body)
}

fn group_body(table: &Table, name: &str) -> Option<Value> {
    let of = |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let versions: Vec<Value> = versions(table, name).iter().map(of).collect();
    let preferred = versions.first()?.clone();
    Some(json!({"name": name, "versions": versions, "preferredVersion": preferred}))
}

/// The APIResourceList of a group's version.
pub fn resources(table: &Table, group: &str, version: &str) -> Option<Value> {
    if !table.has_version(group, version) {
        return None;
    }
    let mut list: Vec<Value> = Vec::new();
    for resource in of_version(table, group, version) {
        let info = resource.info();
        list.push(resource_entry(info));
        list.extend(info.subresources.iter().map(|sub| subresource_entry(info, sub)));
    }
    list.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Some(json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": list}))
}

fn of_version<'t>(table: &'t Table, group: &'t str, version: &'t str) -> impl Iterator<Item = &'t Resource> {
    table.all().iter().map(AsRef::as_ref).filter(move |r: &&Resource| r.info().group == group && r.info().version == version)
}

fn resource_entry(info: &KindInfo) -> Value {
    let mut entry = json!({
        "name": info.resource,
        "singularName": info.singular,
        "namespaced": info.is_namespaced(),
        "kind": info.kind,
        "verbs": info.verbs,
    });
    if !info.short_names.is_empty() {
        entry["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        entry["categories"] = json!(info.categories);
    }
    if !info.storage_prefix.is_empty() {
        entry["storageVersionHash"] = storage_hash(info).into();
    }
    entry
}

/// Upstream: StorageVersionHash in apiserver/pkg/endpoints/discovery/storageversionhash.go.
fn storage_hash(info: &KindInfo) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    let (group, version) = info.stored_as.map_or((info.group, info.version), |(group, version, _)| (group, version));
    let sum = Sha256::digest(format!("{group}/{version}/{}", info.kind));
    base64::engine::general_purpose::STANDARD.encode(&sum[..8])
}

fn subresource_entry(info: &KindInfo, sub: &Subresource) -> Value {
    let (group, version, kind) = sub.kind.unwrap_or((info.group, info.version, info.kind));
    let mut entry = json!({
        "name": format!("{}/{}", info.resource, sub.name),
        "singularName": "",
        "namespaced": info.is_namespaced(),
        "kind": kind,
        "verbs": sub.verbs,
    });
    if (group, version) != (info.group, info.version) {
        entry["group"] = group.into();
        entry["version"] = version.into();
    }
    entry
}

/// APIGroupDiscoveryList (KEP-3352): of the core group, or of all others.
pub fn aggregated(table: &Table, core: bool) -> Value {
    let groups = if core { vec![""] } else { group_names(table) };
    let items: Vec<Value> = groups
        .into_iter()
        .map(|group| {
            let versions: Vec<Value> =
                versions(table, group).into_iter().map(|version| aggregated_version(table, group, version)).collect();
            let metadata =
                if group.is_empty() { json!({"creationTimestamp": null}) } else { json!({"name": group, "creationTimestamp": null}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items})
}

fn aggregated_version(table: &Table, group: &str, version: &str) -> Value {
    let mut list: Vec<&KindInfo> = of_version(table, group, version).map(Resource::info).collect();
    list.sort_by_key(|info| info.resource);
    let resources: Vec<Value> = list.into_iter().map(aggregated_resource).collect();
    json!({"version": version, "freshness": "Current", "resources": resources})
}

fn aggregated_resource(info: &KindInfo) -> Value {
    let scope = if info.is_namespaced() { "Namespaced" } else { "Cluster" };
    let mut entry = json!({
        "resource": info.resource,
        "responseKind": {"group": info.group, "version": info.version, "kind": info.kind},
        "scope": scope,
        "singularResource": info.singular,
        "verbs": info.verbs,
    });
    if !info.short_names.is_empty() {
        entry["shortNames"] = json!(info.short_names);
    }
    if !info.categories.is_empty() {
        entry["categories"] = json!(info.categories);
    }
    if !info.subresources.is_empty() {
        let subs: Vec<Value> = info
            .subresources
            .iter()
            .map(|sub| {
                let (group, version, kind) = sub.kind.unwrap_or((info.group, info.version, info.kind));
                json!({
                    "subresource": sub.name,
                    "responseKind": {"group": group, "version": version, "kind": kind},
                    "verbs": sub.verbs,
                })
            })
            .collect();
        entry["subresources"] = subs.into();
    }
    entry
}
