//! The load: as many threads as clients, each with one TLS connection that it keeps, plain HTTP/1.1. Prints requests per second.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use testkit::wait;

/// Long enough that the start does not count.
const DURATION: Duration = Duration::from_secs(5);

type Connection = BufReader<StreamOwned<ClientConnection, TcpStream>>;

/// `load get|create CLIENTS KUBECONFIG`.
pub fn run(arguments: &[String]) -> Result<()> {
    let [what, clients, kubeconfig] = arguments else { bail!("usage: bench load get|create CLIENTS KUBECONFIG") };
    let (host, config) = connection_facts(Path::new(kubeconfig))?;
    let clients: usize = clients.parse().context("CLIENTS is a number")?;
    let done = Arc::new(AtomicU64::new(0));
    let started = wait::now();
    let threads: Vec<_> = (0..clients)
        .map(|client| {
            let (host, config, done, what) = (host.clone(), config.clone(), done.clone(), what.clone());
            std::thread::spawn(move || -> Result<()> {
                let mut connection = connect(&host, config)?;
                let mut count = 0u64;
                while started.elapsed() < DURATION {
                    count += 1;
                    let status = exchange(&mut connection, &request(&host, &what, client, count)?)?;
                    ensure!(status == 200 || status == 201, "the server answered {status}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        })
        .collect();
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))??;
    }
    println!("{:.1}", done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

fn connection_facts(kubeconfig: &Path) -> Result<(String, Arc<ClientConfig>)> {
    let file = pki::Kubeconfig::read(kubeconfig).context("reading the kubeconfig")?.context("the kubeconfig does not exist")?;
    let (cluster, user) = file.current().context("the kubeconfig has a current context")?;
    let host = cluster.server.trim_start_matches("https://").to_owned();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(cluster.ca_pem().context("a CA")?.as_bytes()) {
        roots.add(certificate?)?;
    }
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(user.certificate_pem().context("a client certificate")?.as_bytes()).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(user.key_pem().context("a client key")?.as_bytes())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    Ok((host, Arc::new(config)))
}

fn connect(host: &str, config: Arc<ClientConfig>) -> Result<Connection> {
    let tcp = TcpStream::connect(host).with_context(|| format!("connecting to {host}"))?;
    tcp.set_nodelay(true)?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']).to_owned();
    let tls = ClientConnection::new(config, ServerName::try_from(name)?)?;
    Ok(BufReader::with_capacity(64 * 1024, StreamOwned::new(tls, tcp)))
}

fn request(host: &str, what: &str, client: usize, count: u64) -> Result<Vec<u8>> {
    let head = format!("Host: {host}\r\nAccept: application/json\r\nUser-Agent: bench/1\r\n");
    match what {
        "get" => Ok(format!("GET /api/v1/namespaces/default/pods/one HTTP/1.1\r\n{head}\r\n").into_bytes()),
        "create" => {
            let body = format!(
                r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"bench-{client}-{count}"}},"data":{{"key":"{}"}}}}"#,
                "x".repeat(256)
            );
            let length = body.len();
            let post = "POST /api/v1/namespaces/default/configmaps HTTP/1.1\r\n";
            Ok(format!("{post}{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").into_bytes())
        }
        other => bail!("unknown load {other:?}: get or create"),
    }
}

/// Sends a request and reads its answer whole; returns the status.
fn exchange(connection: &mut Connection, request: &[u8]) -> Result<u16> {
    connection.get_mut().write_all(request)?;
    connection.get_mut().flush()?;
    let mut line = String::new();
    connection.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("a status line, not {line:?}"))?;
    let (mut length, mut chunked) = (0usize, false);
    loop {
        line.clear();
        connection.read_line(&mut line)?;
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            break;
        }
        if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse().context("a content length")?;
        }
        chunked |= text.starts_with("transfer-encoding:");
    }
    ensure!(!chunked, "an answer of known size was expected");
    let mut body = vec![0; length];
    connection.read_exact(&mut body)?;
    Ok(status)
}
