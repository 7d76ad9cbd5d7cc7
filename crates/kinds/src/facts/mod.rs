//! What upstream's types are beyond their Rust shape: protobuf numbers, list types and keys, patch strategies, by JSON name.
//! The table is made by `cargo xtask facts` and read once. Must hold no prose: descriptions are k8s-openapi's.
//!
//! Format of `facts.txt`: `:TYPE [atomic]` starts a type, then a line per field, `NAME=NUMBER SHAPE [FLAG...]`.
//! NUMBER is empty (JSON only) or a path: `2.5` is field 5 of the struct that Go inlines and protobuf nests as field 2.
//! SHAPE is a scalar, a type, `[]SHAPE` or `{}SHAPE`. Flags: `set`, `map:KEYS`, `atomic`, `granular`, `merge`, `retainKeys`, `replace`,
//! `merge:KEY`, `default:JSON`, `value` (Go always writes the field, if empty),
//! `enum:VALUES`, `omitzero` (Go leaves a zero out of JSON, but not out of protobuf).

use std::sync::OnceLock;

use hashbrown::HashMap;
use serde_json::Value;

const TABLE: &str = include_str!("facts.txt");

/// A type of the API, `io.k8s.api.core.v1.PodSpec`.
#[derive(Debug)]
pub struct TypeFacts {
    pub name: &'static str,
    /// How the type appears in JSON and protobuf where that is not as a struct.
    pub special: Special,
    /// The struct is owned and replaced as a whole.
    pub is_atomic: bool,
    /// By JSON name, sorted.
    pub fields: Box<[Field]>,
    /// Places in `fields`, by protobuf path; those without one are left out.
    by_path: Box<[u16]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    None,
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    RawExtension,
    FieldsV1,
    /// apiextensions' JSON: any value.
    Json,
    JsonSchemaPropsOrArray,
    JsonSchemaPropsOrBool,
    JsonSchemaPropsOrStringArray,
}

/// A field of a type.
#[derive(Debug)]
pub struct Field {
    /// As in JSON.
    pub name: &'static str,
    /// Protobuf numbers from the outer message down; empty: no protobuf form.
    pub path: Box<[u32]>,
    pub shape: Shape,
    pub list: ListType,
    /// The field makes its struct or map atomic.
    pub is_atomic: bool,
    /// The field makes a struct granular whose type is atomic.
    pub is_granular: bool,
    pub merge_key: Option<&'static str>,
    pub strategy: Strategy,
    pub default: Option<Value>,
    /// What the string (or an item) may be, where upstream's type says; empty: anything.
    pub values: Box<[&'static str]>,
    /// Go always writes the field: a struct held by value, or a list without `omitempty`.
    pub is_value: bool,
    /// Go holds the scalar by value and leaves it out of JSON where it is zero; protobuf has it all the same.
    pub omits_zero: bool,
}

/// The type of a field, an item or a map's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    String,
    /// base64 in JSON.
    Bytes,
    Bool,
    Int32,
    Int64,
    Double,
    Any,
    Type(TypeId),
    List(&'static Shape),
    Map(&'static Shape),
}

/// A type's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(u16);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    Atomic,
    Set,
    /// Items are told apart by these fields.
    Map(Box<[&'static str]>),
}

/// Of a strategic merge patch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strategy {
    pub merge: bool,
    pub retain_keys: bool,
    pub replace: bool,
}

impl TypeFacts {
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields.binary_search_by(|field| field.name.cmp(name)).ok().map(|at| &self.fields[at])
    }

    /// The fields that protobuf has, by number; those of an inlined struct stand together.
    pub fn by_path(&self) -> impl Iterator<Item = &Field> {
        self.by_path.iter().map(|&at| &self.fields[usize::from(at)])
    }
}

impl TypeId {
    pub fn facts(self) -> &'static TypeFacts {
        &table().types[usize::from(self.0)]
    }
}

impl Shape {
    /// The type of a struct (or of one of the special scalars).
    pub fn facts(self) -> Option<&'static TypeFacts> {
        match self {
            Self::Type(id) => Some(id.facts()),
            _ => None,
        }
    }
}

/// The facts of `io.k8s.api.core.v1.Pod`.
pub fn type_of(name: &str) -> Option<&'static TypeFacts> {
    id_of(name).map(TypeId::facts)
}

pub fn id_of(name: &str) -> Option<TypeId> {
    table().ids.get(name).copied()
}

/// All types, by name.
pub fn types() -> &'static [TypeFacts] {
    &table().types
}

struct Table {
    types: Vec<TypeFacts>,
    ids: HashMap<&'static str, TypeId>,
}

fn table() -> &'static Table {
    static PARSED: OnceLock<Table> = OnceLock::new();
    PARSED.get_or_init(|| parse(TABLE).expect("the committed table of facts is well formed: its test reads it"))
}

