//! The loop: objects change, rules are compiled, the difference is written. Writes are bundled: at most one per `min_sync_period`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, Tasks};
use client::{Client, Informer, Informers};
use host::{Flows, Net};
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use prometheus_client::registry::Registry;
use serve::plain as http;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

use crate::compile::{NodePorts, compile};
use crate::flows::{self, States};
use crate::health::{self, CheckServers, Health};
use crate::metrics::Metrics;
use crate::model::{HEADLESS_LABEL, NodeView, PROXY_NAME_LABEL, Snapshot, node_view};
use crate::options::{Config, ConntrackLimits};
use crate::ruleset::{Ruleset, TABLE, removal, transaction};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{what} address {address}: {source}; is another kube-proxy running?")]
    Bind { what: &'static str, address: std::net::SocketAddr, source: std::io::Error },
    #[error("write the service rules: {0}")]
    Rules(#[from] host::Error),
}

/// kube-proxy.
pub struct Proxy {
    config: Config,
    client: Client,
    net: Arc<dyn Net>,
    health: Arc<Health>,
    metrics: Metrics,
    registry: Arc<Registry>,
    healthz: Option<TcpListener>,
    metrics_listener: Option<TcpListener>,
    ready: watch::Sender<bool>,
}

/// Removes the rules of kube-proxy (`--cleanup`).
pub fn cleanup(net: &dyn Net) -> Result<(), host::Error> {
    net.nft(&removal())
}

impl Proxy {
    /// Opens the ports; nothing is written yet.
    pub async fn new(config: Config, client: Client, net: Arc<dyn Net>) -> Result<Self, Error> {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let healthz = bind("healthz", config.healthz, config.bind_hard_fail).await?;
        let metrics_listener = bind("metrics", config.metrics, config.bind_hard_fail).await?;
        let health = Arc::new(Health::new(config.sync_period * 2));
        let ready = watch::Sender::new(false);
        Ok(Self { config, client, net, health, metrics, registry: Arc::new(registry), healthz, metrics_listener, ready })
    }

    /// True once the rules were written for the first time.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Runs until the tasks are stopped. The rules stay: traffic goes on while the proxy is away.
    pub async fn run(mut self, tasks: Tasks) {
        self.serve(&tasks);
        set_conntrack(&*self.net, &self.config.conntrack);
        let informers = Informers::new(self.client.clone(), tasks.clone());
        let services = informers.selected::<Service>("", &format!("!{PROXY_NAME_LABEL}"));
        let slices = informers.selected::<EndpointSlice>("", &format!("!{HEADLESS_LABEL},!{PROXY_NAME_LABEL}"));
        let nodes = informers.selected::<Node>(&format!("metadata.name={}", self.config.node_name), "");
        let changed = Arc::new(Notify::new());
        self.watch(&services, &changed, self.metrics.service_changes.clone());
        self.watch(&slices, &changed, self.metrics.endpoint_changes.clone());
        let notify = changed.clone();
        nodes.on_change(move |delta| {
            // Heartbeats are no news.
            if delta.old().map(|n| node_view(n)) != delta.current().map(|n| node_view(n)) {
                notify.notify_one();
            }
        });
        tokio::join!(services.synced(), slices.synced(), nodes.synced());
        let checks = CheckServers::new(self.health.clone(), tasks.clone());
        let state = Written::default();
        Syncer { proxy: self, services, slices, nodes, checks, written: state }.run(changed).await;
    }

    fn watch<K: client::Object>(
        &self,
        informer: &Informer<K>,
        changed: &Arc<Notify>,
        counter: prometheus_client::metrics::counter::Counter,
    ) {
        let (changed, health, queued) = (changed.clone(), self.health.clone(), self.metrics.last_queued_seconds.clone());
        informer.on_change(move |_| {
            counter.inc();
            queued.set(base::clock::unix_ms() as f64 / 1000.0);
            health.queued();
            changed.notify_one();
        });
    }

    fn serve(&mut self, tasks: &Tasks) {
        if let Some(listener) = self.healthz.take() {
            let health = self.health.clone();
            tasks.spawn_critical("proxy healthz", http::serve(listener, Arc::new(move |path: &str| health.answer(path))));
        }
        if let Some(listener) = self.metrics_listener.take() {
            let (registry, health) = (self.registry.clone(), self.health.clone());
            let handler: http::Handler = Arc::new(move |path: &str| match path {
                "/metrics" => http::metrics(&registry),
                "/proxyMode" => http::text(200, http::PLAIN, "nftables"),
                other => health.answer(other),
            });
            tasks.spawn_critical("proxy metrics", http::serve(listener, handler));
        }
    }
}

async fn bind(what: &'static str, address: Option<std::net::SocketAddr>, hard: bool) -> Result<Option<TcpListener>, Error> {
    let Some(address) = address else { return Ok(None) };
    match http::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(source) if hard => Err(Error::Bind { what, address, source }),
        Err(error) => {
            tracing::error!(%error, %address, "{what} is not served: the address cannot be bound");
            Ok(None)
        }
    }
}

/// What is in the kernel, as far as this process knows.
#[derive(Default)]
struct Written {
    rules: Option<Ruleset>,
    flows: Option<States>,
}

struct Syncer {
    proxy: Proxy,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    nodes: Informer<Node>,
    checks: CheckServers,
    written: Written,
}

