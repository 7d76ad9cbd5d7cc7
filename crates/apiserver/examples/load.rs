//! Requests per second against a running server: `cargo run -p apiserver --example load -- ADMIN_CONF gets|creates CLIENTS SECONDS`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [conf, what, clients, seconds] = arguments.as_slice() else { return Err("ADMIN_CONF gets|creates CLIENTS SECONDS".into()) };
    let config = pki::Kubeconfig::read(Path::new(conf))?.ok_or("no such kubeconfig")?;
    let (cluster, user) = config.current().ok_or("no current context")?;
    let address = cluster.server.trim_start_matches("https://").to_owned();
    let (ca, certificate, key) = (cluster.ca_pem(), user.certificate_pem(), user.key_pem());
    let (ca, certificate, key) = (ca.ok_or("no CA")?, certificate.ok_or("no certificate")?, key.ok_or("no key")?);
    let mut tls = pki::tls::client_config(&ca, Some((&certificate, &key)))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = TlsConnector::from(Arc::new(tls));
    let path = if what == "gets" { "/api/v1/namespaces/default/pods/load" } else { "/api/v1/namespaces/default/configmaps" };
    if what == "gets" {
        let pod = r#"{"metadata":{"name":"load"},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"A","value":"B"}]}]}}"#;
        let mut client = connect(&connector, &address).await?;
        let create = Request::post("/api/v1/namespaces/default/pods").header("host", "x").header("content-type", "application/json");
        client.send_request(create.body(Full::from(pod))?).await?.into_body().collect().await?;
    }
    let done = Arc::new(AtomicU64::new(0));
    let run: u32 = rand::random();
    let started = base::clock::monotonic();
    let until = started + Duration::from_secs(seconds.parse()?);
    let mut workers = Vec::new();
    for worker in 0..clients.parse::<u32>()? {
        let (mut client, done) = (connect(&connector, &address).await?, done.clone());
        let (path, creates) = (path.to_owned(), what != "gets");
        workers.push(tokio::spawn(async move {
            let mut number = 0u64;
            while base::clock::monotonic() < until {
                number += 1;
                let request = Request::builder().uri(&path).header("host", "x");
                let request = if creates {
                    let body =
                        format!(r#"{{"metadata":{{"name":"load-{run}-{worker}-{number}"}},"data":{{"key":"{}"}}}}"#, "v".repeat(200));
                    request.method("POST").header("content-type", "application/json").body(Full::from(body))?
                } else {
                    request.body(Full::<Bytes>::default())?
                };
                let response = client.send_request(request).await?;
                if !response.status().is_success() {
                    return Err(format!("{}", response.status()).into());
                }
                response.into_body().collect().await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), Failure>(())
        }));
    }
    for worker in workers {
        worker.await??;
    }
    println!("{what}: {:.0}/s", done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64());
    Ok(())
}

async fn connect(tls: &TlsConnector, address: &str) -> Result<hyper::client::conn::http1::SendRequest<Full<Bytes>>, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let host = address.rsplit_once(':').ok_or("no port")?.0.to_owned();
    let stream = tls.connect(ServerName::try_from(host)?, stream).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
