//! `Row`: a `Kind` with its type erased, so that one pipeline serves all rows, those of CustomResourceDefinitions included.

use std::any::Any;
use std::marker::PhantomData;

use api::FieldErrors;
use api::meta::v1::ObjectMeta;
use schemars::SchemaGenerator;
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo};

/// An object of some row while it is being written. Reads never make one: they send the stored bytes.
pub trait Object: Any + Send + Sync {
    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;
    /// JSON with apiVersion and kind.
    fn to_json(&self) -> Vec<u8>;
    fn to_value(&self) -> Value;
    fn clone_object(&self) -> Box<dyn Object>;
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

impl dyn Object {
    /// The typed value, for admission and effects: `object.get::<Pod>()`.
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.as_any().downcast_ref()
    }

    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.as_any_mut().downcast_mut()
    }
}

impl<K: Kind> Object for K {
    fn meta(&self) -> &ObjectMeta {
        self.metadata()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.metadata_mut()
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("API types serialize: their maps have string keys")
    }

    fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("API types serialize: their maps have string keys")
    }

    fn clone_object(&self) -> Box<dyn Object> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

/// The bytes are not an object of the row.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(pub String);

/// The erased `Kind`. Methods that take objects expect objects of this very row, as its `decode` makes them.
#[allow(clippy::wrong_self_convention)] // `from_*` build the row's objects, not rows.
pub trait Row: Send + Sync {
    fn info(&self) -> &KindInfo;
    /// Adds the kind's JSON schema, with all that it refers to, to the generator's definitions.
    fn define(&self, generator: &mut SchemaGenerator);
    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, DecodeError>;
    fn from_value(&self, value: Value) -> Result<Box<dyn Object>, DecodeError>;
    fn default_fields(&self, object: &mut dyn Object);
    fn prepare_create(&self, object: &mut dyn Object);
    fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object);
    fn prepare_status_update(&self, object: &mut dyn Object, old: &dyn Object);
    fn prepare_part(&self, object: &mut dyn Object, part: &str, old: &dyn Object);
    fn validate(&self, object: &dyn Object, errors: &mut FieldErrors);
    fn validate_update(&self, object: &dyn Object, old: &dyn Object, errors: &mut FieldErrors);
    fn validate_status_update(&self, object: &dyn Object, old: &dyn Object, errors: &mut FieldErrors);
    fn validate_part(&self, object: &dyn Object, part: &str, old: &dyn Object, errors: &mut FieldErrors);
    fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool;
    fn selectable_fields(&self, object: &dyn Object) -> Vec<(&'static str, String)>;
    fn warnings(&self, object: &dyn Object) -> Vec<String>;
    /// From the JSON of the row that `info().stored_as` names; the identity where there is none.
    fn from_stored(&self, stored: Value) -> Value;
    /// To the JSON of the row that `info().stored_as` names.
    fn to_stored(&self, own: Value) -> Value;
    fn columns(&self) -> &'static [Column];
    fn cells(&self, object: &dyn Object, now: jiff::Timestamp) -> Vec<Value>;
}

/// The row of a `Kind`.
pub struct TypedRow<K>(PhantomData<fn() -> K>);

impl<K> TypedRow<K> {
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<K> Default for TypedRow<K> {
    fn default() -> Self {
        Self::new()
    }
}

fn typed<K: Kind>(object: &dyn Object) -> &K {
    object.get().expect("an object is only passed to the row that decoded it")
}

fn typed_mut<K: Kind>(object: &mut dyn Object) -> &mut K {
    object.get_mut().expect("an object is only passed to the row that decoded it")
}

impl<K: Kind> Row for TypedRow<K> {
    fn info(&self) -> &KindInfo {
        &K::INFO
    }

    fn define(&self, generator: &mut SchemaGenerator) {
        generator.subschema_for::<K>();
    }

    fn decode(&self, json: &[u8]) -> Result<Box<dyn Object>, DecodeError> {
        let value: K = serde_json::from_slice(json).map_err(|e| DecodeError(e.to_string()))?;
        Ok(Box::new(value))
    }

    fn from_value(&self, value: Value) -> Result<Box<dyn Object>, DecodeError> {
        let value: K = serde_json::from_value(value).map_err(|e| DecodeError(e.to_string()))?;
        Ok(Box::new(value))
    }

    fn default_fields(&self, object: &mut dyn Object) {
        typed_mut::<K>(object).default_fields();
    }

    fn prepare_create(&self, object: &mut dyn Object) {
        typed_mut::<K>(object).prepare_create();
    }

    fn prepare_update(&self, object: &mut dyn Object, old: &dyn Object) {
        typed_mut::<K>(object).prepare_update(typed(old));
    }

    fn prepare_status_update(&self, object: &mut dyn Object, old: &dyn Object) {
        typed_mut::<K>(object).prepare_status_update(typed(old));
    }

    fn prepare_part(&self, object: &mut dyn Object, part: &str, old: &dyn Object) {
        typed_mut::<K>(object).prepare_part(part, typed(old));
    }

    fn validate(&self, object: &dyn Object, errors: &mut FieldErrors) {
        typed::<K>(object).validate(errors);
    }

    fn validate_update(&self, object: &dyn Object, old: &dyn Object, errors: &mut FieldErrors) {
        typed::<K>(object).validate_update(typed(old), errors);
    }

    fn validate_status_update(&self, object: &dyn Object, old: &dyn Object, errors: &mut FieldErrors) {
        typed::<K>(object).validate_status_update(typed(old), errors);
    }

    fn validate_part(&self, object: &dyn Object, part: &str, old: &dyn Object, errors: &mut FieldErrors) {
        typed::<K>(object).validate_part(part, typed(old), errors);
    }

    fn spec_changed(&self, object: &dyn Object, old: &dyn Object) -> bool {
        typed::<K>(object).spec_changed(typed(old))
    }

    fn selectable_fields(&self, object: &dyn Object) -> Vec<(&'static str, String)> {
        typed::<K>(object).selectable_fields()
    }

    fn warnings(&self, object: &dyn Object) -> Vec<String> {
        typed::<K>(object).warnings()
    }

    fn from_stored(&self, stored: Value) -> Value {
        K::from_stored(stored)
    }

    fn to_stored(&self, own: Value) -> Value {
        K::to_stored(own)
    }

    fn columns(&self) -> &'static [Column] {
        K::columns()
    }

    fn cells(&self, object: &dyn Object, now: jiff::Timestamp) -> Vec<Value> {
        typed::<K>(object).cells(now)
    }
}

pub fn name_cell(meta: &ObjectMeta) -> Value {
    Value::String(meta.name.clone().unwrap_or_default())
}

/// The creation time as kubectl's "Created At" column has it.
pub fn age_cell(meta: &ObjectMeta, _now: jiff::Timestamp) -> Value {
    meta.creation_timestamp.as_ref().map_or(Value::Null, |time| serde_json::to_value(time).unwrap_or(Value::Null))
}
