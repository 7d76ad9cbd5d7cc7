//! Compiles etcd's protocol into Rust, and the names in it into the tables of the JSON gateway. Needs no protoc.

use std::fmt::Write;

use protox::prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["rpc.proto", "lock.proto", "election.proto"], ["proto"])?;
    let pool = DescriptorPool::from_file_descriptor_set(files.clone())?;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    std::fs::write(out.join("schema.rs"), schema(&pool)?)?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(files)?;
    Ok(())
}

/// The tables that `server/gateway/schema.rs` includes.
fn schema(pool: &DescriptorPool) -> Result<String, Failure> {
    let messages: Vec<_> = pool.all_messages().collect();
    let enums: Vec<_> = pool.all_enums().collect();
    let mut text = String::from("pub static MESSAGES: &[Message] = &[\n");
    for message in &messages {
        writeln!(text, "    Message {{ name: {:?}, fields: &[", message.name())?;
        for field in message.fields() {
            let (name, camel, number, list) = (field.name().to_owned(), field.json_name().to_owned(), field.number(), field.is_list());
            let kind = kind(&field, &messages, &enums)?;
            writeln!(text, "        Field {{ name: {name:?}, camel: {camel:?}, number: {number}, is_list: {list}, kind: {kind} }},")?;
        }
        writeln!(text, "    ] }},")?;
    }
    text.push_str("];\n\npub static ENUMS: &[Enum] = &[\n");
    for each in &enums {
        let values: Vec<_> = each.values().map(|value| (value.name().to_owned(), value.number())).collect();
        writeln!(text, "    Enum {{ name: {:?}, values: &{values:?} }},", each.full_name())?;
    }
    text.push_str("];\n\npub static SERVICES: &[Service] = &[\n");
    for service in pool.services() {
        writeln!(text, "    Service {{ name: {:?}, methods: &[", service.full_name())?;
        for method in service.methods() {
            let (input, output) = (index(&messages, &method.input())?, index(&messages, &method.output())?);
            let (takes, gives) = (method.is_client_streaming(), method.is_server_streaming());
            let name = method.name();
            writeln!(
                text,
                "        Method {{ name: {name:?}, input: {input}, output: {output}, takes_stream: {takes}, gives_stream: {gives} }},"
            )?;
        }
        writeln!(text, "    ] }},")?;
    }
    text.push_str("];\n");
    Ok(text)
}

fn kind(field: &FieldDescriptor, messages: &[MessageDescriptor], enums: &[EnumDescriptor]) -> Result<String, Failure> {
    Ok(match field.kind() {
        Kind::Int32 => "Kind::Int32".to_owned(),
        Kind::Int64 => "Kind::Int64".to_owned(),
        Kind::Uint32 => "Kind::Uint32".to_owned(),
        Kind::Uint64 => "Kind::Uint64".to_owned(),
        Kind::Bool => "Kind::Bool".to_owned(),
        Kind::String => "Kind::String".to_owned(),
        Kind::Bytes => "Kind::Bytes".to_owned(),
        Kind::Message(message) => format!("Kind::Message({})", index(messages, &message)?),
        Kind::Enum(each) => format!("Kind::Enum({})", index(enums, &each)?),
        other => return Err(format!("{}: the gateway does not know {other:?}", field.full_name()).into()),
    })
}

fn index<T: PartialEq>(all: &[T], one: &T) -> Result<usize, Failure> {
    all.iter().position(|each| each == one).ok_or_else(|| "a type is not in its own pool".into())
}
