//! Field ownership and server-side apply (KEP-555; apimachinery/pkg/util/managedfields, structured-merge-diff/merge).
//! Makes objects with their managedFields; admission, validation and storage are the pipeline's. Time is a parameter.

mod managers;
mod set;
mod walk;

use std::borrow::Cow;

use api::meta::v1::StatusCause;
use api::status::{Reason, StatusError};
use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::schema::Schema;
use managers::{Manager, Operation};
use set::Set;
use walk::{Comparison, Undeclared};

const BEFORE_FIRST_APPLY: &str = "before-first-apply";
const KUBECTL: &str = "kubectl";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// One write, as ownership sees it.
#[derive(Clone, Copy, Debug)]
pub struct FieldManager<'a> {
    /// `?fieldManager=`, or what `manager_name` makes of the user agent.
    pub manager: &'a str,
    /// Empty for the main resource.
    pub subresource: &'a str,
    /// Of the object: `apps/v1`.
    pub api_version: &'a str,
    pub schema: Schema<'a>,
    pub now: Timestamp,
}

/// The manager of a request: `field_manager` (the query parameter), else the first word of the user agent.
pub fn manager_name(field_manager: Option<&str>, user_agent: &str) -> String {
    match field_manager.filter(|name| !name.is_empty()) {
        Some(name) => name.to_owned(),
        None => {
            let first = user_agent.split('/').next().unwrap_or_default();
            let name: String = first.chars().filter(|c| !c.is_control()).take(128).collect();
            if name.is_empty() { "unknown".into() } else { name }
        }
    }
}

/// A field that others own with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// `"kubectl" with subresource "scale" using apps/v1`
    pub manager: String,
    /// `.spec.replicas`
    pub path: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    #[error("{0}")]
    BadRequest(String),
    /// The configuration has fields that the kind does not.
    #[error("{0}")]
    Undeclared(String),
    #[error("{}", conflict_message(.0))]
    Conflict(Vec<Conflict>),
    /// The stored object has malformed managedFields.
    #[error("failed to decode managed fields")]
    Managers,
}

