//! Asking a cluster from outside how far it is: used by `up` to wait and by `status` to report. Uses the admin kubeconfig like any client.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use api::core::v1::{Node, Service};
use kube::{Api, Client};

use crate::options::UpOptions;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    ApiServer,
    NodeReady,
    Dns,
}

/// One second is ages on one host; a hung server must not hang `up`.
const PATIENCE: Duration = Duration::from_secs(2);

pub async fn reached(options: &UpOptions, stage: Stage) -> Result<()> {
    let client = admin(&options.layout().admin_conf()).await?;
    match stage {
        Stage::ApiServer => readyz(&client).await.map(|_| ()),
        Stage::NodeReady => {
            let (_, name) = crate::up::identity(options)?;
            node_ready(&client, &name).await
        }
        Stage::Dns => dns(&client, &options.service_dns_domain).await,
    }
}

pub async fn admin(kubeconfig: &Path) -> Result<Client> {
    ensure!(kubeconfig.exists(), "{} does not exist yet", kubeconfig.display());
    client::from_kubeconfig(kubeconfig, "oxikube", None).await.with_context(|| format!("reading {}", kubeconfig.display()))
}

/// The verbose list of checks.
pub async fn readyz(client: &Client) -> Result<String> {
    let request = http::Request::get("/readyz?verbose").body(Vec::new()).context("a fixed request")?;
    tokio::time::timeout(PATIENCE, client.request_text(request)).await.context("the API server does not answer")?.context("asking /readyz")
}

pub async fn node_ready(client: &Client, name: &str) -> Result<()> {
    let node = tokio::time::timeout(PATIENCE, Api::<Node>::all(client.clone()).get(name))
        .await
        .context("the API server does not answer")?
        .with_context(|| format!("asking for node {name}"))?;
    let ready = node.status.and_then(|s| s.conditions).and_then(|c| c.into_iter().find(|c| c.type_ == "Ready"));
    match ready {
        Some(condition) if condition.status == "True" => Ok(()),
        Some(condition) => bail!("node {name} is not Ready: {}", condition.message.unwrap_or_default()),
        None => bail!("node {name} has not reported yet"),
    }
}

/// Asks the cluster's DNS service for `kubernetes.default.svc`.
pub async fn dns(client: &Client, domain: &str) -> Result<()> {
    let service = tokio::time::timeout(PATIENCE, Api::<Service>::namespaced(client.clone(), "kube-system").get("kube-dns"))
        .await
        .context("the API server does not answer")?
        .context("asking for the service kube-system/kube-dns")?;
    let address: IpAddr = service
        .spec
        .and_then(|s| s.cluster_ip)
        .context("kube-dns has no cluster IP")?
        .parse()
        .context("kube-dns has no address as cluster IP")?;
    let query = query(&format!("kubernetes.default.svc.{domain}"));
    let socket = tokio::net::UdpSocket::bind("0.0.0.0:0").await.context("opening a UDP socket")?;
    socket.connect(SocketAddr::new(address, 53)).await.context("reaching cluster DNS")?;
    socket.send(&query).await.context("asking cluster DNS")?;
    let mut answer = [0u8; 512];
    let length = tokio::time::timeout(Duration::from_millis(250), socket.recv(&mut answer))
        .await
        .context("cluster DNS does not answer")?
        .context("hearing from cluster DNS")?;
    ensure!(length > 12 && answer[..2] == query[..2], "cluster DNS answered with something else");
    let (code, answers) = (answer[3] & 0x0f, u16::from_be_bytes([answer[6], answer[7]]));
    ensure!(code == 0 && answers > 0, "cluster DNS does not know kubernetes.default (rcode {code})");
    Ok(())
}

/// A DNS question for the A record of `name` (RFC 1035 section 4).
fn query(name: &str) -> Vec<u8> {
    let id: u16 = (base::clock::unix_ms() & 0xffff) as u16;
    let mut message = Vec::with_capacity(64);
    message.extend_from_slice(&id.to_be_bytes());
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_wire_format() {
        let message = query("a.bc");
        assert_eq!(&message[2..], [1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
    }
}
