//! The endpoints of rows: paths, methods, parameters, bodies. Must not know how a document spells them.

use super::definitions::{self, Gvk, META};
use crate::kind::{KindInfo, Scope, Subresource};
use crate::row::Row;

/// A query or path parameter.
#[derive(Clone, Copy)]
pub(super) struct Parameter {
    pub name: &'static str,
    /// `string`, `integer`, `boolean`.
    pub kind: &'static str,
    pub description: &'static str,
    pub is_path: bool,
}

const fn query(name: &'static str, kind: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind, description, is_path: false }
}

const fn path(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, kind: "string", description, is_path: true }
}

const NAMESPACE: Parameter = path("namespace", "The namespace of the object.");
const NAME: Parameter = path("name", "The name of the object.");
const SUBPATH: Parameter = path("path", "The path to pass on.");
const PRETTY: Parameter = query("pretty", "string", "\"true\": indent the answer.");

const LIST: &[Parameter] = &[
    query("allowWatchBookmarks", "boolean", "Whether a watch may send bookmarks."),
    query("continue", "string", "Where to go on: the token of the page before."),
    query("fieldSelector", "string", "Only objects whose fields match."),
    query("labelSelector", "string", "Only objects whose labels match."),
    query("limit", "integer", "The most items of one page."),
    query("resourceVersion", "string", "The revision to read from."),
    query("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    query("sendInitialEvents", "boolean", "Whether a watch starts with what is there, then a bookmark."),
    query("timeoutSeconds", "integer", "When a list or watch ends."),
    query("watch", "boolean", "Whether to stream changes."),
];
const DRY_RUN: Parameter = query("dryRun", "string", "\"All\": do everything but store.");
const WRITE: &[Parameter] = &[
    DRY_RUN,
    query("fieldManager", "string", "Who owns the fields that this sets; at most 128 characters."),
    query("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
];
const FORCE: Parameter = query("force", "boolean", "Whether apply takes fields from their owners.");
const DELETE: &[Parameter] = &[
    DRY_RUN,
    query("gracePeriodSeconds", "integer", "The seconds that the object gets to end; 0 is at once."),
    query("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean", "Whether to delete an object that cannot be read."),
    query("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    query("propagationPolicy", "string", "What becomes of dependents: Orphan, Background or Foreground."),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    None,
    /// The definition's name.
    Object(String),
    Patch,
    DeleteOptions,
}

pub(super) struct Operation {
    /// `get`, `post`...
    pub method: &'static str,
    /// `readCoreV1NamespacedPod`
    pub id: String,
    pub description: String,
    /// `x-kubernetes-action`
    pub action: &'static str,
    pub kind: (String, String, String),
    pub query: Vec<Parameter>,
    pub body: Body,
    /// The answer's definition. None: text.
    pub answer: Option<String>,
}

pub(super) struct Endpoint {
    pub path: String,
    pub parameters: Vec<Parameter>,
    pub operations: Vec<Operation>,
}

/// `core_v1`: groups operations.
pub(super) fn tag(info: &KindInfo) -> String {
    let group = info.group.strip_suffix(".k8s.io").unwrap_or(info.group);
    let words = if group.is_empty() { "core".to_owned() } else { camel(group) };
    let mut tag = String::new();
    for (at, c) in words.chars().enumerate() {
        if at == 0 {
            tag.extend(c.to_lowercase());
        } else {
            tag.push(c);
        }
    }
    format!("{tag}_{}", info.version)
}

/// `rbac.authorization` to `RbacAuthorization`.
fn camel(text: &str) -> String {
    text.split(['.', '-'])
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>()).unwrap_or_default()
        })
        .collect()
}

