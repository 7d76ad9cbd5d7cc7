//! The end-to-end tests: real kubectl and containerd against the real binary. `e2e --binary target/release/oxikube [--retries N] [FILTER]`.

mod basics;
mod failures;
mod lifecycle;
mod manifests;
mod network;
mod node;
mod recovery;
mod rollouts;
mod separate;
mod stores;
mod streams;
mod volumes;

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use testkit::Cluster;

/// A test gets the running cluster, makes what it needs in a namespace or under names of its own, and removes it.
type Test = (&'static str, fn(&Cluster) -> Result<()>);

/// A test that makes hosts and clusters of its own.
type HostTest = (&'static str, fn(&Path) -> Result<()>);

const HOST_TESTS: &[HostTest] = &[
    ("failures::up_names_the_cause", failures::run),
    ("separate::one_process_per_component", separate::embedded),
    ("separate::on_our_etcd_over_tls", separate::on_our_etcd),
    ("separate::on_debians_etcd", separate::on_debians_etcd),
];

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
    let mut retries = 0;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--retries" => retries = arguments.next().and_then(|count| count.parse().ok()).context("--retries takes a number")?,
            "--binary" => binary = arguments.next().context("--binary takes a path")?.into(),
            other if other.starts_with('-') => bail!("unknown flag {other}"),
            other => filter = other.to_owned(),
        }
    }
    let binary = binary.canonicalize().with_context(|| format!("{}: build it first", binary.display()))?;
    let chosen: Vec<Test> = tests().into_iter().filter(|(name, _)| name.contains(&filter)).collect();
    if chosen.is_empty() && !HOST_TESTS.iter().any(|(name, _)| name.contains(&filter)) {
        bail!("no test has {filter:?} in its name");
    }
    let mut tally = Tally { retries, ..Tally::default() };
    for (name, test) in HOST_TESTS.iter().filter(|(name, _)| name.contains(&filter)) {
        tally.run(name, || test(&binary));
    }
    if !chosen.is_empty() {
        let cluster = Cluster::up(&binary, "e2e", 0, &[])?;
        for (name, test) in chosen {
            let told = tally.failed.len();
            tally.run(name, || test(&cluster));
            if tally.failed.len() > told {
                println!("the end of the cluster's log:\n{}\n", cluster.log_tail(20));
            }
        }
        cluster.down().context("taking the cluster down")?;
    }
    let Tally { passed, failed, .. } = tally;
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

#[derive(Default)]
struct Tally {
    passed: usize,
    failed: Vec<&'static str>,
    /// How often a test that fails may try again; every failure is told.
    retries: u32,
}

impl Tally {
    /// A panic in a test is a failure of that test, and the cluster still goes down.
    fn run(&mut self, name: &'static str, test: impl Fn() -> Result<()>) {
        for left in (0..=self.retries).rev() {
            let started = testkit::wait::now();
            let result = std::panic::catch_unwind(AssertUnwindSafe(&test)).unwrap_or_else(|_| Err(anyhow!("it panicked; see above")));
            let seconds = started.elapsed().as_secs_f64();
            match result {
                Ok(()) => {
                    self.passed += 1;
                    println!("test {name} ... ok ({seconds:.1} s)");
                    return;
                }
                Err(error) if left > 0 => println!("test {name} failed once ({seconds:.1} s), trying again:\n{error:#}\n"),
                Err(error) => {
                    println!("test {name} ... FAILED ({seconds:.1} s)\n{error:#}\n");
                    self.failed.push(name);
                }
            }
        }
    }
}
