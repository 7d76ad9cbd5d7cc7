//! A server with authentication, Node and RBAC authorization, admission and kubeadm's files: `cargo run -p apiserver --example secure -- FOLDER PORT`.
//! State is in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;

use apiserver::{ApiServer, Options};
use pki::layout::{ClusterNames, ensure};
use store::{Engine, EngineOptions, Kv};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    base::logging::init(1);
    let arguments: Vec<String> = std::env::args().collect();
    let [folder, port] = [1, 2].map(|i| arguments.get(i).cloned().unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(PathBuf::from(folder), port.parse()?))
}

async fn run(folder: PathBuf, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let tasks = base::Tasks::new();
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let names = ClusterNames {
        cluster: "kubernetes".into(),
        server: format!("https://127.0.0.1:{port}"),
        node_name: "n1".into(),
        dns_domain: "cluster.local".into(),
        service_ip: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)),
        addresses: vec![local],
        extra_names: vec![],
    };
    let paths = ensure(&folder, &names, base::clock::now())?.paths;
    let mut options = Options { secure_port: port, advertise_address: Some(local), ..Options::default() };
    options.tls_cert_file = Some(paths.pki("apiserver.crt"));
    options.tls_private_key_file = Some(paths.pki("apiserver.key"));
    options.auth.client_ca_file = Some(paths.pki("ca.crt"));
    options.auth.requestheader_client_ca_file = Some(paths.pki("front-proxy-ca.crt"));
    options.auth.service_account_signing_key_file = Some(paths.pki("sa.key"));
    options.auth.service_account_key_file = vec![paths.pki("sa.pub")];
    options.auth.service_account_issuer = vec!["https://kubernetes.default.svc.cluster.local".into()];
    options.auth.authorization_mode = vec!["Node".into(), "RBAC".into()];
    options.auth.anonymous_auth = true;
    let kv: Arc<dyn Kv> = Arc::new(Engine::in_memory(EngineOptions::default(), &tasks));
    let server = ApiServer::new(options, kv)?;
    let started = base::clock::monotonic();
    server.serve(&tasks).await?;
    println!("ready after {:?}: {}", started.elapsed(), paths.conf("super-admin").display());
    tokio::select! {
        () = tasks.failed() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tasks.stop();
    tasks.join().await;
    Ok(())
}
