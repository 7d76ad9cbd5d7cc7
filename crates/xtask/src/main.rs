//! Repository tasks: `cargo xtask tidy`.

mod tidy;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => tidy::run(),
        other => bail!("unknown task {}: one of tidy", other.unwrap_or("(none)")),
    }
}