fn parse(text: &'static str) -> Result<Table, String> {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let mut ids = HashMap::new();
    for head in lines().filter_map(|line| line.strip_prefix(':')) {
        let name = head.split(' ').next().unwrap_or_default();
        let id = u16::try_from(ids.len()).map_err(|e| e.to_string())?;
        ids.insert(name, TypeId(id));
    }
    let mut shapes = Shapes { ids: &ids, known: HashMap::new() };
    let mut types = Vec::with_capacity(ids.len());
    let mut pending: Option<(&'static str, Vec<Field>)> = None;
    for line in lines() {
        if let Some(head) = line.strip_prefix(':') {
            types.extend(pending.replace((head, Vec::new())).map(finish));
        } else {
            let (_, fields) = pending.as_mut().ok_or("a field before any type")?;
            fields.push(shapes.field(line).ok_or_else(|| line.to_owned())?);
        }
    }
    types.extend(pending.map(finish));
    Ok(Table { types, ids })
}

fn finish((head, mut fields): (&'static str, Vec<Field>)) -> TypeFacts {
    let (name, flags) = head.split_once(' ').unwrap_or((head, ""));
    fields.sort_unstable_by_key(|field| field.name);
    let mut by_path: Vec<u16> = (0_u16..).take(fields.len()).filter(|&at| !fields[usize::from(at)].path.is_empty()).collect();
    by_path.sort_unstable_by(|&a, &b| fields[usize::from(a)].path.cmp(&fields[usize::from(b)].path));
    TypeFacts { name, special: special(name), is_atomic: flags == "atomic", fields: fields.into_boxed_slice(), by_path: by_path.into() }
}

fn special(name: &str) -> Special {
    match name.strip_prefix("io.k8s.").unwrap_or(name) {
        "apimachinery.pkg.api.resource.Quantity" => Special::Quantity,
        "apimachinery.pkg.util.intstr.IntOrString" => Special::IntOrString,
        "apimachinery.pkg.apis.meta.v1.Time" => Special::Time,
        "apimachinery.pkg.apis.meta.v1.MicroTime" => Special::MicroTime,
        "apimachinery.pkg.apis.meta.v1.FieldsV1" => Special::FieldsV1,
        "apimachinery.pkg.runtime.RawExtension" => Special::RawExtension,
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON" => Special::Json,
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceSubresourceStatus" => Special::Json,
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray" => Special::JsonSchemaPropsOrArray,
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool" => Special::JsonSchemaPropsOrBool,
        "apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray" => Special::JsonSchemaPropsOrStringArray,
        _ => Special::None,
    }
}

struct Shapes<'a> {
    ids: &'a HashMap<&'static str, TypeId>,
    /// Each element shape once, for the life of the process.
    known: HashMap<&'static str, &'static Shape>,
}

impl Shapes<'_> {
    fn shape(&mut self, text: &'static str) -> Option<Shape> {
        Some(match text {
            "string" => Shape::String,
            "bytes" => Shape::Bytes,
            "bool" => Shape::Bool,
            "int32" => Shape::Int32,
            "int64" => Shape::Int64,
            "double" => Shape::Double,
            "any" => Shape::Any,
            _ => match (text.strip_prefix("[]"), text.strip_prefix("{}")) {
                (Some(item), _) => Shape::List(self.element(item)?),
                (_, Some(value)) => Shape::Map(self.element(value)?),
                _ => Shape::Type(*self.ids.get(text)?),
            },
        })
    }

    fn element(&mut self, text: &'static str) -> Option<&'static Shape> {
        if let Some(known) = self.known.get(text) {
            return Some(known);
        }
        let shape: &'static Shape = Box::leak(Box::new(self.shape(text)?));
        self.known.insert(text, shape);
        Some(shape)
    }

    fn field(&mut self, line: &'static str) -> Option<Field> {
        let (name, rest) = line.split_once('=')?;
        let mut words = rest.split(' ');
        let numbers = words.next()?;
        let path: Option<Box<[u32]>> =
            if numbers.is_empty() { Some(Box::default()) } else { numbers.split('.').map(|n| n.parse().ok()).collect() };
        let shape = self.shape(words.next()?)?;
        let mut field = Field {
            name,
            path: path?,
            shape,
            list: ListType::Atomic,
            is_atomic: false,
            is_granular: false,
            merge_key: None,
            strategy: Strategy::default(),
            default: None,
            values: Box::default(),
            is_value: false,
            omits_zero: false,
        };
        for flag in words {
            set_flag(&mut field, flag)?;
        }
        Some(field)
    }
}

fn set_flag(field: &mut Field, flag: &'static str) -> Option<()> {
    match flag.split_once(':') {
        Some(("map", keys)) => field.list = ListType::Map(keys.split(',').collect()),
        Some(("merge", key)) => field.merge_key = Some(key),
        Some(("default", json)) => field.default = Some(serde_json::from_str(json).ok()?),
        Some(("enum", values)) => field.values = values.split(',').collect(),
        _ => match flag {
            "set" => field.list = ListType::Set,
            "atomic" => field.is_atomic = true,
            "granular" => field.is_granular = true,
            "merge" => field.strategy.merge = true,
            "retainKeys" => field.strategy.retain_keys = true,
            "replace" => field.strategy.replace = true,
            "value" => field.is_value = true,
            "omitzero" => field.omits_zero = true,
            _ => return None,
        },
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_table_is_well_formed() {
        let table = parse(TABLE).unwrap();
        assert!(table.types.len() > 600);
        for facts in &table.types {
            for pair in facts.fields.windows(2) {
                assert!(pair[0].name < pair[1].name, "{} {}", facts.name, pair[0].name);
            }
        }
    }

    #[test]
    fn fields_have_upstreams_facts() {
        let spec = type_of("io.k8s.api.core.v1.ServiceSpec").unwrap();
        let ports = spec.field("ports").unwrap();
        assert_eq!(*ports.path, [1]);
        assert_eq!(ports.list, ListType::Map(["port", "protocol"].into()));
        assert_eq!(ports.merge_key, Some("port"));
        let Shape::List(item) = ports.shape else { panic!("ports is a list") };
        assert_eq!(item.facts().unwrap().field("protocol").unwrap().default, Some("TCP".into()));
        let volume = type_of("io.k8s.api.core.v1.Volume").unwrap();
        assert_eq!(*volume.field("emptyDir").unwrap().path, [2, 2]);
        assert!(type_of("io.k8s.api.core.v1.Pod").unwrap().field("spec").unwrap().is_value);
        assert!(type_of("io.k8s.api.core.v1.Nothing").is_none());
    }
}
