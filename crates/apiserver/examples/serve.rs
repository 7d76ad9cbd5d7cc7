//! A server alone, for trials with kubectl: `cargo run -p apiserver --example serve -- FOLDER PORT [STATE]`. Without STATE everything is in memory.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::{ApiServer, Options};
use store::{Engine, EngineOptions, Kv};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    base::logging::init(1);
    let arguments: Vec<String> = std::env::args().collect();
    let [folder, port] = [1, 2].map(|i| arguments.get(i).cloned().unwrap_or_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(PathBuf::from(folder), port.parse()?, arguments.get(3).map(Path::new)))
}

async fn run(folder: PathBuf, port: u16, state: Option<&Path>) -> Result<(), Box<dyn std::error::Error>> {
    let tasks = base::Tasks::new();
    let authority = pki::Authority::create("kubernetes", base::clock::now())?;
    let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let (cert, key) = authority.issue(&pki::Leaf::server("kube-apiserver", vec!["localhost".into()], vec![local]), base::clock::now())?;
    let (admin, admin_key) = authority.issue(&pki::Leaf::client("kubernetes-admin", Some("system:masters")), base::clock::now())?;
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    std::fs::create_dir_all(&folder)?;
    write("tls.crt", &cert)?;
    write("tls.key", &key.to_pem())?;
    write("ca.crt", &authority.certificate_pem)?;
    let server = format!("https://127.0.0.1:{port}");
    pki::Kubeconfig::with_certificate("oxi", &server, &authority.certificate_pem, "admin", &admin, &admin_key.to_pem())
        .write(&folder.join("admin.conf"))?;
    let engine = match state {
        Some(state) => Engine::open(state, EngineOptions::default(), &tasks)?,
        None => Engine::in_memory(EngineOptions::default(), &tasks),
    };
    let mut options = Options { secure_port: port, ..Options::default() };
    options.tls_cert_file = Some(folder.join("tls.crt"));
    options.tls_private_key_file = Some(folder.join("tls.key"));
    write("sa.key", &pki::PrivateKey::generate()?.to_pem())?;
    options.auth.service_account_key_file = vec![folder.join("sa.key")];
    options.auth.service_account_signing_key_file = Some(folder.join("sa.key"));
    options.auth.service_account_issuer = vec!["https://kubernetes.default.svc.cluster.local".into()];
    options.auth.authorization_mode = vec!["Node".into(), "RBAC".into()];
    options.auth.client_ca_file = Some(folder.join("ca.crt"));
    let kv: Arc<dyn Kv> = Arc::new(engine);
    let server = ApiServer::new(options, kv)?;
    server.serve(&tasks).await?;
    println!("ready: {}", folder.join("admin.conf").display());
    tokio::select! {
        () = tasks.failed() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    tasks.stop();
    tasks.join().await;
    Ok(())
}
