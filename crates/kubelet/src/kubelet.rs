//! The kubelet put together: checks the machine, connects the runtime, starts every part.

use std::sync::Arc;
use std::time::Duration;

use api::core::v1::{Node, Pod, Service};
use client::{Client, EventType, Informers, Recorder};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use crate::context::Context;
use crate::eviction;
use crate::node::{info, lease, report};
use crate::objects::Objects;
use crate::options::{ConfigError, Options, Settings};
use crate::pod::images::Images;
use crate::pod::resources::{millis, units};
use crate::pods::{Pods, Workers};
use crate::runtime::pleg::Pleg;
use crate::runtime::{Cri, CriError};
use crate::server::{Listeners, Server};
use crate::source::file;
use crate::status_manager::StatusManager;
use crate::volumes::tokens::Tokens;

/// Why a kubelet does not start.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Runtime(#[from] CriError),
    #[error("the kubelet must run as root")]
    NotRoot,
    #[error("running with swap on is not supported, please disable swap or set --fail-swap-on flag to false")]
    Swap,
    #[error("{0}")]
    Listen(std::io::Error),
    #[error("the server cannot be set up: {0}")]
    Server(String),
    #[error("cgroups cannot be set up below {root}: {cause}; is /sys/fs/cgroup mounted and writable?")]
    Cgroups { root: String, cause: std::io::Error },
}

pub struct Kubelet {
    context: Arc<Context>,
    workers: Workers,
    ready: watch::Sender<bool>,
    server: Server,
    listeners: Listeners,
}

impl Kubelet {
    /// Checks the machine and connects to the runtime; nothing of a pod is touched before `run`.
    pub async fn new(options: Options, client: Client, tasks: base::Tasks) -> Result<Self, KubeletError> {
        let mut settings = options.resolve()?;
        if !rustix::process::geteuid().is_root() {
            return Err(KubeletError::NotRoot);
        }
        if settings.fail_swap_on && info::has_swap() {
            return Err(KubeletError::Swap);
        }
        let machine = info::machine(&settings)?;
        let cri = Cri::connect(&settings.runtime_endpoint, &settings.image_endpoint, settings.runtime_timeout).await?;
        let allocatable = (millis(machine.allocatable.get("cpu")), units(machine.allocatable.get("memory")));
        crate::cgroups::set_up(&settings, allocatable)
            .map_err(|cause| KubeletError::Cgroups { root: crate::cgroups::node_root(&settings), cause })?;
        let listeners = Listeners::bind(&settings).await.map_err(KubeletError::Listen)?;
        // Port 0 is any free one, which the node then shows.
        settings.port = listeners.main.local_addr().map_err(KubeletError::Listen)?.port();
        let context = Self::context(settings, client, cri, machine, tasks);
        let workers = Workers::default();
        let server = Server::new(context.clone(), workers.clone()).map_err(KubeletError::Server)?;
        Ok(Self { context, workers, ready: watch::Sender::new(false), server, listeners })
    }

    fn context(settings: Settings, client: Client, cri: Cri, machine: crate::context::Machine, tasks: base::Tasks) -> Arc<Context> {
        let informers = Informers::new(client.clone(), tasks.clone());
        let name = settings.node_name.clone();
        let pods = informers.selected::<Pod>(&format!("spec.nodeName={name}"), "");
        let node = informers.selected::<Node>(&format!("metadata.name={name}"), "");
        let objects = Objects::new(client.clone());
        let parallel = if settings.serialize_image_pulls { Some(1) } else { settings.max_parallel_image_pulls };
        Arc::new(Context {
            pleg: Pleg::new(cri.clone()),
            images: Images::new(parallel),
            tokens: Tokens::new(objects.clone()),
            services: informers.of::<Service>(),
            statuses: StatusManager::new(client.clone(), pods.clone()),
            recorder: Recorder::new(client.clone(), "kubelet", name),
            machine: RwLock::new(machine),
            pressure: RwLock::default(),
            image_use: parking_lot::Mutex::default(),
            probe_totals: parking_lot::Mutex::default(),
            settings,
            client,
            cri,
            objects,
            node,
            pods,
            tasks,
        })
    }

    pub fn node_name(&self) -> &str {
        &self.context.settings.node_name
    }

    /// Becomes true when the API shows the node as ready.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Starts everything and returns when the tasks are told to stop. Containers keep running.
    pub async fn run(self) {
        let context = self.context.clone();
        let tasks = &context.tasks;
        context.node_event(EventType::Normal, "Starting", "Starting kubelet.");
        context.statuses.start(tasks);
        let reporter = (context.clone(), self.ready.clone());
        tasks.spawn_restarting("node-status", move || report::Reporter::new(reporter.0.clone(), reporter.1.clone()).run());
        let leased = context.clone();
        tasks.spawn_restarting("node-lease", move || lease::run(leased.clone()));
        self.server.start(self.listeners);
        let shared = (context.clone(), self.workers.clone());
        tasks.spawn_restarting("garbage-collection", move || crate::gc::run(shared.0.clone(), shared.1.clone()));
        let shared = (context.clone(), self.workers.clone());
        tasks.spawn_restarting("eviction", move || eviction::Manager::new(shared.0.clone(), shared.1.clone()).run());
        start_pods(&context, self.workers).await;
        tasks.stopping().await;
    }
}

async fn start_pods(context: &Arc<Context>, workers: Workers) {
    // Without this first list every running pod would look like a new one.
    while let Err(error) = context.pleg.prime().await {
        tracing::warn!(%error, "the runtime's pods cannot be listed, trying again");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (changed, runtime) = mpsc::channel(1024);
    context.tasks.spawn_critical("pleg", context.pleg.clone().run(changed));
    let (send, manifests) = mpsc::channel(4);
    match context.settings.static_pod_path.clone() {
        Some(path) => {
            let settings = &context.settings;
            let watching = file::watch(path, settings.node_name.clone(), settings.file_check_frequency, send);
            context.tasks.spawn_critical("static-pods", watching);
        }
        None => drop(send),
    }
    let pods = Pods::new(context.clone(), workers);
    context.tasks.spawn_critical("pods", pods.run(runtime, manifests));
}
