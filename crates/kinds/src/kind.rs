//! `Kind`: what a resource is (`KindInfo`) with its pure hooks. A row of the table is a type that implements it; see docs/adding-a-kind.md.

use api::FieldErrors;
use api::meta::v1::ObjectMeta;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Cluster,
    Namespaced,
}

/// What `metadata.name` may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: most kinds.
    DnsSubdomain,
    /// RFC 1123 label: namespaces.
    DnsLabel,
    /// RFC 1035 label: services.
    Dns1035Label,
    /// Any path segment (no `/`, `%`, not `.` or `..`): RBAC kinds.
    PathSegment,
}

/// A subresource of a row, as discovery lists it.
#[derive(Clone, Copy, Debug)]
pub struct Subresource {
    /// `status`, `scale`, `log`, `binding`...
    pub name: &'static str,
    /// Group, version, kind of its body where that is not the parent's: `("autoscaling", "v1", "Scale")`.
    pub kind: Option<(&'static str, &'static str, &'static str)>,
    /// RBAC verbs; empty for a connect-only subresource's discovery is never right: use get/create.
    pub verbs: &'static [&'static str],
}

impl Subresource {
    /// Reads and writes of status alone.
    pub const STATUS: Self = Self { name: "status", kind: None, verbs: STATUS_VERBS };
    /// The replica count as an autoscaling/v1 Scale.
    pub const SCALE: Self = Self { name: "scale", kind: Some(("autoscaling", "v1", "Scale")), verbs: STATUS_VERBS };
}

/// The facts of a resource in one version of its group.
#[derive(Clone, Copy, Debug)]
pub struct KindInfo {
    /// Empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    pub kind: &'static str,
    /// Plural, lower case: the path segment and the RBAC name.
    pub resource: &'static str,
    pub singular: &'static str,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub scope: Scope,
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// Below `/registry/`, as upstream: `pods`, `services/specs`, `minions`, `deployments`. Empty: never stored (reviews).
    pub storage_prefix: &'static str,
    /// OpenAPI definition: `io.k8s.api.core.v1.Pod`.
    pub schema: &'static str,
    pub name_rule: NameRule,
    /// Whether metadata.generation counts changes of the spec.
    pub has_generation: bool,
    /// Whether PUT and apply may create (upstream's AllowCreateOnUpdate).
    pub create_on_update: bool,
    /// Whether an update without a resourceVersion is taken (upstream's AllowUnconditionalUpdate).
    pub unconditional_update: bool,
    /// metadata.deletionGracePeriodSeconds is honoured (pods).
    pub graceful_delete: bool,
    /// For a kind that is stored as another version or group's: the row that owns the bytes, as (group, version, resource).
    pub stored_as: Option<(&'static str, &'static str, &'static str)>,
}

pub const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
pub const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

impl KindInfo {
    /// What most kinds are; a row overrides what differs.
    pub const DEFAULT: Self = Self {
        group: "",
        version: "v1",
        kind: "",
        resource: "",
        singular: "",
        short_names: &[],
        categories: &[],
        scope: Scope::Namespaced,
        verbs: ALL_VERBS,
        subresources: &[],
        storage_prefix: "",
        schema: "",
        name_rule: NameRule::DnsSubdomain,
        has_generation: false,
        create_on_update: false,
        unconditional_update: true,
        graceful_delete: false,
        stored_as: None,
    };

    /// `DEFAULT` with what the type itself tells: group, version, kind, resource, and storage under the resource's name.
    pub const fn of<K: k8s_openapi::Resource>() -> Self {
        Self {
            group: K::GROUP,
            version: K::VERSION,
            kind: K::KIND,
            resource: K::URL_PATH_SEGMENT,
            storage_prefix: K::URL_PATH_SEGMENT,
            ..Self::DEFAULT
        }
    }

    /// `v1` or `apps/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    pub fn is_namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }
}

/// A column of `kubectl get`, as meta.k8s.io/v1 Table has it.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, `boolean`, `number`.
    pub kind: &'static str,
    /// `name` for the name column, else mostly empty.
    pub format: &'static str,
    /// 0 is always shown; 1 only with `-o wide`.
    pub priority: i32,
    pub description: &'static str,
}

/// A resource type with its rules. Every hook is pure and synchronous; the pipeline in `apiserver` calls them in the order of this list.
pub trait Kind:
    k8s_openapi::Metadata<Ty = ObjectMeta>
    + Serialize
    + DeserializeOwned
    + Clone
    + Default
    + PartialEq
    + schemars::JsonSchema
    + std::fmt::Debug
    + Send
    + Sync
    + 'static
{
    const INFO: KindInfo;

    /// Fills what the user left out. Idempotent. Runs on what users send and on what the store returns from an older version.
    fn default_fields(&mut self) {}

    /// Before a create: drop what users may not set (status, generated fields).
    fn prepare_create(&mut self) {}

    /// Before an update of the main resource: keep what it may not change (status) from `old`.
    fn prepare_update(&mut self, _old: &Self) {}

    /// Before an update of the `status` subresource: `self` is what was sent; keep everything but status from `old`.
    fn prepare_status_update(&mut self, _old: &Self) {}

    /// Before an update of another part that is a subresource (`finalize`, `approval`, `resize`...): `self` is what was sent; keep everything
    /// but that part from `old`.
    fn prepare_part(&mut self, _part: &str, _old: &Self) {}

    /// Rules on an object alone; metadata is checked by the pipeline for all kinds.
    fn validate(&self, _errors: &mut FieldErrors) {}

    /// Rules on the change; `validate` runs as well.
    fn validate_update(&self, _old: &Self, _errors: &mut FieldErrors) {}

    fn validate_status_update(&self, _old: &Self, _errors: &mut FieldErrors) {}

    /// Rules on the change of a part, after `prepare_part`; `validate` runs as well.
    fn validate_part(&self, _part: &str, _old: &Self, _errors: &mut FieldErrors) {}

    /// Whether the part that counts for metadata.generation differs (mostly: the spec).
    fn spec_changed(&self, _old: &Self) -> bool {
        false
    }

    /// Fields for field selectors beside metadata.name and metadata.namespace: `("spec.nodeName", ...)`. The same names for every object.
    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Texts for the `Warning` response header.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// For a row with `INFO.stored_as`: its object from the JSON of the row that owns the bytes, apiVersion included.
    fn from_stored(stored: Value) -> Value {
        stored
    }

    /// The reverse of `from_stored`. Must lose nothing that `from_stored` gave.
    fn to_stored(own: Value) -> Value {
        own
    }

    /// Columns of `kubectl get`; Name and Age when a kind has no own.
    fn columns() -> &'static [Column] {
        DEFAULT_COLUMNS
    }

    /// One cell per column. `now` is for ages.
    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![crate::row::name_cell(self.metadata()), crate::row::age_cell(self.metadata(), now)]
    }
}

pub const NAME_COLUMN: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    priority: 0,
    description: "Name must be unique within a namespace. It is the key by which clients refer to the object.",
};

pub const AGE_COLUMN: Column =
    Column { name: "Age", kind: "string", format: "", priority: 0, description: "Time since the object was created." };

pub const DEFAULT_COLUMNS: &[Column] = &[NAME_COLUMN, Column { name: "Created At", kind: "date", ..AGE_COLUMN }];
