//! The form of objects at rest. Upstream writes protobuf unless told otherwise, and for a release after a new version of a kind has come it goes on with
//! the old one: both are read. Here JSON is written unless told otherwise: it is what clients are sent.

use std::sync::Arc;

use bytes::Bytes;
use kinds::Row;
use kinds::proto::Envelope;
use serde_json::Value;

use crate::cache::ROOT;
use crate::table::Table;

/// In what form objects are written (`--storage-media-type`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MediaType {
    #[default]
    Json,
    Protobuf,
}

impl std::str::FromStr for MediaType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "application/json" => Ok(Self::Json),
            "application/vnd.kubernetes.protobuf" => Ok(Self::Protobuf),
            other => Err(format!("{other:?} is not supported, allowed values: application/json, application/vnd.kubernetes.protobuf")),
        }
    }
}

/// What upstream's encryption at rest begins with.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// Versions whose objects have the fields of the version that is stored here: group, kinds (none: all), version.
const SAME_FIELDS: &[(&str, &[&str], &str)] = &[
    (
        "admissionregistration.k8s.io",
        &["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"],
        "v1beta1",
    ),
    ("apiregistration.k8s.io", &[], "v1beta1"),
    ("autoscaling", &[], "v2beta2"),
    ("batch", &[], "v1beta1"),
    ("coordination.k8s.io", &["Lease"], "v1beta1"),
    ("flowcontrol.apiserver.k8s.io", &[], "v1beta3"),
    ("networking.k8s.io", &["IPAddress", "ServiceCIDR", "IngressClass"], "v1beta1"),
    ("node.k8s.io", &[], "v1beta1"),
    ("policy", &[], "v1beta1"),
    ("rbac.authorization.k8s.io", &[], "v1beta1"),
    ("resource.k8s.io", &[], "v1beta2"),
    ("scheduling.k8s.io", &[], "v1beta1"),
    ("storage.k8s.io", &[], "v1beta1"),
];

pub struct Form {
    pub media_type: MediaType,
    pub table: Arc<Table>,
}

#[derive(Debug, thiserror::Error)]
enum FormError {
    #[error("it is encrypted, and --encryption-provider-config is not supported: let the old API server rewrite it unencrypted first")]
    Encrypted,
    #[error(transparent)]
    Proto(#[from] kinds::proto::ProtoError),
    #[error("it is no JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("it is a {found}, and {wanted} is stored here: let an API server that knows both rewrite it")]
    Version { found: String, wanted: String },
}

impl Form {
    /// JSON in the version of the row. What cannot be read stays as it is: whoever reads the key finds it and says so.
    pub fn unpack(&self, key: &[u8], value: Bytes) -> Bytes {
        let Some(row) = self.row(key) else { return value };
        match read(row, &value) {
            Ok(None) => value,
            Ok(Some(json)) => json,
            Err(error) => {
                tracing::error!(key = %String::from_utf8_lossy(key), %error, "an object in the store cannot be read");
                value
            }
        }
    }

    /// The bytes that are written for JSON.
    pub fn pack(&self, key: &[u8], value: Bytes) -> Bytes {
        if self.media_type == MediaType::Json || self.row(key).is_none() {
            return value;
        }
        match kinds::proto::from_json(&value) {
            Ok(bytes) => bytes.into(),
            Err(error) => {
                tracing::warn!(key = %String::from_utf8_lossy(key), %error, "an object has no form in protobuf: it is stored as JSON");
                value
            }
        }
    }

    /// The row that owns the bytes of a key.
    fn row(&self, key: &[u8]) -> Option<&'static dyn Row> {
        let key = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
        self.table.collection_of(key).map(|(collection, _)| collection.row)
    }
}

/// `None` where nothing is to be done.
fn read(row: &'static dyn Row, value: &[u8]) -> Result<Option<Bytes>, FormError> {
    if value.is_empty() {
        // Only the key was asked for, or it was deleted.
        return Ok(None);
    }
    if value.starts_with(ENCRYPTED) {
        return Err(FormError::Encrypted);
    }
    let wanted = row.info().api_version();
    if !value.starts_with(kinds::proto::PREFIX) {
        if names_version(value, &wanted) {
            return Ok(None);
        }
        let mut object: Value = serde_json::from_slice(value)?;
        let found = object["apiVersion"].as_str().unwrap_or_default().to_owned();
        return match bring(row, &found, &wanted)? {
            Step::Rename if found == wanted => Ok(None),
            Step::Rename => {
                object["apiVersion"] = wanted.into();
                finish(object)
            }
            Step::Convert(from) => finish(from.to_stored(object)),
        };
    }
    let envelope = Envelope::open(value)?;
    match bring(row, envelope.api_version, &wanted)? {
        Step::Rename => finish(envelope.value(&wanted)?),
        Step::Convert(from) => finish(from.to_stored(envelope.value(envelope.api_version)?)),
    }
}

/// Whether JSON names this version where both servers write it: first, or after the kind. Anything else is looked at closely.
fn names_version(json: &[u8], wanted: &str) -> bool {
    const NAME: &[u8] = b"\"apiVersion\":\"";
    let start = &json[..json.len().min(200)];
    let Some(at) = start.windows(NAME.len()).position(|window| window == NAME) else { return false };
    let is_top = at == 1 || start.starts_with(b"{\"kind\":\"") && !start[1..at].contains(&b'{');
    is_top && start[at + NAME.len()..].strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.starts_with(b"\""))
}

