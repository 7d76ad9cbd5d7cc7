//! Where pods come from besides the API: manifest files, and the mirrors that show them in the API.

pub mod file;
pub mod mirror;
