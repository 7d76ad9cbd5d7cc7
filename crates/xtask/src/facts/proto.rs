//! Reads the uniform text that upstream's go-to-protobuf writes: one field a line, markers in the comments above. No general parser.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use regex::Regex;

#[derive(Default)]
pub struct Message {
    pub fields: Vec<ProtoField>,
    /// `+name=value` words of the comment above the message.
    pub markers: BTreeSet<String>,
}

pub struct ProtoField {
    pub name: String,
    pub number: u32,
    /// Name of the message (`io.k8s.api.core.v1.Pod`), or a scalar.
    pub kind: String,
    pub markers: Vec<String>,
}

/// All messages of a folder by their OpenAPI name.
pub fn read(dir: &Path) -> Result<BTreeMap<String, Message>> {
    let mut messages = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).with_context(|| dir.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|e| e == "proto") {
                parse(&std::fs::read_to_string(&path)?, &mut messages)?;
            }
        }
    }
    Ok(messages)
}

/// `.api.core.v1.Pod` or `api.core.v1` + `Pod` to `io.k8s.api.core.v1.Pod`.
fn open_api_name(package: &str, name: &str) -> String {
    let full = name.strip_prefix('.').map_or_else(|| format!("{package}.{name}"), str::to_owned);
    let full = full.replace("kube_aggregator.", "kube-aggregator.").replace("apiextensions_apiserver.", "apiextensions-apiserver.");
    format!("io.k8s.{full}")
}

fn parse(text: &str, messages: &mut BTreeMap<String, Message>) -> Result<()> {
    let package = Regex::new(r"(?m)^package ([a-z0-9_.]+);")?.captures(text).context("a proto file has a package")?[1].to_owned();
    let head = Regex::new(r"^message (\w+) \{")?;
    let field = Regex::new(r"^\s+(?:optional |repeated )?(map<\w+, *[\w.]+>|[\w.]+) (\w+) = (\d+);")?;
    let mut markers = Vec::new();
    let mut current: Option<(String, Message)> = None;
    for line in text.lines() {
        let trimmed = line.trim();
        if let Some(comment) = trimmed.strip_prefix("//") {
            let comment = comment.trim_start_matches([' ', '\t', '/']);
            if comment.starts_with('+') {
                markers.push(comment.trim().to_owned());
            }
        } else if let Some(captures) = head.captures(line) {
            let message = Message { markers: markers.drain(..).collect(), ..Message::default() };
            current = Some((open_api_name(&package, &captures[1]), message));
        } else if trimmed == "}" {
            messages.extend(current.take());
        } else if let (Some(captures), Some((_, message))) = (field.captures(line), current.as_mut()) {
            message.fields.push(ProtoField {
                name: captures[2].to_owned(),
                number: captures[3].parse()?,
                kind: kind(&package, &captures[1]),
                markers: std::mem::take(&mut markers),
            });
        } else if current.is_none() {
            markers.clear();
        }
    }
    Ok(())
}

fn kind(package: &str, text: &str) -> String {
    match text {
        "string" | "bytes" | "bool" | "int32" | "int64" | "uint32" | "double" => text.to_owned(),
        _ => open_api_name(package, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_fields_and_markers() {
        let text = "package api.core.v1;\n// +structType=atomic\nmessage A {\n  // words\n  // +listType=set\n  repeated .api.apps.v1.B bs = 3;\n\n  map<string, string> m = 4;\n}\n";
        let mut messages = BTreeMap::new();
        parse(text, &mut messages).unwrap();
        let message = &messages["io.k8s.api.core.v1.A"];
        assert!(message.markers.contains("+structType=atomic"));
        assert_eq!(message.fields[0].kind, "io.k8s.api.apps.v1.B");
        assert_eq!(message.fields[0].markers, ["+listType=set"]);
        assert_eq!(message.fields[1].number, 4);
    }
}
