//! oxikube.
fn main() {}
