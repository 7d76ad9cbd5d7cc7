//! `oxikube status`: what runs and what is wrong. Exit code 0 when all is well, 1 otherwise.

use anyhow::{Result, bail};
use api::core::v1::Node;
use kube::Api;
use kube::api::ListParams;

use crate::options::Place;
use crate::{containerd, daemon, down, probe};

pub async fn run(place: Place) -> Result<()> {
    let layout = place.layout();
    let Some(known) = down::read_state(&layout)? else {
        bail!("no cluster was ever started with its state in {}. Start one: oxikube up", layout.data.display());
    };
    let mut faults = 0;
    let mut line = |what: &str, result: Result<String>| match result {
        Ok(text) => say!("{what:<16} ok       {text}"),
        Err(error) => {
            faults += 1;
            say!("{what:<16} FAILED   {error:#}");
        }
    };
    let process = match daemon::running(&layout.pid_file(), "oxikube") {
        Some(pid) => Ok(format!("pid {}, log {}", pid.as_raw_nonzero(), layout.log_file().display())),
        None => Err(anyhow::anyhow!("not running. Start it: oxikube up. The end of its log:\n{}", daemon::tail(&layout.log_file(), 5))),
    };
    line("process", process);
    let socket = known.runtime_socket();
    let runtime = if containerd::answers(&socket) {
        Ok(socket.display().to_string())
    } else {
        Err(anyhow::anyhow!("{} does not answer", socket.display()))
    };
    line("runtime", runtime);
    match probe::admin(&layout.admin_conf()).await {
        Err(error) => line("api server", Err(error)),
        Ok(client) => {
            let ready = probe::readyz(&client).await;
            let reachable = ready.is_ok();
            line("api server", ready.map(|_| format!("https://{}:{}", host(&known), known.apiserver_bind_port)));
            if reachable {
                let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default()).await;
                match nodes {
                    Err(error) => line("nodes", Err(error.into())),
                    Ok(nodes) => {
                        for node in nodes {
                            let name = node.metadata.name.unwrap_or_default();
                            line("node", probe::node_ready(&client, &name).await.map(|()| name));
                        }
                    }
                }
                line("dns", probe::dns(&client, &known.service_dns_domain).await.map(|()| "answers".into()));
            }
        }
    }
    if faults > 0 {
        bail!("{faults} part(s) of the cluster are not well");
    }
    Ok(())
}

fn host(known: &crate::options::UpOptions) -> String {
    crate::up::identity(known).map_or_else(|_| "localhost".into(), |(address, _)| address.to_string())
}
