//! The hand-written supplement to the table: what upstream added after the protobuf files, and what neither source says.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};

#[derive(Default)]
pub struct Extra {
    pub number: Option<String>,
    /// Upstream's markers (`+listType=set`), or flags of the table as they are (`value`).
    pub markers: Vec<String>,
}

/// Lines of the file: `TYPE FIELD [=NUMBER] [MARKER...]`, `TYPE atomic`, `TYPE json` (a type without protobuf form).
#[derive(Default)]
pub struct Overlay {
    fields: BTreeMap<(String, String), Extra>,
    atomic: Vec<String>,
    json_only: Vec<String>,
}

impl Overlay {
    pub fn parse(text: &str) -> Result<Self> {
        let mut overlay = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let name = format!("io.k8s.{}", words.next().context("a line has words")?);
            match words.next().with_context(|| format!("{line}: no field"))? {
                "atomic" => overlay.atomic.push(name),
                "json" => overlay.json_only.push(name),
                field => {
                    let extra = overlay.fields.entry((name, field.to_owned())).or_default();
                    for word in words {
                        match word.strip_prefix('=') {
                            Some(number) => extra.number = Some(number.to_owned()),
                            None => extra.markers.push(word.to_owned()),
                        }
                    }
                }
            }
        }
        Ok(overlay)
    }

    pub fn field(&self, type_name: &str, field: &str) -> Option<&Extra> {
        self.fields.get(&(type_name.to_owned(), field.to_owned()))
    }

    pub fn is_atomic(&self, type_name: &str) -> bool {
        self.atomic.iter().any(|name| name == type_name)
    }

    /// Ends with `*`: all types with that prefix.
    pub fn has_no_protobuf(&self, type_name: &str) -> bool {
        self.json_only.iter().any(|name| name.strip_suffix('*').map_or(name == type_name, |prefix| type_name.starts_with(prefix)))
    }
}