enum Step {
    /// The fields are the same.
    Rename,
    /// From the version of another row.
    Convert(&'static dyn Row),
}

fn bring(row: &'static dyn Row, found: &str, wanted: &str) -> Result<Step, FormError> {
    if found == wanted {
        return Ok(Step::Rename);
    }
    let info = row.info();
    let (group, version) = found.split_once('/').unwrap_or(("", found));
    if let Some(other) = kinds::find(group, version, info.resource).filter(|other| other.info().stored_as.is_some()) {
        return Ok(Step::Convert(other));
    }
    let is_same = SAME_FIELDS
        .iter()
        .any(|(known, kinds, older)| (*known, *older) == (group, version) && (kinds.is_empty() || kinds.contains(&info.kind)));
    if is_same && group == info.group {
        return Ok(Step::Rename);
    }
    Err(FormError::Version { found: format!("{found} {}", info.kind), wanted: wanted.to_owned() })
}

/// Without what is not at rest here.
fn finish(mut object: Value) -> Result<Option<Bytes>, FormError> {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        meta.remove("resourceVersion");
        meta.remove("selfLink");
    }
    if object.get("metadata").is_none() {
        object["metadata"] = Value::Object(serde_json::Map::new());
    }
    Ok(Some(serde_json::to_vec(&object)?.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn form(media_type: MediaType) -> Form {
        Form { media_type, table: Arc::new(Table::new(kinds::rows())) }
    }

    fn seen(key: &str, value: impl Into<Bytes>) -> Value {
        let value = form(MediaType::Json).unpack(key.as_bytes(), value.into());
        serde_json::from_slice(&value).unwrap_or_else(|error| panic!("{key}: {error}"))
    }

    #[test]
    fn protobuf_and_json_are_read() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b", "namespace": "a"}, "data": {"k": "v"}});
        let key = "/registry/configmaps/a/b";
        assert_eq!(seen(key, kinds::proto::from_value(&object).unwrap()), object);
        assert_eq!(seen(key, object.to_string()), object);
        let upstream = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"b","namespace":"a"},"data":{"k":"v"}}"#;
        assert_eq!(form(MediaType::Json).unpack(key.as_bytes(), upstream.into()), upstream, "nothing to do, nothing done");
        let spaced = "{\n \"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"metadata\": {}}";
        assert_eq!(form(MediaType::Json).unpack(key.as_bytes(), spaced.into()), spaced);
    }

    #[test]
    fn older_versions_are_brought_up() {
        let check = |key: &str, found: &str, kind: &str, wanted: Option<&str>| {
            let object = json!({"kind": kind, "apiVersion": found, "metadata": {"name": "a", "resourceVersion": "5"}});
            let read = form(MediaType::Json).unpack(key.as_bytes(), object.to_string().into());
            let read: Value = serde_json::from_slice(&read).unwrap();
            assert_eq!(read["apiVersion"], wanted.unwrap_or(found), "{found} {kind}");
            assert_eq!(read["metadata"].get("resourceVersion").is_none(), wanted.is_some_and(|wanted| wanted != found), "{found} {kind}");
        };
        check("/registry/poddisruptionbudgets/a/b", "policy/v1beta1", "PodDisruptionBudget", Some("policy/v1"));
        check("/registry/events/a/b", "events.k8s.io/v1", "Event", Some("v1"));
        check("/registry/horizontalpodautoscalers/a/b", "autoscaling/v1", "HorizontalPodAutoscaler", Some("autoscaling/v2"));
        check("/registry/ingress/a/b", "networking.k8s.io/v1beta1", "Ingress", None);
        check("/registry/deviceclasses/b", "resource.k8s.io/v1beta1", "DeviceClass", None);
        let beta =
            json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"}, "spec": {"minAvailable": 1}});
        let bytes = kinds::proto::from_value(&beta).unwrap();
        let at = bytes.windows(9).position(|window| window == b"policy/v1").unwrap();
        // The name of the version is one of the few things in the envelope, and its length is just before it.
        let mut older = bytes[..at].to_vec();
        older.extend_from_slice(b"policy/v1beta1");
        older.extend_from_slice(&bytes[at + 9..]);
        older[at - 1] += 5;
        older[at - 3] += 5;
        assert_eq!(seen("/registry/poddisruptionbudgets/a/b", older), beta);
    }

    #[test]
    fn what_cannot_be_read_stays() {
        for value in [&b"k8s:enc:aescbc:v1:key:\0"[..], b"k8s\0\xff", b"{", b"\0"] {
            assert_eq!(form(MediaType::Json).unpack(b"/registry/secrets/a/b", Bytes::from_static(value)), value);
        }
        let allocation = Bytes::from_static(b"k8s\0\x0a");
        assert_eq!(form(MediaType::Json).unpack(b"/registry/ranges/serviceips", allocation.clone()), allocation, "no kind of ours");
    }

    #[test]
    fn protobuf_is_written_when_asked() {
        let object = Bytes::from(r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"b"},"type":"Opaque"}"#);
        assert_eq!(form(MediaType::Json).pack(b"/registry/secrets/a/b", object.clone()), object);
        let stored = form(MediaType::Protobuf).pack(b"/registry/secrets/a/b", object.clone());
        assert!(stored.starts_with(kinds::proto::PREFIX));
        assert_eq!(form(MediaType::Protobuf).unpack(b"/registry/secrets/a/b", stored), object);
        assert_eq!(form(MediaType::Protobuf).pack(b"compact_rev_key", Bytes::from_static(b"7")), "7");
        assert!("application/yaml".parse::<MediaType>().is_err());
    }
}