impl Syncer {
    async fn run(mut self, changed: Arc<Notify>) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        loop {
            let started = base::clock::monotonic();
            let wait = match self.sync().await {
                Ok(()) => {
                    backoff.reset();
                    self.proxy.config.sync_period
                }
                Err(error) => {
                    tracing::error!(%error, "writing the service rules failed");
                    self.proxy.metrics.sync_failures.inc();
                    // What is in the kernel is not known any more: the next write replaces it all.
                    self.written.rules = None;
                    backoff.next_delay()
                }
            };
            tokio::time::sleep_until(started + self.proxy.config.min_sync_period).await;
            tokio::select! {
                () = changed.notified() => {}
                () = tokio::time::sleep(wait) => self.look().await,
            }
        }
    }

    async fn sync(&mut self) -> Result<(), Error> {
        let started = base::clock::monotonic();
        let proxy = &self.proxy;
        let node = self.node();
        proxy.health.set_eligible(node.eligible);
        let addresses = match proxy.config.settings.node_ports {
            NodePorts::Primary => Vec::new(),
            NodePorts::Cidrs(_) => proxy.net.addresses()?.into_iter().map(|a| a.net.addr()).collect(),
        };
        let snapshot = Snapshot::new(&self.services.list(), &self.slices.list(), node, addresses);
        let (net, settings, written) = (proxy.net.clone(), proxy.config.settings.clone(), std::mem::take(&mut self.written));
        let work = move || {
            let outcome = write(&*net, &snapshot, &settings, written);
            (outcome, health::checks(&snapshot))
        };
        let (outcome, checks) = tokio::task::spawn_blocking(work).await.expect("writing rules does not panic");
        self.written = outcome?;
        self.checks.sync(checks).await;
        let proxy = &self.proxy;
        proxy.health.updated();
        proxy.metrics.sync_seconds.observe(started.elapsed().as_secs_f64());
        proxy.metrics.last_sync_seconds.set(base::clock::unix_ms() as f64 / 1000.0);
        proxy.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
        Ok(())
    }

    fn node(&self) -> NodeView {
        let config = &self.proxy.config;
        let found = self.nodes.get(None, &config.node_name);
        let mut view =
            found.map_or_else(|| NodeView { name: config.node_name.clone(), eligible: true, ..NodeView::default() }, |n| node_view(&n));
        if let Some(ip) = config.node_ip {
            view.ips.retain(|other: &IpAddr| other.is_ipv4() != ip.is_ipv4());
            view.ips.push(ip);
        }
        view
    }

    /// Somebody may have flushed the packet filter.
    async fn look(&mut self) {
        if self.written.rules.is_none() {
            return;
        }
        let net = self.proxy.net.clone();
        let look = move || net.nft_list(&["chain", "ip", TABLE, "services"]);
        match tokio::task::spawn_blocking(look).await.expect("listing does not panic") {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::warn!("the service rules are gone from the packet filter; writing them again");
                self.written.rules = None;
            }
            Err(error) => tracing::warn!(%error, "looking at the service rules failed"),
        }
    }
}

fn write(net: &dyn Net, snapshot: &Snapshot, settings: &crate::compile::Settings, written: Written) -> Result<Written, Error> {
    let rules = compile(snapshot, settings);
    let script = transaction(written.rules.as_ref(), &rules);
    if !script.is_empty() {
        net.nft(&script)?;
        tracing::debug!(services = snapshot.services.len(), bytes = script.len(), "service rules written");
    }
    let states = flows::states(snapshot);
    // After the rules: what is forgotten before them would be learned again from the old ones.
    forget(net, &flows::stale(written.flows.as_ref(), &states));
    Ok(Written { rules: Some(rules), flows: Some(states) })
}

fn forget(net: &dyn Net, flows: &[Flows]) {
    for flow in flows {
        if let Err(error) = net.forget_flows(flow) {
            tracing::error!(%error, "stale UDP connections stay until they time out");
            return;
        }
    }
}

/// Limits of connection tracking. A kernel or container that refuses keeps its own.
/// Source: cmd/kube-proxy/app/conntrack.go.
fn set_conntrack(net: &dyn Net, limits: &ConntrackLimits) {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
    let mut wanted = Vec::new();
    if limits.max_per_core > 0 {
        wanted.push(("nf_conntrack_max", limits.max_per_core.saturating_mul(cores).max(limits.min).to_string()));
    }
    let mut timeout = |key, value: Duration| {
        if !value.is_zero() {
            wanted.push((key, value.as_secs().to_string()));
        }
    };
    timeout("nf_conntrack_tcp_timeout_established", limits.tcp_established);
    timeout("nf_conntrack_tcp_timeout_close_wait", limits.tcp_close_wait);
    timeout("nf_conntrack_udp_timeout", limits.udp);
    timeout("nf_conntrack_udp_timeout_stream", limits.udp_stream);
    if limits.tcp_be_liberal {
        wanted.push(("nf_conntrack_tcp_be_liberal", "1".into()));
    }
    for (key, value) in wanted {
        let path = format!("net/netfilter/{key}");
        let larger = |old: &str| key == "nf_conntrack_max" && old.parse::<u64>().ok() >= value.parse().ok();
        match net.sysctl(&path) {
            Ok(Some(old)) if larger(&old) => continue,
            _ => {}
        }
        if let Err(error) = net.set_sysctl(&path, &value) {
            tracing::warn!(%error, "a limit of connection tracking stays as it is");
        }
    }
}
