//! The multi-call binary: parses the command line and composes components. Holds no logic of theirs.

/// Prints a line. A reader that has left (`oxikube status | head`) is no error.
macro_rules! say {
    ($($text:tt)*) => { crate::print_line(&format!($($text)*)) };
}

mod addons;
mod cleanup;
mod cluster;
mod component;
mod containerd;
mod daemon;
mod down;
mod image;
mod layout;
mod options;
mod pods;
mod preflight;
mod probe;
mod signals;
mod status;
mod up;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Kubernetes in one binary.
#[derive(Parser)]
#[command(
    name = "oxikube",
    version,
    propagate_version = true,
    after_help = "Tools, also by their own names: etcdctl, the client of etcd; etcdutl, for its files"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster on this host and wait until it is ready
    Up(Box<options::UpOptions>),
    /// Stop the cluster and remove what it made on this host
    Down(down::DownOptions),
    /// Say what runs and what is wrong
    Status(options::Place),
    /// Work with container images
    Image {
        #[command(subcommand)]
        command: ImageCommand,
    },
    #[command(flatten)]
    Component(component::Component),
}

#[derive(Subcommand)]
enum ImageCommand {
    /// Import an OCI or Docker archive into the cluster's container runtime
    Load {
        file: PathBuf,
        #[command(flatten)]
        place: options::Place,
    },
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some(code) = component::run_plugin(&arguments).or_else(|| etcdctl::run_tool(&arguments)) {
        return code;
    }
    let cli = Cli::parse_from(component::spread_name(arguments));
    // Huge pages would more than double the memory of an idle cluster: most of each stays empty. Best effort: without it all works, in more memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: starting the async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(cli.command)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<()> {
    match command {
        Command::Up(options) => {
            base::logging::init(options.verbosity);
            up::run(*options).await
        }
        Command::Down(options) => {
            base::logging::init(0);
            down::run(options).await
        }
        Command::Status(place) => status::run(place).await,
        Command::Image { command: ImageCommand::Load { file, place } } => load(&place, &file).await,
        Command::Component(component) => component.run().await,
    }
}

async fn load(place: &options::Place, file: &Path) -> Result<()> {
    let layout = place.layout();
    let socket = down::read_state(&layout)?.map_or_else(|| layout.containerd_socket(), |known| known.runtime_socket());
    let text = image::load_file(&socket, file).await.with_context(|| format!("loading {}", file.display()))?;
    say!("{text}");
    Ok(())
}

fn print_line(text: &str) {
    use std::io::Write;
    if let Err(error) = writeln!(std::io::stdout(), "{text}") {
        tracing::debug!(%error, "standard output cannot be written");
    }
}
