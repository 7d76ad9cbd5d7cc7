//! Secret.

use std::collections::BTreeMap;

use api::core::v1::Secret;
use api::{ByteString, FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::defaults::set_text;
use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{AGE, NAME, age, column, name};
use crate::validation::{IMMUTABLE, each};

impl Kind for Secret {
    const INFO: KindInfo = KindInfo { singular: "secret", schema: "io.k8s.api.core.v1.Secret", ..KindInfo::of::<Self>() };

    fn default_fields(&mut self) {
        set_text(&mut self.type_, "Opaque");
        if let Some(texts) = self.string_data.take() {
            let data = self.data.get_or_insert_default();
            data.extend(texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))));
        }
    }

    fn validate(&self, errors: &mut FieldErrors) {
        let mut size_bytes = 0;
        for (key, value) in self.data.iter().flatten() {
            each(errors, &Path::new("data").key(key), key, names::config_map_key(key));
            size_bytes += value.0.len();
        }
        if size_bytes > super::MAX_DATA_BYTES {
            errors.too_long(&Path::new("data"), super::MAX_DATA_BYTES);
        }
        by_type(self, errors);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        if self.type_ != old.type_ {
            errors.invalid(&Path::new("type"), self.type_.as_deref().unwrap_or_default(), IMMUTABLE);
        }
        if old.immutable != Some(true) {
            return;
        }
        for (field, same) in [("immutable", self.immutable == Some(true)), ("data", self.data == old.data)] {
            if !same {
                errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
            }
        }
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        vec![("type", self.type_.clone().unwrap_or_default())]
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Type", "string"), column("Data", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let count = self.data.as_ref().map_or(0, |data| data.len());
        vec![name(&self.metadata), json!(self.type_), json!(count), age(&self.metadata, now)]
    }
}

/// What the well-known types must hold (pkg/apis/core/validation: ValidateSecret).
fn by_type(secret: &Secret, errors: &mut FieldErrors) {
    let empty = BTreeMap::new();
    let data = secret.data.as_ref().unwrap_or(&empty);
    let path = Path::new("data");
    let mut require = |key: &str| {
        if !data.contains_key(key) {
            errors.required(&path.key(key), "");
        }
    };
    match secret.type_.as_deref().unwrap_or_default() {
        "kubernetes.io/service-account-token" => {
            const NAME: &str = "kubernetes.io/service-account.name";
            let account = secret.metadata.annotations.as_ref().and_then(|annotations| annotations.get(NAME));
            if account.is_none_or(String::is_empty) {
                errors.required(&Path::new("metadata").child("annotations").key(NAME), "");
            }
        }
        "kubernetes.io/dockercfg" => json_data(data, ".dockercfg", errors),
        "kubernetes.io/dockerconfigjson" => json_data(data, ".dockerconfigjson", errors),
        "kubernetes.io/basic-auth" if !data.contains_key("username") && !data.contains_key("password") => {
            require("username");
            require("password");
        }
        "kubernetes.io/ssh-auth" => require("ssh-privatekey"),
        "kubernetes.io/tls" => {
            require("tls.crt");
            require("tls.key");
        }
        _ => {}
    }
}

fn json_data(data: &BTreeMap<String, ByteString>, key: &str, errors: &mut FieldErrors) {
    let path = Path::new("data").key(key);
    match data.get(key) {
        None => errors.required(&path, ""),
        Some(bytes) => {
            if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(&bytes.0) {
                errors.invalid(&path, "<secret contents redacted>", &error.to_string());
            }
        }
    }
}
