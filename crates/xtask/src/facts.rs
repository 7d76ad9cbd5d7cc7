//! `facts`: joins upstream's protobuf files (shipped by k8s-rs-pb) with the schemas of k8s-openapi into the table that `kinds::facts` reads.
//! Must not copy prose: only names, numbers, types and markers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

mod overlay;
mod proto;
mod schema;

use overlay::Overlay;
use proto::{Message, ProtoField};

const PROTO_VERSION: &str = "v1_35";
const SCHEMA_VERSION: &str = "v1_36";

/// Where the table and its hand-written supplement are, from the root of the repository.
const TABLE: &str = "crates/kinds/src/facts/facts.txt";
const OVERLAY: &str = "crates/kinds/src/facts/overlay.txt";

/// Writes the table, or with `check` fails when the committed one differs.
pub fn run(root: &Path, check: bool) -> Result<()> {
    let messages = proto::read(&package_dir(root, "k8s-rs-pb")?.join("src").join(PROTO_VERSION))?;
    let schemas = schema::read(&package_dir(root, "k8s-openapi")?.join("src").join(SCHEMA_VERSION))?;
    let overlay = Overlay::parse(&std::fs::read_to_string(root.join(OVERLAY)).context(OVERLAY)?)?;
    let joined = join(&messages, &schemas, &overlay)?;
    for problem in &joined.problems {
        eprintln!("{problem}");
    }
    if !joined.problems.is_empty() {
        bail!("{} fields have no protobuf number: add them to {OVERLAY}", joined.problems.len());
    }
    let path = root.join(TABLE);
    if check {
        let committed = std::fs::read_to_string(&path).context(TABLE)?;
        if committed != joined.text {
            bail!("{TABLE} is stale: run `cargo xtask facts`");
        }
        return Ok(());
    }
    std::fs::write(&path, joined.text).context(TABLE)
}

fn package_dir(root: &Path, name: &str) -> Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).exec()?;
    let package = metadata.packages.iter().find(|package| package.name.as_str() == name);
    let manifest = &package.with_context(|| format!("{name} is no dependency"))?.manifest_path;
    Ok(manifest.parent().context("a manifest is in a folder")?.into())
}

struct Joined {
    text: String,
    problems: Vec<String>,
}

/// Schemas of these are one scalar; the codecs know them by name.
fn is_opaque(schema: &Value) -> bool {
    schema.get("properties").is_none_or(|properties| properties.as_object().is_some_and(serde_json::Map::is_empty))
}

fn join(messages: &BTreeMap<String, Message>, schemas: &BTreeMap<String, Value>, overlay: &Overlay) -> Result<Joined> {
    let mut text = String::from("# Made by `cargo xtask facts`; do not edit. crates/kinds/src/facts/mod.rs explains the format.\n");
    let mut problems = Vec::new();
    for (name, schema) in schemas {
        let message = messages.get(name);
        let atomic =
            if message.is_some_and(|m| m.markers.contains("+structType=atomic")) || overlay.is_atomic(name) { " atomic" } else { "" };
        writeln!(text, ":{name}{atomic}")?;
        if is_opaque(schema) {
            continue;
        }
        let fields = message.map(|message| flatten(message, messages, schema)).unwrap_or_default();
        let properties = schema["properties"].as_object().context("checked by is_opaque")?;
        for (property, shape) in properties {
            let mut line = field_line(name, property, shape, fields.get(property), overlay);
            if is_type_meta("kind", properties)
                && matches!(property.as_str(), "metadata" | "spec" | "status")
                && shape.get("$ref").is_some()
            {
                line.flags.push_str(" value");
            }
            if line.number.is_empty() && !overlay.has_no_protobuf(name) && !is_type_meta(property, properties) {
                problems.push(format!("{name}.{property} {}", line.shape));
            }
            writeln!(text, "{property}={} {}{}", line.number, line.shape, line.flags)?;
        }
    }
    Ok(Joined { text, problems })
}

/// apiVersion and kind of top-level objects travel outside of the message.
fn is_type_meta(property: &str, properties: &serde_json::Map<String, Value>) -> bool {
    (property == "apiVersion" || property == "kind") && properties.contains_key("apiVersion") && properties.contains_key("kind")
}

struct Line {
    number: String,
    shape: String,
    flags: String,
}

fn field_line(type_name: &str, property: &str, schema: &Value, found: Option<&Found>, overlay: &Overlay) -> Line {
    let extra = overlay.field(type_name, property);
    let number = extra.and_then(|e| e.number.clone()).or_else(|| found.map(|f| f.path.clone())).unwrap_or_default();
    let mut flags = String::new();
    let mut markers: Vec<String> = found.map(|f| f.field.markers.clone()).unwrap_or_default();
    if let Some(extra) = extra {
        markers.extend(extra.markers.iter().cloned());
    }
    let field_flags = marker_flags(&markers);
    for flag in field_flags {
        flags.push(' ');
        flags.push_str(&flag);
    }
    Line { number, shape: shape(schema), flags }
}

