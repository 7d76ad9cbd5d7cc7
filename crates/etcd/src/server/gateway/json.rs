//! JSON to protobuf and back, as grpc-gateway v1 does it: names of the file or in camel case are read and those of the file are written, 64-bit numbers
//! are strings, bytes are base64, enums are names, what has its default is left out. Untrusted on the way in: gives errors, never panics.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use serde_json::Value;

use super::schema::{ENUMS, Enum, Field, Kind, MESSAGES, Message};

/// The protobuf form of a message in JSON. The error is for the client.
pub fn to_proto(message: &Message, json: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let Value::Object(object) = json else { return Err(format!("an object is expected for {}", message.name)) };
    for (name, value) in object {
        // What is not known is passed over, as etcd does.
        let field = message.fields.iter().find(|field| field.name == name || field.camel == name);
        let Some(field) = field.filter(|_| !value.is_null()) else { continue };
        match (field.is_list, value) {
            (false, value) => write_field(field, value, out)?,
            (true, Value::Array(values)) => values.iter().try_for_each(|value| write_field(field, value, out))?,
            (true, _) => return Err(format!("{}: an array is expected", field.name)),
        }
    }
    Ok(())
}

fn write_field(field: &Field, value: &Value, out: &mut Vec<u8>) -> Result<(), String> {
    let varint = |number: u64, out: &mut Vec<u8>| {
        encode_key(field.number, WireType::Varint, out);
        encode_varint(number, out);
    };
    let delimited = |bytes: &[u8], out: &mut Vec<u8>| {
        encode_key(field.number, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    };
    let expected = |what: &str| format!("{}: {what} is expected", field.name);
    match field.kind {
        // A negative number takes ten bytes, whatever its width.
        Kind::Int32 => varint(i64::from(number::<i32>(value).ok_or_else(|| expected("a number of 32 bits"))?).cast_unsigned(), out),
        Kind::Int64 => varint(number::<i64>(value).ok_or_else(|| expected("a number of 64 bits"))?.cast_unsigned(), out),
        Kind::Uint32 => varint(u64::from(number::<u32>(value).ok_or_else(|| expected("a positive number of 32 bits"))?), out),
        Kind::Uint64 => varint(number::<u64>(value).ok_or_else(|| expected("a positive number of 64 bits"))?, out),
        Kind::Bool => varint(u64::from(value.as_bool().ok_or_else(|| expected("true or false"))?), out),
        Kind::String => delimited(value.as_str().ok_or_else(|| expected("a string"))?.as_bytes(), out),
        Kind::Bytes => delimited(&base64(value.as_str().ok_or_else(|| expected("a string in base64"))?)?, out),
        Kind::Enum(index) => varint(i64::from(enum_number(&ENUMS[index], value)?).cast_unsigned(), out),
        Kind::Message(index) => {
            let mut inner = Vec::new();
            to_proto(&MESSAGES[index], value, &mut inner)?;
            delimited(&inner, out);
        }
    }
    Ok(())
}

/// A number, or one in a string.
fn number<T: std::str::FromStr>(value: &Value) -> Option<T> {
    match value {
        Value::Number(number) => number.to_string().parse().ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| match error {
        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => {
            format!("illegal base64 data at input byte {at}")
        }
        base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => {
            format!("illegal base64 data at input byte {}", text.len())
        }
    })
}

fn enum_number(each: &Enum, value: &Value) -> Result<i32, String> {
    match value {
        Value::String(name) => {
            let known = each.values.iter().find(|(known, _)| known == name);
            known.map(|(_, number)| *number).ok_or_else(|| format!("unknown value {name:?} for enum {}", each.name))
        }
        _ => number(value).ok_or_else(|| format!("a name or a number is expected for enum {}", each.name)),
    }
}

/// Bytes that are no message of the expected type.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message cannot be read")]
pub struct Malformed;

/// The value of a field on the wire.
enum Raw<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

/// Appends the JSON form of a message.
pub fn to_json(message: &Message, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut found: Vec<(u32, Raw<'_>)> = Vec::new();
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).map_err(|_| Malformed)?;
        let raw = match wire {
            WireType::Varint => Raw::Varint(decode_varint(&mut bytes).map_err(|_| Malformed)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).ok().and_then(|length| usize::try_from(length).ok()).ok_or(Malformed)?;
                let (value, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
                bytes = rest;
                Raw::Bytes(value)
            }
            WireType::SixtyFourBit if bytes.remaining() >= 8 => {
                bytes.advance(8);
                continue;
            }
            WireType::ThirtyTwoBit if bytes.remaining() >= 4 => {
                bytes.advance(4);
                continue;
            }
            _ => return Err(Malformed),
        };
        found.push((number, raw));
    }
    out.push(b'{');
    let mut is_first = true;
    for field in message.fields {
        let mut values = found.iter().filter(|(number, _)| *number == field.number).map(|(_, raw)| raw);
        // Of a field that may be there once the last one counts.
        let Some(first) = (if field.is_list { values.next() } else { values.next_back() }) else { continue };
        if !std::mem::take(&mut is_first) {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(field.name.as_bytes());
        out.extend_from_slice(if field.is_list { b"\":[" } else { b"\":" });
        write_value(field.kind, first, out)?;
        if field.is_list {
            for value in values {
                out.push(b',');
                write_value(field.kind, value, out)?;
            }
            out.push(b']');
        }
    }
    out.push(b'}');
    Ok(())
}

fn write_value(kind: Kind, raw: &Raw<'_>, out: &mut Vec<u8>) -> Result<(), Malformed> {
    // The low half is the number: protobuf cuts so too.
    #[allow(clippy::cast_possible_truncation, reason = "protobuf's rule for numbers of 32 bits")]
    let low = |number: u64| number as u32;
    match (kind, raw) {
        (Kind::Bool, Raw::Varint(number)) => out.extend_from_slice(if *number == 0 { b"false" } else { b"true" }),
        (Kind::Int32, Raw::Varint(number)) => out.extend_from_slice(low(*number).cast_signed().to_string().as_bytes()),
        (Kind::Uint32, Raw::Varint(number)) => out.extend_from_slice(low(*number).to_string().as_bytes()),
        (Kind::Int64, Raw::Varint(number)) => quoted(&number.cast_signed().to_string(), out),
        (Kind::Uint64, Raw::Varint(number)) => quoted(&number.to_string(), out),
        (Kind::Enum(index), Raw::Varint(number)) => {
            let number = low(*number).cast_signed();
            match ENUMS[index].values.iter().find(|(_, known)| *known == number) {
                Some((name, _)) => quoted(name, out),
                None => out.extend_from_slice(number.to_string().as_bytes()),
            }
        }
        (Kind::String, Raw::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| Malformed)?;
            serde_json::to_writer(out, text).map_err(|_| Malformed)?;
        }
        (Kind::Bytes, Raw::Bytes(bytes)) => quoted(&STANDARD.encode(bytes), out),
        (Kind::Message(index), Raw::Bytes(bytes)) => to_json(&MESSAGES[index], bytes, out)?,
        _ => return Err(Malformed),
    }
    Ok(())
}

