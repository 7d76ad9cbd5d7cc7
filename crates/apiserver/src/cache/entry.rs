//! One stored object as the cache keeps it: its bytes at rest with what reads need to select and serve them without decoding.

use std::collections::BTreeMap;

use bytes::Bytes;
use kinds::{DecodeError, Row};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The bytes are shared with the store. `resourceVersion`, which is not at rest, is spliced in when they are sent.
#[derive(Debug)]
pub struct Entry {
    /// `ns/name` or `name`: the store's key below the collection's prefix.
    pub key: Box<str>,
    pub revision: i64,
    pub value: Bytes,
    /// Where metadata's object begins in `value`, and where it ends.
    metadata: (u32, u32),
    pub labels: BTreeMap<String, String>,
    /// Selectable fields beside name and namespace.
    pub fields: Vec<(&'static str, String)>,
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

impl Entry {
    /// Just what sending the object needs: no labels nor fields to select by.
    pub fn bare(key: &str, revision: i64, value: Bytes) -> Result<Self, DecodeError> {
        let outer: Outer<'_> = serde_json::from_slice(&value).map_err(|error| DecodeError(error.to_string()))?;
        let raw = outer.metadata.get();
        let start = raw.as_ptr() as usize - value.as_ptr() as usize;
        if !raw.starts_with('{') {
            return Err(DecodeError("metadata is not an object".into()));
        }
        let span = (u32::try_from(start), u32::try_from(start + raw.len()));
        let (Ok(start), Ok(end)) = span else { return Err(DecodeError("the object is too large".into())) };
        Ok(Self { key: key.into(), revision, metadata: (start, end), labels: BTreeMap::new(), fields: Vec::new(), value })
    }

    /// Indexes an object's bytes. `fields_of` is asked for selectable fields where it has any.
    pub fn parse(key: &str, revision: i64, value: Bytes, fields_of: Option<&dyn Row>) -> Result<Self, DecodeError> {
        let mut entry = Self::bare(key, revision, value)?;
        let metadata = &entry.value[entry.metadata.0 as usize..entry.metadata.1 as usize];
        let labels: Labels = serde_json::from_slice(metadata).map_err(|error| DecodeError(error.to_string()))?;
        entry.labels = labels.labels.unwrap_or_default();
        if let Some(row) = fields_of {
            entry.fields = row.selectable_fields(row.decode(&entry.value)?.as_ref());
        }
        Ok(entry)
    }

    /// The same object at another revision: what a delete event carries.
    pub fn at(&self, revision: i64) -> Self {
        Self {
            key: self.key.clone(),
            revision,
            value: self.value.clone(),
            metadata: self.metadata,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
        }
    }

    pub fn namespace(&self) -> Option<&str> {
        self.key.split_once('/').map(|(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.rsplit_once('/').map_or(&self.key, |(_, name)| name)
    }

    /// For field selectors.
    pub fn field(&self, name: &str) -> Option<&str> {
        match name {
            "metadata.name" => Some(self.name()),
            "metadata.namespace" => Some(self.namespace().unwrap_or_default()),
            _ => self.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str()),
        }
    }

    /// Bytes that `write_json` writes, at most.
    pub fn json_len(&self) -> usize {
        self.value.len() + 42
    }

    /// The object as clients see it.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        let start = self.metadata.0 as usize;
        out.extend_from_slice(&self.value[..start]);
        self.write_metadata(out);
        out.extend_from_slice(&self.value[self.metadata.1 as usize..]);
    }

    /// `{"resourceVersion":"5",...}`.
    pub fn write_metadata(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"resourceVersion\":\"");
        out.extend_from_slice(self.revision.to_string().as_bytes());
        out.push(b'"');
        let rest = &self.value[self.metadata.0 as usize + 1..self.metadata.1 as usize];
        if rest.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'}') {
            out.push(b',');
        }
        out.extend_from_slice(rest);
    }

    pub fn json(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.json_len());
        self.write_json(&mut out);
        out.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(value: &'static str) -> String {
        let entry = Entry::parse("default/a", 7, Bytes::from_static(value.as_bytes()), None).unwrap();
        String::from_utf8(entry.json().to_vec()).unwrap()
    }

    #[test]
    fn splices_the_revision_in() {
        assert_eq!(
            served(r#"{"data":{"metadata":{}},"metadata":{"name":"a","labels":{"x":"y"}},"z":1}"#),
            r#"{"data":{"metadata":{}},"metadata":{"resourceVersion":"7","name":"a","labels":{"x":"y"}},"z":1}"#
        );
        assert_eq!(served(r#"{"metadata":{ }}"#), r#"{"metadata":{"resourceVersion":"7" }}"#);
    }

    #[test]
    fn keys_name_the_object() {
        let entry = Entry::parse("ns/n", 1, Bytes::from_static(br#"{"metadata":{}}"#), None).unwrap();
        assert_eq!((entry.namespace(), entry.name(), entry.field("metadata.namespace")), (Some("ns"), "n", Some("ns")));
        assert!(Entry::parse("n", 1, Bytes::from_static(br#"{"metadata":[]}"#), None).is_err());
        assert!(Entry::parse("n", 1, Bytes::from_static(b"k8s\0"), None).is_err());
    }
}