fn marker_flags(markers: &[String]) -> Vec<String> {
    let mut flags = BTreeSet::new();
    let mut keys = Vec::new();
    for marker in markers {
        let Some((name, value)) = marker.strip_prefix('+').and_then(|m| m.split_once('=')) else {
            if !marker.starts_with('+') {
                flags.insert(marker.clone());
            }
            continue;
        };
        match name {
            "listType" if value == "set" || value == "atomic" => _ = flags.insert(value.to_owned()),
            "listMapKey" => keys.push(value.trim_matches('"').to_owned()),
            "mapType" if value == "atomic" => _ = flags.insert("atomic".to_owned()),
            "structType" if value == "atomic" => _ = flags.insert("atomic".to_owned()),
            "structType" | "mapType" if value == "granular" => _ = flags.insert("granular".to_owned()),
            "patchMergeKey" => _ = flags.insert(format!("merge:{value}")),
            "patchStrategy" => {
                for strategy in value.split(',') {
                    flags.insert(strategy.to_owned());
                }
            }
            "default" if !value.starts_with("ref(") => _ = flags.insert(format!("default:{value}")),
            _ => {}
        }
    }
    if !keys.is_empty() {
        flags.insert(format!("map:{}", keys.join(",")));
    }
    flags.into_iter().collect()
}

/// The type of a property in the table's words.
fn shape(schema: &Value) -> String {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return reference.to_owned();
    }
    match (schema["type"].as_str(), schema["format"].as_str()) {
        (Some("array"), _) => format!("[]{}", shape(&schema["items"])),
        (Some("object"), _) if schema.get("additionalProperties").is_some() => {
            format!("{{}}{}", shape(&schema["additionalProperties"]))
        }
        (Some("string"), Some("byte")) => "bytes".into(),
        (Some("string"), _) => "string".into(),
        (Some("boolean"), _) => "bool".into(),
        (Some("integer"), Some("int32")) => "int32".into(),
        (Some("integer"), _) => "int64".into(),
        (Some("number"), _) => "double".into(),
        _ => "any".into(),
    }
}

struct Found<'a> {
    /// Numbers from the outer message down: `2.5` is field 5 of the message in field 2.
    path: String,
    field: &'a ProtoField,
}

/// The message's fields by JSON name, with those of structs that Go inlines and protobuf nests.
fn flatten<'a>(message: &'a Message, messages: &'a BTreeMap<String, Message>, schema: &Value) -> BTreeMap<String, Found<'a>> {
    let mut found = BTreeMap::new();
    let names: BTreeSet<&str> = schema["properties"].as_object().map(|p| p.keys().map(String::as_str).collect()).unwrap_or_default();
    collect(message, messages, &names, "", &mut found);
    found
}

fn collect<'a>(
    message: &'a Message,
    messages: &'a BTreeMap<String, Message>,
    names: &BTreeSet<&str>,
    prefix: &str,
    found: &mut BTreeMap<String, Found<'a>>,
) {
    for field in &message.fields {
        let path = format!("{prefix}{}", field.number);
        if let Some(name) = json_name(&field.name, names) {
            found.insert(name, Found { path, field });
        } else if let Some(inner) = messages.get(&field.kind) {
            collect(inner, messages, names, &format!("{path}."), found);
        }
    }
}

/// The property that a protobuf field is: the same name, the same but for case, or with what protobuf cannot spell (`$ref`, `x-...`).
fn json_name(name: &str, names: &BTreeSet<&str>) -> Option<String> {
    if names.contains(name) {
        return Some(name.to_owned());
    }
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    names.iter().find(|candidate| plain(candidate) == plain(name)).map(|&found| found.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_markers() {
        let check = |schema: &str, expected: &str| {
            assert_eq!(shape(&serde_json::from_str(schema).unwrap()), expected);
        };
        check(r#"{"type":"array","items":{"type":"string"}}"#, "[]string");
        check(r#"{"type":"object","additionalProperties":{"type":"string","format":"byte"}}"#, "{}bytes");
        check(r#"{"$ref":"a.B"}"#, "a.B");
        check(r#"{"type":"integer","format":"int32"}"#, "int32");
        let markers = ["+listType=map", "+listMapKey=port", "+listMapKey=protocol", "+patchStrategy=merge,retainKeys"].map(String::from);
        assert_eq!(marker_flags(&markers), ["map:port,protocol", "merge", "retainKeys"]);
        assert_eq!(
            json_name("xKubernetesListType", &BTreeSet::from(["x-kubernetes-list-type"])).as_deref(),
            Some("x-kubernetes-list-type")
        );
    }
}
