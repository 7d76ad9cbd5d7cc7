//! Entering network namespaces. Only ever on a thread made for it: a thread of a pool would carry the namespace to its next task.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, Result};

/// Runs `work` on a new thread inside the network namespace at `path` (`/proc/PID/ns/net`, `/var/run/netns/NAME`).
pub fn run_in<T: Send>(path: &Path, work: impl FnOnce() -> T + Send) -> Result<T> {
    let namespace = File::open(path).map_err(|e| Error::os(format!("open network namespace {}", path.display()), e))?;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|e| Error::os(format!("enter network namespace {}", path.display()), e))?;
            Ok(work())
        });
        let thread = thread.map_err(|e| Error::os("start a thread", e))?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
