//! The all-in-one cluster: every component in this process, each with the client that its separate process would have. Starts them in order, watches over
//! them, ends them.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use apiserver::ApiServer;
use base::Tasks;
use client::{Client, InProcessUser, Informers, Recorder};
use controllers::{Clients, ControllerManager};
use ipnet::IpNet;
use store::{Engine, EngineOptions};

use crate::layout::Layout;
use crate::options::UpOptions;
use crate::{addons, component, containerd, daemon, image, signals, up};

/// The port of cluster DNS on the node; the Service kube-dns maps 53 to it.
pub const DNS_PORT: u16 = 10053;

/// Runs the cluster until it is told to stop or a part of it fails.
pub async fn run(options: UpOptions) -> Result<()> {
    let tasks = Tasks::new();
    let layout = options.layout();
    let engine = open_store(&layout, &tasks)?;
    let started = start(&options, &engine, &tasks).await;
    if let Err(error) = started {
        finish(&engine, &tasks).await;
        return Err(error);
    }
    daemon::write_pid(&layout.pid_file(), std::process::id())?;
    let failed = tokio::select! {
        signal = signals::end() => {
            tracing::info!(signal, "stopping");
            false
        }
        () = tasks.failed() => true,
    };
    finish(&engine, &tasks).await;
    daemon::remove_pid(&layout.pid_file());
    if failed {
        bail!("a component failed: see the log above");
    }
    Ok(())
}

async fn finish(engine: &Engine, tasks: &Tasks) {
    tasks.stop();
    tasks.join().await;
    if let Err(error) = engine.close().await {
        tracing::error!(%error, "the store was not closed cleanly; its log is replayed at the next start");
    }
}

fn open_store(layout: &Layout, tasks: &Tasks) -> Result<Engine> {
    let dir = layout.store();
    // The store outlives the components: it is stopped by `close`, after them.
    let _ = tasks;
    Engine::open(&dir, EngineOptions::default(), &Tasks::new()).context("opening the store")
}

/// What every component is told.
struct Site<'a> {
    options: &'a UpOptions,
    layout: Layout,
    tasks: &'a Tasks,
    address: IpAddr,
    node: String,
    service_cidr: IpNet,
    server: ApiServer,
    ca_pem: String,
}

impl Site<'_> {
    /// A client inside this process with an identity of its own.
    fn client(&self, user: &str, groups: &[&str]) -> Client {
        let groups: Vec<&str> = groups.iter().copied().chain(["system:authenticated"]).collect();
        client::in_process(self.server.service(), InProcessUser::new(user, &groups))
    }

    /// The n-th address of the Service range: 1 is the API server's, 10 is DNS's.
    fn service_address(&self, n: usize) -> Result<IpAddr> {
        self.service_cidr.hosts().nth(n - 1).with_context(|| format!("--service-cidr {} has no {n}th address", self.service_cidr))
    }
}

async fn start(options: &UpOptions, engine: &Engine, tasks: &Tasks) -> Result<()> {
    let layout = options.layout();
    let (address, node) = up::identity(options)?;
    let service_cidr: IpNet = options.service_cidr.parse().with_context(|| format!("--service-cidr {}", options.service_cidr))?;
    let service_ip = service_cidr.hosts().next().context("--service-cidr has no addresses")?;
    let names = pki::layout::ClusterNames {
        cluster: "kubernetes".into(),
        server: format!("https://{}", std::net::SocketAddr::new(address, options.apiserver_bind_port)),
        node_name: node.clone(),
        dns_domain: options.service_dns_domain.clone(),
        service_ip,
        addresses: vec![address],
        extra_names: options.apiserver_cert_extra_sans.clone(),
    };
    let credentials = pki::layout::ensure(&layout.config, &names, base::clock::now()).context("certificates")?;
    if let Some(authority) = &credentials.ca {
        let leaf = pki::layout::kubelet_leaf(&node, &[address]);
        pki::layout::ensure_leaf(&layout.pki().join("kubelet"), &leaf, authority, base::clock::now())
            .context("the kubelet's certificate")?;
    }
    // The runtime starts while the API server does.
    let runtime = tokio::spawn(ensure_runtime(options.clone()));
    let server = ApiServer::new(apiserver_options(options, &layout, address), Arc::new(engine.clone()))?;
    server.serve(tasks).await?;
    write_state(&layout, options)?;
    let ca_pem = credentials.ca_pem;
    let site = Site { options, layout, tasks, address, node, service_cidr, server, ca_pem };
    control_plane(&site).await?;
    runtime.await.context("starting the container runtime")??;
    node_components(&site).await
}