/// Every endpoint of a row.
pub(super) fn endpoints(row: &dyn Row) -> Vec<Endpoint> {
    let names = Names::new(row.info());
    let mut found = Vec::new();
    let mut add = |path: String, parameters: Vec<Parameter>, operations: Vec<Operation>| {
        if !operations.is_empty() {
            found.push(Endpoint { path, parameters, operations });
        }
    };
    let scope: Vec<Parameter> = if names.info.scope == Scope::Namespaced { vec![NAMESPACE] } else { Vec::new() };
    let with = |more: &[Parameter]| -> Vec<Parameter> { scope.iter().chain(more).copied().collect() };
    if names.info.scope == Scope::Namespaced && names.has("list") {
        add(format!("{}/{}", names.root, names.info.resource), vec![PRETTY], vec![names.list_all()]);
    }
    let collection = names.collection();
    add(collection.clone(), with(&[PRETTY]), names.collection_operations());
    let item = format!("{collection}/{{name}}");
    add(item.clone(), with(&[NAME, PRETTY]), names.item_operations());
    for subresource in names.info.subresources {
        let path = format!("{item}/{}", subresource.name);
        add(path.clone(), with(&[NAME, PRETTY]), names.subresource_operations(subresource, ""));
        if subresource.name == "proxy" {
            add(format!("{path}/{{path}}"), with(&[NAME, SUBPATH]), names.subresource_operations(subresource, "WithPath"));
        }
    }
    found
}

/// What endpoints of one row share.
struct Names<'a> {
    info: &'a KindInfo,
    /// `/api/v1`
    root: String,
    /// `CoreV1Namespaced`
    scoped: String,
    /// `CoreV1`
    version: String,
}

impl<'a> Names<'a> {
    fn new(info: &'a KindInfo) -> Self {
        let group = info.group.strip_suffix(".k8s.io").unwrap_or(info.group);
        let group = if group.is_empty() { "Core".to_owned() } else { camel(group) };
        let version = format!("{group}{}", camel(info.version));
        let scoped = if info.scope == Scope::Namespaced { format!("{version}Namespaced") } else { version.clone() };
        Self { info, root: format!("/{}", super::api_path(info.group, info.version)), scoped, version }
    }

    fn has(&self, verb: &str) -> bool {
        self.info.verbs.contains(&verb)
    }

    fn collection(&self) -> String {
        match self.info.scope {
            Scope::Namespaced => format!("{}/namespaces/{{namespace}}/{}", self.root, self.info.resource),
            Scope::Cluster => format!("{}/{}", self.root, self.info.resource),
        }
    }

