//! The end-to-end tests: real kubectl and containerd against the real binary. `e2e --binary target/release/oxikube [FILTER]`.

mod basics;
mod lifecycle;
mod manifests;
mod network;
mod node;
mod recovery;
mod rollouts;
mod streams;
mod volumes;

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use testkit::Cluster;

/// A test gets the running cluster, makes what it needs in a namespace or under names of its own, and removes it.
type Test = (&'static str, fn(&Cluster) -> Result<()>);

fn tests() -> Vec<Test> {
    [
        basics::TESTS,
        network::TESTS,
        streams::TESTS,
        rollouts::TESTS,
        lifecycle::TESTS,
        volumes::TESTS,
        recovery::TESTS,
        node::TESTS,
        basics::LAST,
    ]
    .concat()
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    let mut binary = PathBuf::from("target/release/oxikube");
    let mut filter = String::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--binary" => binary = arguments.next().context("--binary takes a path")?.into(),
            other if other.starts_with('-') => bail!("unknown flag {other}"),
            other => filter = other.to_owned(),
        }
    }
    let binary = binary.canonicalize().with_context(|| format!("{}: build it first", binary.display()))?;
    let chosen: Vec<Test> = tests().into_iter().filter(|(name, _)| name.contains(&filter)).collect();
    if chosen.is_empty() {
        bail!("no test has {filter:?} in its name");
    }
    let (mut passed, mut failed) = (0, Vec::new());
    let cluster = Cluster::up(&binary, "e2e", 0, &[])?;
    for (name, test) in chosen {
        let started = testkit::wait::now();
        match guarded(test, &cluster) {
            Ok(()) => {
                passed += 1;
                println!("test {name} ... ok ({:.1} s)", started.elapsed().as_secs_f64());
            }
            Err(error) => {
                println!(
                    "test {name} ... FAILED ({:.1} s)\n{error:?}\n--- end of the cluster's log\n{}\n---",
                    started.elapsed().as_secs_f64(),
                    cluster.log_tail(30)
                );
                failed.push(name);
            }
        }
    }
    cluster.down().context("taking the cluster down")?;
    for name in &failed {
        println!("failed: {name}");
    }
    println!(
        "\ntest result: {}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        if failed.is_empty() { "ok" } else { "FAILED" },
        failed.len()
    );
    Ok(failed.is_empty())
}

/// A panic in a test is a failure of that test, and the cluster still goes down.
fn guarded(test: fn(&Cluster) -> Result<()>, cluster: &Cluster) -> Result<()> {
    std::panic::catch_unwind(AssertUnwindSafe(|| test(cluster))).unwrap_or_else(|_| Err(anyhow!("it panicked; see above")))
}
