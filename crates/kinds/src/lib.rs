//! The table of kinds: one row per resource with its pure hooks, schemas, patches, codecs, table printing. Must not do I/O.

pub mod apply;
pub mod check;
pub mod defaults;
pub mod facts;
pub mod kind;
pub mod omit;
pub mod openapi;
pub mod patch;
pub mod printing;
pub mod proto;
pub mod row;
pub mod rows;
pub mod schema;
pub mod validation;

pub use kind::{Column, Kind, KindInfo, NameRule, Scope, Subresource};
pub use row::{DecodeError, Object, Row};
pub use rows::{find, find_kind, rows};
