//! The tool as a program of its own, for tests; people have it in the multi-call binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    etcdctl::main(std::env::args_os().skip(1).collect())
}
