//! The signals that end a process in order.

use tokio::signal::unix::{SignalKind, signal};

/// Resolves with the name of the first of SIGTERM and SIGINT.
pub async fn end() -> &'static str {
    let (term, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut term), Ok(mut interrupt)) = (term, interrupt) else {
        // Without handlers the kernel's default ends the process, which is crash-safe too.
        tracing::error!("signal handlers cannot be installed");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}
