//! Repository rules that a compiler cannot check: layers, file sizes, head comments, the paths that documents name. Must never change a file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// The layer of each crate (ARCHITECTURE.md). A crate depends on lower layers only; inside layer 1 only on what `SIDEWAYS` names.
const LAYERS: &[(&str, u8)] = &[
    ("workspace-hack", 0),
    ("api", 0),
    ("base", 0),
    ("bbolt", 0),
    ("kinds", 1),
    ("store", 1),
    ("etcd", 1),
    ("client", 1),
    ("host", 1),
    ("pki", 1),
    ("stream", 1),
    ("serve", 1),
    ("apiserver", 2),
    ("controllers", 2),
    ("scheduler", 2),
    ("kubelet", 2),
    ("proxy", 2),
    ("network", 2),
    ("dns", 2),
    ("etcdctl", 2),
    ("oxikube", 3),
    ("testkit", 3),
    ("xtask", 3),
];

/// Who may see `store`: the API server, and what composes or tests it.
const STORE_USERS: &[&str] = &["etcd", "apiserver", "oxikube", "testkit"];

/// Lines of a source file without its tests.
const FILE_LIMIT: usize = 800;

/// Runs every check and lists all that is wrong.
pub fn run() -> Result<()> {
    let metadata = MetadataCommand::new().no_deps().other_options(vec!["--offline".into()]).exec().context("cargo metadata")?;
    let root = metadata.workspace_root.clone().into_std_path_buf();
    let mut faults = Vec::new();
    layers(&metadata, &mut faults);
    for file in source_files(&root.join("crates"))? {
        source(&root, &file, &mut faults)?;
    }
    for document in documents(&root)? {
        named_paths(&root, &document, &mut faults)?;
    }
    if faults.is_empty() {
        println!("tidy: ok");
        return Ok(());
    }
    for fault in &faults {
        eprintln!("tidy: {fault}");
    }
    bail!("{} rule(s) broken", faults.len())
}

fn layers(metadata: &cargo_metadata::Metadata, faults: &mut Vec<String>) {
    let layer_of: BTreeMap<&str, u8> = LAYERS.iter().copied().collect();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    for package in &metadata.packages {
        let name = package.name.as_str();
        let Some(layer) = layer_of.get(name) else {
            faults.push(format!("crate {name} has no layer: add it to LAYERS in crates/xtask/src/tidy.rs and to ARCHITECTURE.md"));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development && ours.contains(d.name.as_str())) {
            let other = dependency.name.as_str();
            let other_layer = layer_of.get(other).copied().unwrap_or(u8::MAX);
            let allowed = other_layer < *layer
                || (*layer == 1 && other_layer == 1 && SIDEWAYS.contains(&(name, other)))
                || *layer == 3
                || other == "workspace-hack";
            if !allowed {
                faults.push(format!("crate {name} (layer {layer}) must not depend on {other} (layer {other_layer})"));
            }
            if other == "store" && !STORE_USERS.contains(&name) {
                faults.push(format!("crate {name} must not depend on store: components talk through the API"));
            }
        }
    }
}

/// Dependencies inside layer 1 that are wanted: the protocol of the store is its own crate, so that the store stays free of gRPC and TLS.
const SIDEWAYS: &[(&str, &str)] = &[("etcd", "store"), ("etcd", "pki"), ("serve", "client"), ("serve", "pki")];

fn source_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|n| n != "target") {
                found.extend(source_files(&path)?);
            }
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

fn source(root: &Path, file: &Path, faults: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
    if !text.starts_with("//!") && !text.starts_with("#!") {
        faults.push(format!("{shown}: starts without a //! line that says what it owns"));
    }
    let generated = shown.contains("generated");
    let is_test = shown.contains("/tests/") || shown.ends_with("/tests.rs") || shown.contains("/benches/");
    let code_lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if !generated && !is_test && code_lines > FILE_LIMIT {
        faults.push(format!("{shown}: {code_lines} lines without tests, the limit is {FILE_LIMIT}: split it by what it owns"));
    }
    Ok(())
}

fn documents(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = ["README.md", "ARCHITECTURE.md"].iter().map(|name| root.join(name)).collect();
    let docs = root.join("docs");
    if docs.is_dir() {
        for entry in fs::read_dir(&docs)? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    Ok(found)
}

/// Every `crates/...`, `docs/...` or `examples/...` in backquotes must exist.
fn named_paths(root: &Path, document: &Path, faults: &mut Vec<String>) -> Result<()> {
    let shown = document.strip_prefix(root).unwrap_or(document).display().to_string();
    let Ok(text) = fs::read_to_string(document) else {
        faults.push(format!("{shown} is missing"));
        return Ok(());
    };
    let pattern = regex::Regex::new(r"`((?:crates|docs|examples)/[A-Za-z0-9_./-]+)`").context("the pattern of paths")?;
    for found in pattern.captures_iter(&text) {
        let path = &found[1];
        if !root.join(path).exists() {
            faults.push(format!("{shown} names `{path}`, which does not exist"));
        }
    }
    Ok(())
}
