//! `oxikube etcd` alone, quick to build: `cargo run --release -p etcd --example etcd -- etcd FLAGS`, for instance as `bench --binary`.

use clap::Parser;

/// The binary's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
enum Command {
    Etcd(etcd::Options),
}

fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let Command::Etcd(options) = Command::parse();
    tokio::runtime::Runtime::new()?.block_on(async {
        let tasks = base::Tasks::new();
        etcd::Server::init(options, &tasks).await?.run(tasks).await?;
        Ok(())
    })
}
