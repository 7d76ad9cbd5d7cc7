//! Deterministic simulation: a store, or a cluster of them, in a world where clock, disks, network and crashes come from one seed, with clients that
//! write down what they saw, and checkers that judge it. A failing seed fails again.
//!
//! `world` is the loop, `node` a member in it, `cluster` and `network` what stands between members, `faults` what goes wrong, `workload` and `clients` what is asked, `history` what was seen, `truth` what
//! was applied, `check` the judges, `trace` the story. Exists in test builds only; `make sim` runs many seeds.

mod check;
mod clients;
mod cluster;
mod faults;
mod history;
mod network;
mod node;
pub(crate) mod tap;
#[cfg(test)]
mod tests;
mod trace;
mod truth;
mod workload;
mod world;

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use crate::planted::{self, Bug};
use world::{Report, World};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub members: usize,
    pub steps: usize,
    pub bug: Option<Bug>,
}

thread_local! {
    /// Inside a run: the last panic and its place. The store catches some panics itself, so they are no news.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics inside of runs from being printed.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let outside = PANIC.with_borrow_mut(|last| last.as_mut().map(|last| *last = panic.to_string())).is_none();
            if outside {
                before(panic);
            }
        }));
    });
}

/// One run; the error says what is wrong in one text.
pub(crate) fn run(seed: u64, plan: Plan, keep_trace: bool) -> Result<Report, String> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing that could be missing");
        // The one poll of a step does much more than a task's budget allows.
        runtime.block_on(tokio::task::unconstrained(World::new(seed, plan.members, keep_trace).run(plan.steps)))
    };
    hush();
    PANIC.set(Some(String::new()));
    let report = catch_unwind(AssertUnwindSafe(|| planted::with(plan.bug, work)));
    let panic = PANIC.take().unwrap_or_default();
    report.map_err(|_| panic)
}
