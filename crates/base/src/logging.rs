//! One way to set up logs for the whole process.

use tracing_subscriber::EnvFilter;

/// Writes logs to standard error. `verbosity` is upstream's `-v` (0 to 10): up to 1 is info, up to 4 debug, above trace; `OXIKUBE_LOG` overrides it
/// with a filter such as `info,kubelet=debug`. Calling it twice keeps the first set-up.
pub fn init(verbosity: u8) {
    let level = match verbosity {
        0..=1 => "info",
        2..=4 => "debug",
        _ => "trace",
    };
    let default = format!("{level},hyper=info,h2=info,rustls=info,tower=info,kube_client=info,kube_runtime=warn,tonic=info");
    let filter =
        std::env::var("OXIKUBE_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new(default));
    let done = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).try_init();
    if done.is_err() {
        tracing::debug!("logs were already set up");
    }
}
