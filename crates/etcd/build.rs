//! Compiles etcd's protocol into Rust. Needs no protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = protox::compile(["rpc.proto", "lock.proto", "election.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").build_transport(false).compile_fds(files)?;
    Ok(())
}
