//! Reads the JSON schemas out of k8s-openapi's generated source, so that a table of all its types needs no list of them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use regex::Regex;
use serde_json::Value;

/// All schemas of a folder by their OpenAPI name. `$ref`s are OpenAPI names; descriptions are left out.
pub fn read(dir: &Path) -> Result<BTreeMap<String, Value>> {
    let reader = Reader::new()?;
    let mut found = Vec::new();
    let mut pending = vec![(dir.to_owned(), String::from("crate"))];
    while let Some((dir, module)) = pending.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            let stem = path.file_stem().and_then(|s| s.to_str()).context("generated file names are UTF-8")?.to_owned();
            if path.is_dir() {
                pending.push((path, format!("{module}::{stem}")));
            } else {
                let text = std::fs::read_to_string(&path)?;
                found.extend(reader.parse(&text, &module).with_context(|| path.display().to_string())?);
            }
        }
    }
    let names: BTreeMap<String, String> = found.iter().map(|f| (f.path.clone(), f.name.clone())).collect();
    let mut schemas = BTreeMap::new();
    for mut item in found {
        resolve(&mut item.schema, &names)?;
        schemas.insert(item.name, item.schema);
    }
    Ok(schemas)
}

struct Item {
    /// `crate::api::core::v1::Pod`
    path: String,
    name: String,
    schema: Value,
}

struct Reader {
    item: Regex,
    described_reference: Regex,
    reference: Regex,
    trailing_comma: Regex,
}

impl Reader {
    fn new() -> Result<Self> {
        Ok(Self {
            item: Regex::new(
                r#"(?s)JsonSchema for (\w+)(?:<T>)? \{.*?"([^"]+)"\.into\(\).*?json_schema!\((\{.*?\n        \})\)\n    \}\n\}"#,
            )?,
            described_reference: Regex::new(
                r"(?s)\(\{\s*let mut schema_obj = __gen\.subschema_for::<([^>]+)>\(\);.*?\n\s*schema_obj\s*\}\)",
            )?,
            reference: Regex::new(r"\(?__gen\.subschema_for::<([^>]+)>\(\)\)?")?,
            trailing_comma: Regex::new(r",\n(\s*[}\]])")?,
        })
    }

    fn parse(&self, text: &str, module: &str) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for captures in self.item.captures_iter(text) {
            let json = self.described_reference.replace_all(&captures[3], r#"{"$$ref": "$1"}"#);
            let json = self.reference.replace_all(&json, r#"{"$$ref": "$1"}"#);
            let json = self.trailing_comma.replace_all(&json, "\n$1");
            let schema = serde_json::from_str(&json).with_context(|| format!("the schema of {}", &captures[1]))?;
            items.push(Item { path: format!("{module}::{}", &captures[1]), name: captures[2].to_owned(), schema });
        }
        Ok(items)
    }
}

fn resolve(schema: &mut Value, names: &BTreeMap<String, String>) -> Result<()> {
    match schema {
        Value::Object(map) => {
            map.remove("description").filter(|d| !d.is_string()).map(|d| map.insert("description".into(), d));
            if let Some(Value::String(reference)) = map.get_mut("$ref") {
                *reference = names.get(reference).with_context(|| format!("no schema for {reference}"))?.clone();
            }
            map.values_mut().try_for_each(|value| resolve(value, names))
        }
        Value::Array(list) => list.iter_mut().try_for_each(|value| resolve(value, names)),
        _ => Ok(()),
    }
}