/// Text that needs no escapes.
fn quoted(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::pb;
    use crate::server::gateway::schema;

    fn message(name: &str) -> &'static Message {
        MESSAGES.iter().find(|message| message.name == name).unwrap()
    }

    fn read<T: prost::Message + Default>(name: &str, json: &str) -> Result<T, String> {
        let mut bytes = Vec::new();
        to_proto(message(name), &serde_json::from_str(json).unwrap(), &mut bytes)?;
        Ok(T::decode(&bytes[..]).unwrap())
    }

    fn written(name: &str, value: &impl prost::Message) -> String {
        let mut out = Vec::new();
        to_json(message(name), &value.encode_to_vec(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn requests_in_both_spellings() {
        let range = pb::RangeRequest {
            key: "foo".into(),
            limit: 3,
            sort_order: pb::range_request::SortOrder::Descend.into(),
            max_mod_revision: -1,
            keys_only: true,
            ..Default::default()
        };
        for json in [
            r#"{"key":"Zm9v","limit":"3","sort_order":"DESCEND","max_mod_revision":-1,"keys_only":true,"other":{}}"#,
            r#"{"key":"Zm9v","limit":3,"sortOrder":2,"maxModRevision":"-1","keysOnly":true,"range_end":null}"#,
        ] {
            assert_eq!(read::<pb::RangeRequest>("RangeRequest", json).unwrap(), range, "{json}");
        }
        let grant: pb::LeaseGrantRequest = read("LeaseGrantRequest", r#"{"TTL":"5","ID":7}"#).unwrap();
        assert_eq!((grant.ttl, grant.id), (5, 7));
        let txn: pb::TxnRequest = read(
            "TxnRequest",
            r#"{"compare":[{"key":"YQ==","target":"VALUE","value":""}],"success":[{"requestPut":{"key":"YQ=="}},{"request_range":{}}]}"#,
        )
        .unwrap();
        assert_eq!(txn.compare[0].target_union, Some(pb::compare::TargetUnion::Value(bytes::Bytes::new())), "a given default counts");
        assert_eq!(txn.success.len(), 2);
    }

    #[test]
    fn requests_that_are_refused() {
        let check = |json: &str, expected: &str| {
            let error = read::<pb::RangeRequest>("RangeRequest", json).unwrap_err();
            assert!(error.contains(expected), "{json}: {error}");
        };
        check(r"[]", "an object is expected");
        check(r#"{"key":1}"#, "key: a string in base64");
        check(r#"{"key":"@@"}"#, "illegal base64 data at input byte 0");
        check(r#"{"key":"Zg"}"#, "illegal base64 data at input byte 2");
        check(r#"{"limit":"x"}"#, "limit: a number");
        check(r#"{"limit":1.5}"#, "limit: a number");
        check(r#"{"limit":9223372036854775808}"#, "limit: a number");
        check(r#"{"keys_only":"true"}"#, "keys_only: true or false");
        check(r#"{"sort_order":"UP"}"#, "unknown value \"UP\" for enum etcdserverpb.RangeRequest.SortOrder");
        assert!(read::<pb::TxnRequest>("TxnRequest", r#"{"compare":{}}"#).unwrap_err().contains("compare: an array"));
    }

    #[test]
    fn answers() {
        let header = Some(pb::ResponseHeader { cluster_id: u64::MAX, revision: -1, ..Default::default() });
        let kv = pb::KeyValue { key: "foo".into(), create_revision: 2, ..Default::default() };
        let range = pb::RangeResponse { header, kvs: vec![kv.clone(), kv], more: false, count: 2 };
        assert_eq!(
            written("RangeResponse", &range),
            r#"{"header":{"cluster_id":"18446744073709551615","revision":"-1"},"kvs":[{"key":"Zm9v","create_revision":"2"},{"key":"Zm9v","create_revision":"2"}],"count":"2"}"#
        );
        let alarm = pb::AlarmMember { member_id: 1, alarm: 1 };
        assert_eq!(written("AlarmMember", &alarm), r#"{"memberID":"1","alarm":"NOSPACE"}"#);
        assert_eq!(written("AlarmMember", &pb::AlarmMember { alarm: 9, ..alarm }), r#"{"memberID":"1","alarm":9}"#);
        let hash = pb::HashKvResponse { hash: u32::MAX, ..Default::default() };
        assert_eq!(written("HashKVResponse", &hash), r#"{"hash":4294967295}"#);
        let member = pb::Member { name: "a\"b".into(), peer_ur_ls: vec!["x".into()], is_learner: true, ..Default::default() };
        assert_eq!(written("Member", &member), r#"{"name":"a\"b","peerURLs":["x"],"isLearner":true}"#);
        assert_eq!(
            written("RangeResponse", &pb::RangeResponse { header: Some(Default::default()), ..Default::default() }),
            r#"{"header":{}}"#
        );
    }

    #[test]
    fn bytes_that_are_no_message() {
        for bytes in [&b"\x0a"[..], b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x08", b"\x09\0", b"\x0b", b"\x10\x01"] {
            assert_eq!(to_json(message("RangeResponse"), bytes, &mut Vec::new()), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn every_method_is_in_the_tables() {
        let methods: usize = schema::SERVICES.iter().map(|service| service.methods.len()).sum();
        assert!(methods >= 43, "{methods}");
        let watch = schema::method("etcdserverpb.Watch", "Watch").unwrap();
        assert_eq!((watch.input().name, watch.output().name), ("WatchRequest", "WatchResponse"));
        assert!(watch.takes_stream && watch.gives_stream);
    }
}
