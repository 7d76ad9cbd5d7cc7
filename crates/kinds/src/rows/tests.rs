//! The walk over the table: what holds for every row. A row without a fixture fails.

mod fixtures;
mod upstream;

use std::collections::BTreeSet;

use api::FieldErrors;
use serde_json::{Value, json};

use super::*;
use crate::Object;
use crate::schema::Schema;

/// Each row with its fixture, complete enough to be created.
fn walk(check: impl Fn(&str, &dyn Row, &Value)) {
    for row in rows() {
        let info = row.info();
        let label = format!("{} {}", info.api_version(), info.kind);
        let mut value = fixtures::fixture(info).unwrap_or_else(|| panic!("{label} has no fixture in rows/tests/fixtures.rs"));
        value["apiVersion"] = json!(info.api_version());
        value["kind"] = json!(info.kind);
        if info.is_namespaced() && value["metadata"]["namespace"].is_null() {
            value["metadata"]["namespace"] = json!("default");
        }
        value["metadata"]["uid"] = json!("6b1c8a52-0000-4000-8000-000000000001");
        value["metadata"]["creationTimestamp"] = json!("2026-01-01T00:00:00Z");
        check(&label, *row, &value);
    }
}

fn decode(row: &dyn Row, value: &Value) -> Box<dyn Object> {
    row.from_value(value.clone()).expect("a fixture decodes")
}

/// As it stands in the store after a create.
fn created(row: &dyn Row, value: &Value) -> Box<dyn Object> {
    let mut object = decode(row, value);
    row.default_fields(object.as_mut());
    row.prepare_create(object.as_mut());
    row.default_fields(object.as_mut());
    object
}

fn texts(errors: &FieldErrors) -> Vec<String> {
    errors.0.iter().map(ToString::to_string).collect()
}

#[test]
fn names_are_unique() {
    let (mut resources, mut kinds, mut prefixes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for info in rows().iter().map(|row| row.info()) {
        assert!(resources.insert((info.group, info.version, info.resource)), "{info:?}");
        assert!(kinds.insert((info.group, info.version, info.kind)), "{info:?}");
        assert_eq!(info.singular, info.kind.to_lowercase());
        assert!(Schema::of(info.schema).is_some(), "{} has no schema {}", info.kind, info.schema);
        let is_stored = info.stored_as.is_none() && !info.storage_prefix.is_empty();
        assert!(!is_stored || prefixes.insert(info.storage_prefix), "two rows are stored under {}", info.storage_prefix);
        if let Some((group, version, resource)) = info.stored_as {
            assert!(find(group, version, resource).is_some(), "{} is stored as a row that is not there", info.kind);
        }
        assert!(info.verbs.contains(&"watch") == (is_stored || info.stored_as.is_some()), "{} is stored or virtual", info.kind);
    }
}

#[test]
fn short_names_are_unique() {
    let mut seen = BTreeSet::new();
    for info in rows().iter().map(|row| row.info()).filter(|info| info.stored_as.is_none()) {
        for name in info.short_names {
            assert!(seen.insert(*name), "{name} is short for two resources");
        }
    }
}

#[test]
fn defaults_are_idempotent_and_objects_round_trip() {
    walk(|label, row, value| {
        let mut object = decode(row, value);
        row.default_fields(object.as_mut());
        let once = object.to_value();
        row.default_fields(object.as_mut());
        assert_eq!(object.to_value(), once, "{label}: defaults are not idempotent");
        let again = row.decode(&object.to_json()).expect("our own bytes decode");
        assert_eq!(again.to_value(), once, "{label}: does not round-trip");
        let stored = row.to_stored(once.clone());
        assert_eq!(decode(row, &row.from_stored(stored)).to_value(), once, "{label}: does not survive its stored form");
    });
}

#[test]
fn fixtures_can_be_created() {
    walk(|label, row, value| {
        let object = created(row, value);
        let mut errors = FieldErrors::default();
        if row.info().verbs.contains(&"get") {
            crate::validation::object_meta(row.info(), object.meta(), &mut errors);
        }
        row.validate(object.as_ref(), &mut errors);
        assert_eq!(texts(&errors), Vec::<String>::new(), "{label}");
    });
}

#[test]
fn an_update_to_the_same_changes_nothing() {
    walk(|label, row, value| {
        let old = created(row, value);
        let mut new = old.clone_object();
        row.default_fields(new.as_mut());
        row.prepare_update(new.as_mut(), old.as_ref());
        let mut errors = FieldErrors::default();
        row.validate_update(new.as_ref(), old.as_ref(), &mut errors);
        crate::validation::object_meta_update(new.meta(), old.meta(), &mut errors);
        assert_eq!(texts(&errors), Vec::<String>::new(), "{label}");
        assert_eq!(new.to_value(), old.to_value(), "{label}");
        assert!(!row.spec_changed(new.as_ref(), old.as_ref()), "{label}");
        row.prepare_status_update(new.as_mut(), old.as_ref());
        assert_eq!(new.to_value(), old.to_value(), "{label}: status");
    });
}

#[test]
fn empty_objects_are_refused_without_a_panic() {
    walk(|_, row, _| {
        let mut object = decode(row, &json!({"metadata": {}}));
        row.default_fields(object.as_mut());
        row.prepare_create(object.as_mut());
        let mut errors = FieldErrors::default();
        row.validate(object.as_ref(), &mut errors);
        row.cells(object.as_ref(), jiff::Timestamp::UNIX_EPOCH);
        row.warnings(object.as_ref());
    });
}

#[test]
fn rows_print_a_cell_per_column() {
    let now: jiff::Timestamp = "2026-01-01T00:05:12Z".parse().expect("a time");
    walk(|label, row, value| {
        let object = created(row, value);
        let (columns, cells) = (row.columns(), row.cells(object.as_ref(), now));
        assert_eq!(columns.len(), cells.len(), "{label}");
        let mut names = BTreeSet::new();
        for (column, cell) in columns.iter().zip(&cells) {
            assert!(names.insert(column.name), "{label} has two columns {}", column.name);
            let fits = match column.kind {
                "integer" => cell.is_i64() || cell.is_u64(),
                // Upstream prints some booleans as words and some counts under "string".
                "string" | "boolean" => cell.is_string() || cell.is_boolean() || cell.is_number(),
                "date" => cell.is_string(),
                other => panic!("{label}: {other} is no type of a column"),
            };
            assert!(fits, "{label}: {} is a {}, not {cell}", column.name, column.kind);
            if column.name == "Age" {
                assert_eq!(*cell, json!("5m12s"), "{label}");
            }
        }
        assert!(columns.iter().any(|column| column.format == "name"), "{label} has no column with the name");
    });
}

#[test]
fn selectable_fields_are_the_same_for_every_object() {
    walk(|label, row, value| {
        let names = |object: &dyn Object| row.selectable_fields(object).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        let (full, empty) = (names(created(row, value).as_ref()), names(decode(row, &json!({"metadata": {}})).as_ref()));
        assert_eq!(full, empty, "{label}");
        assert_eq!(full.iter().collect::<BTreeSet<_>>().len(), full.len(), "{label}");
    });
}
