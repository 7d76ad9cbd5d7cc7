//! The tools as a program of its own, for tests; people have them in the multi-call binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    etcdctl::run_tool(&arguments).unwrap_or(ExitCode::FAILURE)
}
