//! The names and numbers of etcd's messages, as tables that the build makes from `proto`. Holds no behaviour beyond looking them up.

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

pub struct Message {
    pub name: &'static str,
    /// In the order of the file, which is the order in JSON.
    pub fields: &'static [Field],
}

pub struct Field {
    pub name: &'static str,
    /// The other name that JSON may use.
    pub camel: &'static str,
    pub number: u32,
    pub is_list: bool,
    pub kind: Kind,
}

/// Indexes are into `MESSAGES` and `ENUMS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the protocol need not use every kind")]
pub enum Kind {
    Int32,
    Int64,
    Uint32,
    Uint64,
    Bool,
    String,
    Bytes,
    Message(usize),
    Enum(usize),
}

pub struct Enum {
    pub name: &'static str,
    pub values: &'static [(&'static str, i32)],
}

pub struct Service {
    pub name: &'static str,
    pub methods: &'static [Method],
}

pub struct Method {
    pub name: &'static str,
    pub input: usize,
    pub output: usize,
    pub takes_stream: bool,
    pub gives_stream: bool,
}

impl Method {
    pub fn input(&self) -> &'static Message {
        &MESSAGES[self.input]
    }

    pub fn output(&self) -> &'static Message {
        &MESSAGES[self.output]
    }
}

pub fn method(service: &str, method: &str) -> Option<&'static Method> {
    let service = SERVICES.iter().find(|each| each.name == service)?;
    service.methods.iter().find(|each| each.name == method)
}
