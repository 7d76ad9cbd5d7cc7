//! Checks and generators of this repository: `cargo xtask TASK`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

mod facts;
mod tidy;

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).context("xtask is two folders below the root")?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["facts"] => facts::run(root, false),
        ["facts", "--check"] => facts::run(root, true),
        ["tidy"] => tidy::run(),
        _ => bail!("usage: cargo xtask facts [--check] | tidy"),
    }
}
