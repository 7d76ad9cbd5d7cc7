//! Builds the pause program (a static ELF of a few KB) so that the binary can carry its image.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=pause/pause.rs");
    smaller();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("pause");
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    let rustc = std::env::var_os("RUSTC").expect("cargo sets RUSTC");
    let status = Command::new(rustc)
        .args(["pause/pause.rs", "--edition=2024", "--crate-name=pause", "--crate-type=bin", "--target", &target])
        .args(["-Copt-level=s", "-Cpanic=abort", "-Crelocation-model=static", "-Cstrip=symbols"])
        .args(["-Clink-arg=-nostartfiles", "-Clink-arg=-nostdlib", "-Clink-arg=-static"])
        .arg("-o")
        .arg(&out)
        .status()
        .expect("rustc runs");
    assert!(status.success(), "building the pause program failed");
}

/// Links a smaller binary: relocations are packed (glibc 2.36, Debian 12's, reads them), and functions of equal code are one where the toolchain's linker
/// is LLVM's, which is so on this target (Rust 1.90).
fn smaller() {
    let target = std::env::var("TARGET").expect("cargo sets TARGET");
    if std::env::var("PROFILE").as_deref() != Ok("release") || !target.ends_with("linux-gnu") {
        return;
    }
    println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    if target == "x86_64-unknown-linux-gnu" {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
