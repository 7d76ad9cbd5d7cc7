//! A build script is what makes cargo consider build dependencies.
fn main() {}
