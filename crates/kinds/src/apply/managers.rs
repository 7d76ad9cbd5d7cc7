//! metadata.managedFields: who owns which fields since when (apimachinery/pkg/util/managedfields/internal).
//! Must not know schemas nor look at objects beyond their managedFields.

use std::borrow::Cow;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::set::{self, Set};

/// Updates by more managers than these are merged into one entry per version, oldest first.
const MAX_UPDATE_MANAGERS: usize = 10;
const BUCKET: &str = "ancient-changes";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    Apply,
    Update,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// An entry. Its fields are borrowed from the stored object until they change.
#[derive(Clone, Debug, PartialEq)]
pub struct Manager<'a> {
    pub name: Cow<'a, str>,
    pub operation: Operation,
    pub api_version: Cow<'a, str>,
    pub subresource: Cow<'a, str>,
    /// RFC 3339 in UTC, to the second: sorts as text.
    pub time: Option<Cow<'a, str>>,
    pub fields: Cow<'a, Set>,
}

impl Manager<'_> {
    /// Entries that are one manager's. An applier stays the same when it changes the version.
    pub fn is_same(&self, other: &Manager<'_>) -> bool {
        self.operation == other.operation
            && self.name == other.name
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }

    fn to_value(&self) -> Value {
        let mut entry = Map::new();
        let mut put = |name: &str, text: &str| {
            if !text.is_empty() {
                entry.insert(name.into(), text.into());
            }
        };
        put("manager", &self.name);
        put("operation", self.operation.as_str());
        put("apiVersion", &self.api_version);
        put("subresource", &self.subresource);
        put("time", self.time.as_deref().unwrap_or_default());
        put("fieldsType", "FieldsV1");
        entry.insert("fieldsV1".into(), Value::Object(self.fields.clone().into_owned()));
        Value::Object(entry)
    }
}

/// The entries of a stored object. None: the list is malformed.
pub fn decode(list: Option<&Value>) -> Option<Vec<Manager<'_>>> {
    match list {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(entries)) => entries.iter().map(decode_entry).collect(),
        Some(_) => None,
    }
}

/// As `decode`, for a list that a user sent: also checks the fields, and makes them comparable.
pub fn decode_sent(list: &Value) -> Option<Vec<Manager<'_>>> {
    let mut managers = decode(Some(list))?;
    for manager in &mut managers {
        let fields = set::canonical(&Value::Object(manager.fields.clone().into_owned()))?;
        manager.fields = Cow::Owned(fields);
    }
    Some(managers)
}

fn decode_entry(entry: &Value) -> Option<Manager<'_>> {
    let text = |name: &str| match entry.get(name) {
        None | Some(Value::Null) => Some(""),
        Some(value) => value.as_str(),
    };
    if text("fieldsType")? != "FieldsV1" {
        return None;
    }
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    let fields = match entry.get("fieldsV1") {
        None | Some(Value::Null) => Cow::Owned(Set::new()),
        Some(value) => Cow::Borrowed(value.as_object()?),
    };
    Some(Manager {
        name: text("manager")?.into(),
        operation,
        api_version: text("apiVersion")?.into(),
        subresource: text("subresource")?.into(),
        time: Some(text("time")?).filter(|t| !t.is_empty()).map(Cow::Borrowed),
        fields,
    })
}

/// The list as objects carry it: without empty entries, sorted as upstream. None: nobody owns anything.
pub fn encode(mut managers: Vec<Manager<'_>>) -> Option<Value> {
    managers.retain(|manager| !manager.fields.is_empty());
    managers.sort_by(|a, b| {
        (a.operation, &a.time, &a.name, &a.api_version, &a.subresource).cmp(&(
            b.operation,
            &b.time,
            &b.name,
            &b.api_version,
            &b.subresource,
        ))
    });
    (!managers.is_empty()).then(|| managers.iter().map(Manager::to_value).collect())
}

/// Whether two lists tell the same but for the times.
pub fn differ_in_time_only(a: &Value, b: &Value) -> bool {
    let strip = |list: &Value| -> Option<Vec<Value>> {
        let mut entries = list.as_array()?.clone();
        for entry in &mut entries {
            entry.as_object_mut()?.remove("time");
        }
        entries.sort_by_cached_key(ToString::to_string);
        Some(entries)
    };
    matches!((strip(a), strip(b)), (Some(a), Some(b)) if a == b)
}

/// Takes fields from all managers; copies only the sets that change.
pub fn subtract(managers: &mut [Manager<'_>], fields: &Set) {
    for manager in managers.iter_mut().filter(|manager| set::intersects(&manager.fields, fields)) {
        set::difference(manager.fields.to_mut(), fields);
    }
}

/// Merges the oldest updates when there are too many.
pub fn cap(managers: &mut Vec<Manager<'_>>) {
    let mut updates: Vec<usize> = (0..managers.len()).filter(|&at| managers[at].operation == Operation::Update).collect();
    let mut count = updates.len();
    if count <= MAX_UPDATE_MANAGERS {
        return;
    }
    updates.sort_by(|&a, &b| (&managers[a].time, &managers[a].name).cmp(&(&managers[b].time, &managers[b].name)));
    let mut buckets: Vec<usize> = Vec::new();
    let mut gone = Vec::new();
    for at in updates {
        if count <= MAX_UPDATE_MANAGERS {
            break;
        }
        let Some(&bucket) = buckets.iter().find(|&&bucket| managers[bucket].api_version == managers[at].api_version) else {
            buckets.push(at);
            continue;
        };
        let (fields, time) = (managers[at].fields.clone(), managers[at].time.clone());
        let kept = &mut managers[bucket];
        kept.name = BUCKET.into();
        kept.subresource = "".into();
        kept.time = time;
        set::union(kept.fields.to_mut(), &fields);
        gone.push(at);
        count -= 1;
    }
    gone.sort_unstable();
    for at in gone.into_iter().rev() {
        managers.remove(at);
    }
}

/// What no manager owns: identity and what the server writes.
pub fn strip(fields: &mut Set) {
    const META: [&str; 9] =
        ["name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName", "generation", "managedFields", "resourceVersion"];
    static UNOWNED: LazyLock<Set> = LazyLock::new(|| {
        let mut meta = Set::new();
        for name in META {
            set::attach(&mut meta, format!("f:{name}"), Set::new(), true);
        }
        let mut unowned = Set::new();
        set::attach(&mut unowned, "f:metadata", meta, true);
        set::attach(&mut unowned, "f:apiVersion", Set::new(), true);
        set::attach(&mut unowned, "f:kind", Set::new(), true);
        unowned
    });
    set::difference(fields, &UNOWNED);
}
