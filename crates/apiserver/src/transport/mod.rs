pub mod body;
pub mod query;
