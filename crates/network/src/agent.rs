//! The agent of a node's network: follows the Node objects and applies the plan that `plan` makes of them.
//! Must never write to the API.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use client::Informer;
use host::{Change, Net};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::{Notify, watch};

use crate::cni::attach;
use crate::plan::{self, Current, NetworkPlan, NodeNetwork, Overlay, Snapshot, TABLE};
use crate::{BRIDGE, DATA_DIR, NETWORK, OVERLAY};

/// The name of the configuration file; runtimes take the first of the folder.
const CONFLIST: &str = "10-oxikube.conflist";
/// Others change interfaces and routes too: look again this often.
const RESYNC: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The name of this node's Node object.
    #[arg(long = "network-node-name", default_value = "", hide_default_value = true)]
    pub node_name: String,
    /// The folder of the container runtime's network configuration.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
    /// Where allocated pod addresses are recorded.
    #[arg(long, default_value = DATA_DIR)]
    pub cni_data_dir: PathBuf,
    /// How pods of other nodes are reached.
    #[arg(long, value_enum, default_value = "none")]
    pub pod_overlay: Overlay,
    /// CIDRs towards which pods keep their own address; if unset, the nodes' pod CIDRs.
    #[arg(long, value_delimiter = ',')]
    pub pod_network_cidrs: Vec<IpNet>,
    /// The MTU of the node's uplink; 0 takes that of the interface with the default route.
    #[arg(long, default_value_t = 0)]
    pub pod_uplink_mtu: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Host(#[from] host::Error),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

/// The agent. `run` ends only with the tasks that it is spawned in.
pub struct Agent {
    options: Options,
    net: Arc<dyn Net>,
    nodes: Informer<Node>,
    ready: watch::Sender<bool>,
}

impl Agent {
    /// `nodes`: all nodes (`informers.of::<Node>()`).
    pub fn new(options: Options, net: Arc<dyn Net>, nodes: Informer<Node>) -> Self {
        Self { options, net, nodes, ready: watch::Sender::new(false) }
    }

    /// True once the network was set up: pods can be started.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    pub async fn run(self) {
        let changed = Arc::new(Notify::new());
        let notify = changed.clone();
        // Heartbeats change nodes all the time; only what the plan reads counts.
        self.nodes.on_change(move |delta| {
            if delta.old().map(|n| node_network(n)) != delta.current().map(|n| node_network(n)) {
                notify.notify_one();
            }
        });
        self.nodes.synced().await;
        let mut backoff = base::Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let mut applied: Option<NetworkPlan> = None;
        loop {
            let wait = match self.sync(applied.take()).await {
                Ok(plan) => {
                    backoff.reset();
                    applied = plan;
                    RESYNC
                }
                Err(error) => {
                    tracing::error!(%error, "setting up the node's network failed");
                    backoff.next_delay()
                }
            };
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn sync(&self, previous: Option<NetworkPlan>) -> Result<Option<NetworkPlan>, Error> {
        let nodes: Vec<NodeNetwork> = self.nodes.list().iter().map(|node| node_network(node)).collect();
        let (options, net) = (self.options.clone(), self.net.clone());
        let work = move || apply(&options, &*net, nodes, previous);
        let plan = tokio::task::spawn_blocking(work).await.expect("applying a plan does not panic")?;
        if plan.is_some() {
            self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        }
        Ok(plan)
    }
}

/// Brings the node's network in step with the nodes, once. `previous`: what the last call returned.
pub fn apply(
    options: &Options,
    net: &dyn Net,
    mut nodes: Vec<NodeNetwork>,
    previous: Option<NetworkPlan>,
) -> Result<Option<NetworkPlan>, Error> {
    let Some(own) = nodes.iter().position(|n| n.name == options.node_name) else { return Ok(None) };
    let this = nodes.swap_remove(own);
    let uplink_mtu = if options.pod_uplink_mtu != 0 { options.pod_uplink_mtu } else { uplink_mtu(net)? };
    let snapshot = Snapshot {
        this,
        others: nodes,
        cluster_cidrs: options.pod_network_cidrs.clone(),
        overlay: options.pod_overlay,
        uplink_mtu,
        data_dir: options.cni_data_dir.clone(),
    };
    let Some(plan) = plan::plan(&snapshot) else { return Ok(None) };
    let same = |part: fn(&NetworkPlan) -> &String| previous.as_ref().is_some_and(|p| part(p) == part(&plan));
    plan.bridge.ensure(net)?;
    if !same(|p| &p.filter) {
        net.nft(&plan.filter)?;
    }
    let (neighbours, forwarding) =
        previous.as_ref().map_or((BTreeSet::new(), BTreeSet::new()), |p| (p.neighbours.clone(), p.forwarding.clone()));
    let current = Current { links: net.links()?, addresses: net.addresses()?, routes: net.routes()?, neighbours, forwarding };
    let (changes, failures) = plan::changes(&plan, &current);
    for change in &changes {
        net.apply(change)?;
    }
    if previous.as_ref().is_none_or(|p| *p != plan) {
        for failure in failures.iter().chain(&plan.unreachable) {
            tracing::warn!(reason = failure, "pods of another node cannot be reached");
        }
        tracing::info!(cidrs = ?snapshot.this.pod_cidrs, others = snapshot.others.len(), mtu = plan.bridge.mtu, "node network is set up");
    }
    write_conflist(options, &plan.conflist)?;
    Ok(Some(plan))
}

/// Last of all: its presence tells the runtime that pods can be started. Written whole or not at all.
fn write_conflist(options: &Options, content: &str) -> Result<(), Error> {
    let path = options.cni_conf_dir.join(CONFLIST);
    if std::fs::read_to_string(&path).is_ok_and(|old| old == content) {
        return Ok(());
    }
    let new = options.cni_conf_dir.join(format!(".{CONFLIST}.new"));
    let write = std::fs::create_dir_all(&options.cni_conf_dir).and_then(|()| std::fs::write(&new, content));
    write.and_then(|()| std::fs::rename(&new, &path)).map_err(|source| Error::File { path, source })
}

fn uplink_mtu(net: &dyn Net) -> Result<u32, host::Error> {
    let default = net.routes()?.into_iter().find(|r| r.dst.prefix_len() == 0);
    let link = default.map(|route| net.link(&route.link)).transpose()?.flatten();
    // A node without a default route still has pods: Ethernet's.
    Ok(link.map_or(1500, |link| link.mtu))
}

/// What of a Node object the network reads.
pub fn node_network(node: &Node) -> NodeNetwork {
    let spec = node.spec.as_ref();
    let cidrs = spec.and_then(|s| s.pod_cidrs.clone()).unwrap_or_else(|| spec.and_then(|s| s.pod_cidr.clone()).into_iter().collect());
    let addresses = node.status.as_ref().and_then(|s| s.addresses.as_ref());
    let internal = addresses.into_iter().flatten().filter(|a| a.type_ == "InternalIP");
    NodeNetwork {
        name: node.metadata.name.clone().unwrap_or_default(),
        pod_cidrs: cidrs.iter().filter_map(|c| c.parse::<IpNet>().ok()).map(|c| c.trunc()).collect(),
        internal_ips: internal.filter_map(|a| a.address.parse::<IpAddr>().ok()).collect(),
    }
}

/// Removes all that the plugin and the agent made: interfaces, tables, routes, the configuration file; with `delete_data` the
/// allocations too. Continues after a failure; the failures are the result.
pub fn cleanup(net: &dyn Net, options: &Options, delete_data: bool) -> Vec<Error> {
    let mut errors: Vec<Error> = Vec::new();
    let mut note = |result: Result<(), host::Error>| errors.extend(result.err().map(Error::Host));
    match net.links() {
        Ok(links) => {
            let bridge = links.iter().find(|l| l.name == BRIDGE).map(|l| l.index);
            let ours = |l: &&host::Link| l.kind == "veth" && l.name.starts_with("oxi") && bridge.is_some() && l.master == bridge;
            let names = links.iter().filter(ours).map(|l| l.name.clone());
            let names = names.chain([OVERLAY.to_owned(), BRIDGE.to_owned()]);
            names.for_each(|name| note(net.apply(&Change::DeleteLink { name })));
        }
        Err(e) => note(Err(e)),
    }
    match net.routes() {
        Ok(routes) => routes.into_iter().filter(|r| r.protocol == plan::PROTOCOL).for_each(|r| note(net.apply(&Change::DeleteRoute(r)))),
        Err(e) => note(Err(e)),
    }
    for table in [TABLE, crate::cni::ports::TABLE] {
        note(net.nft(&format!("table inet {table} {{ }}\ndelete table inet {table}\n")));
    }
    let mut paths = vec![options.cni_conf_dir.join(CONFLIST)];
    if delete_data {
        let allocations = options.cni_data_dir.join(NETWORK);
        paths.extend(std::fs::read_dir(&allocations).into_iter().flatten().flatten().map(|entry| entry.path()));
    }
    for path in paths {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => errors.push(Error::File { path, source }),
            _ => {}
        }
    }
    errors
}

/// The host's end of a pod's interface, for statistics.
pub fn host_interface(container_id: &str) -> String {
    attach::host_interface(&crate::cni::config::Attachment { container_id: container_id.into(), ifname: "eth0".into() })
}