fn write_state(layout: &Layout, options: &UpOptions) -> Result<()> {
    let path = layout.state_file();
    std::fs::write(&path, serde_json::to_vec_pretty(options)?).with_context(|| format!("writing {}", path.display()))
}

async fn ensure_runtime(options: UpOptions) -> Result<()> {
    let layout = options.layout();
    if options.container_runtime_endpoint.is_none() {
        let executable = std::env::current_exe().context("finding this program's own file")?;
        network::cni::install(&layout.cni_bin(), &executable)
            .with_context(|| format!("installing the network plugin in {}", layout.cni_bin().display()))?;
        containerd::ensure(&layout).await?;
        let present = crate::pods::images(&options.runtime_socket()).await?;
        image::load_built_in(&options.runtime_socket(), &present).await?;
    }
    Ok(())
}

fn apiserver_options(options: &UpOptions, layout: &Layout, address: IpAddr) -> apiserver::Options {
    let pki = |name: &str| Some(layout.pki().join(name));
    let mut flags = apiserver::Options {
        secure_port: options.apiserver_bind_port,
        advertise_address: Some(address),
        tls_cert_file: pki("apiserver.crt"),
        tls_private_key_file: pki("apiserver.key"),
        data_dir: layout.store(),
        service_cluster_ip_range: options.service_cidr.clone(),
        kubelet_client_certificate: pki("apiserver-kubelet-client.crt"),
        kubelet_client_key: pki("apiserver-kubelet-client.key"),
        kubelet_certificate_authority: pki("ca.crt"),
        kubelet_preferred_address_types: vec!["InternalIP".into(), "Hostname".into()],
        allow_privileged: true,
        ..apiserver::Options::default()
    };
    let issuer = format!("https://kubernetes.default.svc.{}", options.service_dns_domain);
    flags.auth.client_ca_file = pki("ca.crt");
    flags.auth.service_account_key_file = pki("sa.pub").into_iter().collect();
    flags.auth.service_account_signing_key_file = pki("sa.key");
    flags.auth.service_account_issuer = vec![issuer];
    flags.auth.authorization_mode = vec!["Node".into(), "RBAC".into()];
    flags.auth.requestheader_client_ca_file = pki("front-proxy-ca.crt");
    flags.auth.requestheader_allowed_names = vec!["front-proxy-client".into()];
    flags.auth.requestheader_username_headers = vec!["X-Remote-User".into()];
    flags.auth.requestheader_group_headers = vec!["X-Remote-Group".into()];
    flags.auth.requestheader_extra_headers_prefix = vec!["X-Remote-Extra-".into()];
    flags.admission.enable_admission_plugins = vec!["NodeRestriction".into()];
    flags
}

async fn control_plane(site: &Site<'_>) -> Result<()> {
    let scheduler_client = site.client("system:kube-scheduler", &[]);
    let recorder = Recorder::new(scheduler_client.clone(), "default-scheduler", "");
    let flags = scheduler::Options { leader_elect: false, secure_port: 0, ..scheduler::Options::default() };
    scheduler::Scheduler::new(flags, scheduler_client, recorder)?.start(site.tasks).await?;
    start_controllers(site)?;
    addons::ensure(
        &site.client("oxikube", &["system:masters"]),
        &addons::Dns { service_ip: site.service_address(10)?, node_address: site.address, port: DNS_PORT },
    )
    .await
}

fn start_controllers(site: &Site<'_>) -> Result<()> {
    let flags: controllers::Options = component::from_flags(&[
        "--leader-elect=false".into(),
        "--allocate-node-cidrs=true".into(),
        format!("--cluster-cidr={}", site.options.pod_network_cidr),
        format!("--service-cluster-ip-range={}", site.service_cidr),
    ])?;
    let root = site.client("system:kube-controller-manager", &[]);
    let service = site.server.service();
    // As with --use-service-account-credentials: every controller has just its own rights.
    let clients = Clients::per_controller(root, move |account| {
        let user = format!("system:serviceaccount:kube-system:{account}");
        let groups = ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"];
        client::in_process(service.clone(), InProcessUser::new(user, &groups))
    });
    let mut registry = prometheus_client::registry::Registry::default();
    let manager = ControllerManager::new(flags, clients, &site.node, &mut registry)?.with_root_ca(site.ca_pem.clone());
    let group = site.tasks.clone();
    site.tasks.spawn_critical("kube-controller-manager", async move {
        manager.run(group).await;
    });
    Ok(())
}