impl From<ApplyError> for StatusError {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::BadRequest(_) => Self::bad_request(message),
            ApplyError::Undeclared(_) | ApplyError::Managers => {
                let mut status = Self::new(Reason::InternalError, message);
                // Upstream gives these no reason.
                status.0.reason = None;
                status
            }
            ApplyError::Conflict(conflicts) => {
                let mut status = Self::new(Reason::Conflict, message);
                let causes = conflicts.into_iter().map(|conflict| StatusCause {
                    reason: Some("FieldManagerConflict".into()),
                    message: Some(format!("conflict with {}", conflict.manager)),
                    field: Some(conflict.path),
                });
                status.0.details.get_or_insert_with(Default::default).causes = Some(causes.collect());
                status
            }
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [conflict] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {}: {}", conflict.manager, conflict.path);
    }
    let mut lines = Vec::new();
    let mut last = "";
    for conflict in conflicts {
        if conflict.manager != last {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = &conflict.manager;
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl<'a> FieldManager<'a> {
    /// Writes `new.metadata.managedFields` for a create (`old` is None), an update or a patch other than apply.
    /// `new` is what was sent, defaulted; a list in it that the sender changed counts, as upstream.
    pub fn track_update(&self, old: Option<&Value>, new: &mut Value) {
        let live = old.and_then(managed_fields);
        let sent = take_managed_fields(new).filter(|sent| self.subresource.is_empty() && Some(sent) != live);
        let entries = self.decode_either(live, sent.as_ref());
        // Objects without any entry were written before they were tracked, or lost them by wish.
        if entries.is_empty() && old.is_some() {
            return;
        }
        let empty = Value::Object(Map::new());
        let comparison = self.compare(old.unwrap_or(&empty), new);
        if let (true, None, Some(live)) = (comparison.is_same(), &sent, live) {
            put_managed_fields(new, Some(live.clone()));
            return;
        }
        let list = managers::encode(self.updated(entries, comparison));
        let list = match (list, live) {
            (Some(list), Some(live)) if managers::differ_in_time_only(&list, live) && same_but_managers(old, new) => Some(live.clone()),
            (list, _) => list,
        };
        put_managed_fields(new, list);
    }

    /// The entries that the sender meant: `[{}]` asks for none, a malformed or empty list for the stored ones.
    fn decode_either<'v>(&self, live: Option<&'v Value>, sent: Option<&'v Value>) -> Vec<Manager<'v>> {
        let stored = || managers::decode(live).unwrap_or_default();
        let Some(sent) = sent else { return stored() };
        if sent
            .as_array()
            .is_some_and(|list| list.len() == 1 && list[0].as_object().is_some_and(|entry| entry.values().all(Value::is_null)))
        {
            return Vec::new();
        }
        managers::decode_sent(sent).filter(|entries| !entries.is_empty()).unwrap_or_else(stored)
    }

    fn updated<'v>(&'v self, mut entries: Vec<Manager<'v>>, comparison: Comparison) -> Vec<Manager<'v>> {
        let Comparison { added: mut own, modified, removed } = comparison;
        set::union(&mut own, &modified);
        managers::subtract(&mut entries, &own);
        managers::subtract(&mut entries, &removed);
        managers::strip(&mut own);
        if !own.is_empty() {
            let mut entry = self.entry(self.manager, Operation::Update, own);
            if let Some(at) = entries.iter().position(|known| known.is_same(&entry)) {
                set::union(entry.fields.to_mut(), &entries[at].fields);
                entries[at] = entry;
            } else {
                entries.push(entry);
            }
        }
        entries.retain(|manager| !manager.fields.is_empty());
        managers::cap(&mut entries);
        entries
    }

    /// Applies a configuration to the stored object, which the pipeline then updates. `live` None: it is to be created.
    pub fn apply(&self, live: Option<&Value>, config: &Value, force: bool) -> Result<Value, ApplyError> {
        self.check_config(config)?;
        let stored = live.and_then(managed_fields);
        let mut plain = live.cloned().unwrap_or_else(|| Value::Object(Map::new()));
        take_managed_fields(&mut plain);
        let mut entries = managers::decode(stored).ok_or(ApplyError::Managers)?;
        if entries.is_empty() && live.is_some() {
            let Comparison { added: mut own, modified, .. } = self.compare(&Value::Object(Map::new()), &plain);
            set::union(&mut own, &modified);
            managers::strip(&mut own);
            entries.push(self.entry(BEFORE_FIRST_APPLY, Operation::Update, own));
        }
        let mut applied = self.fields_of(config)?;
        managers::strip(&mut applied);
        if let Some(reset) = self.reset_field() {
            applied.remove(reset);
        }
        let forces = force || self.is_client_side_owned(&plain, config, &applied, &entries)?;
        let (mut object, entries) = self.apply_set(&plain, config, applied, entries, forces)?;
        if self.manager == KUBECTL {
            update_last_applied(&mut object, config);
        }
        let mut list = managers::encode(entries);
        if let (Some(new), Some(stored)) = (&list, stored)
            && object == plain
            && managers::differ_in_time_only(new, stored)
        {
            list = Some(stored.clone());
        }
        put_managed_fields(&mut object, list);
        Ok(object)
    }

    fn check_config(&self, config: &Value) -> Result<(), ApplyError> {
        let version = config.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        if version != self.api_version {
            return Err(ApplyError::BadRequest(format!(
                "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
                self.api_version
            )));
        }
        if managed_fields(config).is_some_and(|list| !list.is_null()) {
            return Err(ApplyError::BadRequest("metadata.managedFields must be nil".into()));
        }
        Ok(())
    }

    fn fields_of(&self, config: &Value) -> Result<Set, ApplyError> {
        walk::field_set(self.schema, config).map_err(|Undeclared(cause)| {
            let text = |place: Option<&Value>| place.and_then(Value::as_str).unwrap_or_default().to_owned();
            let meta = config.get("metadata");
            let (namespace, name) = (text(meta.and_then(|m| m.get("namespace"))), text(meta.and_then(|m| m.get("name"))));
            let kind = text(config.get("kind"));
            ApplyError::Undeclared(format!(
                "failed to create typed patch object ({namespace}/{name}; {}, Kind={kind}): {cause}",
                self.api_version
            ))
        })
    }

    fn apply_set<'v>(
        &'v self,
        live: &Value,
        config: &Value,
        applied: Set,
        mut entries: Vec<Manager<'v>>,
        force: bool,
    ) -> Result<(Value, Vec<Manager<'v>>), ApplyError> {
        let merged = walk::merge(self.schema, Some(live), config);
        let mut entry = self.entry(self.manager, Operation::Apply, applied);
        let last = entries.iter().position(|known| known.is_same(&entry)).map(|at| entries.remove(at));
        let object = match &last {
            Some(last) if !last.fields.is_empty() => {
                let appliers = entries.iter().filter(|known| known.operation == Operation::Apply).chain([&entry]);
                self.prune(merged, appliers.map(|manager| &*manager.fields), &last.fields)
            }
            _ => merged,
        };
        let Comparison { added: mut changed, modified, removed } = self.compare(live, &object);
        set::union(&mut changed, &modified);
        let conflicts = conflicts(&entries, &changed);
        if !force && !conflicts.is_empty() {
            return Err(ApplyError::Conflict(conflicts));
        }
        managers::subtract(&mut entries, &changed);
        managers::subtract(&mut entries, &removed);
        if let Some(last) = last.filter(|last| *live == object && last.fields == entry.fields) {
            entry.time = last.time;
        }
        entries.push(entry);
        Ok((object, entries))
    }

    /// Drops what this manager applied before and no longer does, unless another applier has it or it was never only this manager's.
    fn prune<'s>(&self, merged: Value, appliers: impl Iterator<Item = &'s Set>, last: &Set) -> Value {
        let named = |set: &Set| walk::with_named_fields(self.schema, set);
        let fields = |value: &Value| named(&walk::field_set_of_stored(self.schema, value));
        let last = named(last);
        let all = fields(&merged);
        let mut kept = walk::remove(self.schema, &merged, &last).map(|rest| fields(&rest)).unwrap_or_default();
        for applied in appliers {
            set::union(&mut kept, &named(applied));
        }
        let mut unowned = all.clone();
        set::difference(&mut unowned, &kept);
        let with_owned = walk::remove(self.schema, &merged, &unowned).map(|rest| fields(&rest)).unwrap_or_default();
        let mut gone = all;
        set::difference(&mut gone, &with_owned);
        let gone = set::intersection(&gone, &last);
        walk::remove(self.schema, &merged, &gone).unwrap_or_else(|| Value::Object(Map::new()))
    }

    /// Whether an apply by kubectl conflicts only where its own client-side apply is the owner by the annotation.
    fn is_client_side_owned(&self, live: &Value, config: &Value, applied: &Set, entries: &[Manager<'_>]) -> Result<bool, ApplyError> {
        if self.manager != KUBECTL {
            return Ok(false);
        }
        let Err(ApplyError::Conflict(_)) = self.apply_set(live, config, applied.clone(), entries.to_vec(), false) else { return Ok(false) };
        let annotation = live.get("metadata").and_then(|m| m.get("annotations")).and_then(|a| a.get(LAST_APPLIED)).and_then(Value::as_str);
        let Some(last) = annotation.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return Ok(false) };
        if last.get("apiVersion").and_then(Value::as_str) != Some(self.api_version) {
            return Ok(false);
        }
        let Ok(mut allowed) = walk::field_set(self.schema, &last) else { return Ok(false) };
        let compared = walk::compare(self.schema, &last, live);
        for other in [&compared.modified, &compared.added, &compared.removed] {
            set::difference(&mut allowed, other);
        }
        let mut others = entries.to_vec();
        managers::subtract(&mut others, &allowed);
        match self.apply_set(live, config, applied.clone(), others, false) {
            Ok(_) => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn compare(&self, old: &Value, new: &Value) -> Comparison {
        let mut comparison = walk::compare(self.schema, old, new);
        for found in [&mut comparison.added, &mut comparison.modified, &mut comparison.removed] {
            if let Some(reset) = self.reset_field() {
                found.remove(reset);
            }
            if let Some(Value::Object(meta)) = found.get_mut("f:metadata") {
                meta.remove("f:managedFields");
                if meta.is_empty() {
                    found.remove("f:metadata");
                }
            }
        }
        comparison
    }

    /// What the write cannot set, since it goes to another endpoint: upstream's GetResetFields.
    fn reset_field(&self) -> Option<&'static str> {
        match self.subresource {
            "" => Some("f:status"),
            "status" => Some("f:spec"),
            _ => None,
        }
    }

    fn entry<'v>(&'v self, name: &'v str, operation: Operation, fields: Set) -> Manager<'v> {
        Manager {
            name: name.into(),
            operation,
            api_version: self.api_version.into(),
            subresource: self.subresource.into(),
            time: Some(self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into()),
            fields: Cow::Owned(fields),
        }
    }
}

fn conflicts(entries: &[Manager<'_>], changed: &Set) -> Vec<Conflict> {
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| set::intersects(&entry.fields, changed)) {
        let mut manager = format!("{:?}", entry.name);
        if !entry.subresource.is_empty() {
            manager = format!("{manager} with subresource {:?}", entry.subresource);
        }
        if entry.operation == Operation::Update {
            manager = format!("{manager} using {}", entry.api_version);
        }
        let paths = set::paths(&set::intersection(&entry.fields, changed));
        found.extend(paths.into_iter().map(|path| Conflict { manager: manager.clone(), path }));
    }
    found.sort_by(|a, b| (&a.manager, &a.path).cmp(&(&b.manager, &b.path)));
    found
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("managedFields")
}

fn take_managed_fields(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

fn put_managed_fields(object: &mut Value, list: Option<Value>) {
    if let (Some(list), Some(meta)) = (list, object.get_mut("metadata").and_then(Value::as_object_mut)) {
        meta.insert("managedFields".into(), list);
    }
}

fn same_but_managers(old: Option<&Value>, new: &Value) -> bool {
    let Some(mut old) = old.cloned() else { return false };
    take_managed_fields(&mut old);
    old == *new
}

/// Keeps client-side apply's annotation true where it is in use.
fn update_last_applied(object: &mut Value, config: &Value) {
    let annotations = object.get_mut("metadata").and_then(|m| m.get_mut("annotations")).and_then(Value::as_object_mut);
    let Some(annotation) = annotations.and_then(|a| a.get_mut(LAST_APPLIED)) else { return };
    let mut config = config.clone();
    if let Some(annotations) = config.get_mut("metadata").and_then(|m| m.get_mut("annotations")).and_then(Value::as_object_mut) {
        annotations.remove(LAST_APPLIED);
    }
    *annotation = Value::String(format!("{config}\n"));
}

#[cfg(test)]
mod tests;