    fn gvk(&self) -> Gvk<'a> {
        (self.info.group, self.info.version, self.info.kind)
    }

    fn list_all(&self) -> Operation {
        Operation { id: format!("list{}{}ForAllNamespaces", self.version, self.info.kind), ..self.list() }
    }

    fn list(&self) -> Operation {
        let kind = self.info.kind;
        Operation {
            query: LIST.to_vec(),
            answer: Some(format!("{}List", self.info.schema)),
            ..operation("get", format!("list{}{kind}", self.scoped), format!("list or watch {kind} objects"), "list", self.gvk())
        }
    }

    fn collection_operations(&self) -> Vec<Operation> {
        let (kind, schema) = (self.info.kind, self.info.schema.to_owned());
        let mut found = Vec::new();
        if self.has("list") {
            found.push(self.list());
        }
        if self.has("create") {
            found.push(Operation {
                query: WRITE.to_vec(),
                body: Body::Object(schema.clone()),
                answer: Some(schema),
                ..operation("post", format!("create{}{kind}", self.scoped), format!("create a {kind}"), "post", self.gvk())
            });
        }
        if self.has("deletecollection") {
            let id = format!("delete{}Collection{}{kind}", self.version, self.scoped.strip_prefix(&self.version).unwrap_or_default());
            found.push(Operation {
                query: DELETE.iter().chain(&LIST[1..9]).copied().collect(),
                body: Body::DeleteOptions,
                answer: Some(format!("{META}.Status")),
                ..operation("delete", id, format!("delete all matching {kind} objects"), "deletecollection", self.gvk())
            });
        }
        found
    }

    fn item_operations(&self) -> Vec<Operation> {
        let schema = self.info.schema;
        let mut found = self.object_operations(self.info.verbs, self.info.kind, "", schema, self.gvk());
        if self.has("delete") {
            let kind = self.info.kind;
            // Kinds with a graceful end answer with the object; upstream has a few more that do.
            let answer = if self.info.graceful_delete { schema.to_owned() } else { format!("{META}.Status") };
            found.push(Operation {
                query: DELETE.to_vec(),
                body: Body::DeleteOptions,
                answer: Some(answer),
                ..operation("delete", format!("delete{}{kind}", self.scoped), format!("delete a {kind}"), "delete", self.gvk())
            });
        }
        found
    }

    /// get, update and patch of an object or of a subresource that is one.
    fn object_operations(&self, verbs: &[&str], kind: &str, sub: &str, schema: &str, gvk: Gvk<'_>) -> Vec<Operation> {
        let id = |verb: &str| format!("{verb}{}{kind}{sub}", self.scoped);
        let what = if sub.is_empty() { kind.to_owned() } else { format!("{} of a {kind}", sub.to_lowercase()) };
        let mut found = Vec::new();
        if verbs.contains(&"get") {
            found.push(operation("get", id("read"), format!("read the {what}"), "get", gvk));
        }
        if verbs.contains(&"update") {
            found.push(Operation {
                query: WRITE.to_vec(),
                body: Body::Object(schema.to_owned()),
                ..operation("put", id("replace"), format!("replace the {what}"), "put", gvk)
            });
        }
        if verbs.contains(&"patch") {
            found.push(Operation {
                query: WRITE.iter().chain([&FORCE]).copied().collect(),
                body: Body::Patch,
                ..operation("patch", id("patch"), format!("patch the {what}"), "patch", gvk)
            });
        }
        for operation in &mut found {
            operation.answer = Some(schema.to_owned());
        }
        found
    }

    fn subresource_operations(&self, subresource: &Subresource, suffix: &str) -> Vec<Operation> {
        let gvk = subresource.kind.unwrap_or(self.gvk());
        let sub = format!("{}{suffix}", camel(subresource.name));
        if matches!(subresource.name, "exec" | "attach" | "portforward" | "proxy") {
            return self.connect_operations(subresource.name, &sub, gvk);
        }
        let schema = match subresource.kind {
            None => Some(self.info.schema.to_owned()),
            Some(kind) => definitions::schema_of(kind),
        };
        let Some(schema) = schema.filter(|_| subresource.name != "log") else {
            let id = format!("read{}{}{sub}", self.scoped, self.info.kind);
            return vec![operation("get", id, format!("read the {} of a {}", subresource.name, self.info.kind), "get", self.gvk())];
        };
        let mut found = self.object_operations(subresource.verbs, self.info.kind, &sub, &schema, gvk);
        if subresource.verbs.contains(&"create") {
            found.push(Operation {
                query: WRITE.to_vec(),
                body: Body::Object(schema.clone()),
                answer: Some(schema),
                ..operation(
                    "post",
                    format!("create{}{}{sub}", self.scoped, self.info.kind),
                    format!("create the {} of a {}", subresource.name, self.info.kind),
                    "post",
                    gvk,
                )
            });
        }
        found
    }

    fn connect_operations(&self, name: &str, sub: &str, gvk: Gvk<'_>) -> Vec<Operation> {
        let methods: &[&'static str] =
            if name == "proxy" { &["get", "put", "post", "delete", "options", "head", "patch"] } else { &["get", "post"] };
        methods
            .iter()
            .map(|method| {
                let id = format!("connect{}{}{}{}{sub}", self.version, camel(method), &self.scoped[self.version.len()..], self.info.kind);
                operation(method, id, format!("connect to {name} of a {}", self.info.kind), "connect", gvk)
            })
            .collect()
    }
}

fn operation(method: &'static str, id: String, description: String, action: &'static str, (group, version, kind): Gvk<'_>) -> Operation {
    let kind = (group.to_owned(), version.to_owned(), kind.to_owned());
    Operation { method, id, description, action, kind, query: Vec::new(), body: Body::None, answer: None }
}