async fn node_components(site: &Site<'_>) -> Result<()> {
    start_network(site)?;
    start_dns(site).await?;
    start_proxy(site).await?;
    let user = format!("system:node:{}", site.node);
    let kubelet = kubelet::Kubelet::new(kubelet_options(site)?, site.client(&user, &["system:nodes"]), site.tasks.clone()).await?;
    site.tasks.spawn_critical("kubelet", kubelet.run());
    Ok(())
}

fn start_network(site: &Site<'_>) -> Result<()> {
    let flags = network::agent::Options {
        node_name: site.node.clone(),
        cni_conf_dir: site.layout.cni_conf(),
        cni_data_dir: site.layout.cni_state(),
        pod_overlay: network::plan::Overlay::None,
        pod_network_cidrs: Vec::new(),
        pod_uplink_mtu: 0,
    };
    let client =
        site.client("system:serviceaccount:kube-system:oxikube-network", &["system:serviceaccounts", "system:serviceaccounts:kube-system"]);
    let nodes = Informers::new(client, site.tasks.clone()).of();
    let agent = network::agent::Agent::new(flags, Arc::new(host::LinuxNet::here()?), nodes);
    site.tasks.spawn_critical("network", agent.run());
    Ok(())
}

async fn start_dns(site: &Site<'_>) -> Result<()> {
    let flags: dns::Options = component::from_flags(&[
        format!("--dns-listen={}", std::net::SocketAddr::new(site.address, DNS_PORT)),
        format!("--dns-domain={}", site.options.service_dns_domain),
    ])?;
    let client =
        site.client("system:serviceaccount:kube-system:coredns", &["system:serviceaccounts", "system:serviceaccounts:kube-system"]);
    let dns = dns::Dns::new(flags, client).await?;
    let group = site.tasks.clone();
    site.tasks.spawn_critical("dns", dns.run(group));
    Ok(())
}

async fn start_proxy(site: &Site<'_>) -> Result<()> {
    let flags: proxy::Options = component::from_flags(&[format!("--cluster-cidr={}", site.options.pod_network_cidr)])?;
    let mut config = flags.config(&site.node)?;
    config.node_ip = Some(site.address);
    let net = Arc::new(host::LinuxNet::here()?);
    let proxy = proxy::Proxy::new(config, site.client("system:kube-proxy", &["system:node-proxier"]), net).await?;
    let group = site.tasks.clone();
    site.tasks.spawn_critical("kube-proxy", proxy.run(group));
    Ok(())
}

fn kubelet_options(site: &Site<'_>) -> Result<kubelet::Options> {
    let pki = |name: &str| Some(site.layout.pki().join(name));
    std::fs::create_dir_all(site.layout.manifests()).with_context(|| format!("making {}", site.layout.manifests().display()))?;
    Ok(kubelet::Options {
        hostname_override: Some(site.node.clone()),
        node_ip: vec![site.address],
        root_dir: Some(site.layout.kubelet()),
        container_runtime_endpoint: Some(format!("unix://{}", site.options.runtime_socket().display())),
        cluster_dns: vec![site.service_address(10)?.to_string()],
        cluster_domain: Some(site.options.service_dns_domain.clone()),
        cgroup_root: Some(site.layout.cgroup_root()),
        pod_manifest_path: Some(site.layout.manifests()),
        port: Some(site.options.kubelet_port),
        tls_cert_file: pki("kubelet.crt"),
        tls_private_key_file: pki("kubelet.key"),
        client_ca_file: pki("ca.crt"),
        anonymous_auth: Some(false),
        authentication_token_webhook: Some(true),
        authorization_mode: Some("Webhook".into()),
        // A laptop has swap; pods do not use it all the same.
        fail_swap_on: Some(false),
        serialize_image_pulls: Some(false),
        // A tenth of a workstation's disk is a lot, and images that were loaded from files cannot be pulled again (kind and minikube
        // decide the same way): only a disk that is really full counts.
        eviction_hard: ["memory.available<100Mi", "nodefs.available<1Gi", "nodefs.inodesFree<1%"].map(str::to_owned).to_vec(),
        image_gc_high_threshold: Some(100),
        ..kubelet::Options::default()
    })
}
