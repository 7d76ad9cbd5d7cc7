//! ConfigMap.

use api::core::v1::ConfigMap;
use api::{FieldErrors, Path, names};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{AGE, NAME, age, column, name};
use crate::validation::each;

impl Kind for ConfigMap {
    const INFO: KindInfo =
        KindInfo { singular: "configmap", short_names: &["cm"], schema: "io.k8s.api.core.v1.ConfigMap", ..KindInfo::of::<Self>() };

    fn validate(&self, errors: &mut FieldErrors) {
        let mut size_bytes = 0;
        for (key, value) in self.data.iter().flatten() {
            let path = Path::new("data").key(key);
            each(errors, &path, key, names::config_map_key(key));
            if self.binary_data.as_ref().is_some_and(|data| data.contains_key(key)) {
                errors.invalid(&path, key, "duplicate of key present in binaryData");
            }
            size_bytes += value.len();
        }
        for (key, value) in self.binary_data.iter().flatten() {
            each(errors, &Path::new("binaryData").key(key), key, names::config_map_key(key));
            size_bytes += value.0.len();
        }
        if size_bytes > super::MAX_DATA_BYTES {
            errors.too_long(&Path::default(), super::MAX_DATA_BYTES);
        }
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        if old.immutable != Some(true) {
            return;
        }
        let fields = [
            ("immutable", self.immutable == Some(true)),
            ("data", self.data == old.data),
            ("binaryData", self.binary_data == old.binary_data),
        ];
        for (field, _) in fields.iter().filter(|(_, same)| !same) {
            errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Data", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let count = self.data.as_ref().map_or(0, |data| data.len()) + self.binary_data.as_ref().map_or(0, |data| data.len());
        vec![name(&self.metadata), json!(count), age(&self.metadata, now)]
    }
}
