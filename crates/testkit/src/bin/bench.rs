//! `bench --binary FILE`: speed and size of a real cluster, each beside its target.

fn main() {}
