//! One component per process, with upstream's names and flags: `oxikube kube-scheduler ...`, or by the name that the binary is called by.

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use base::Tasks;
use clap::Subcommand;
use client::{Client, LeaderElector, LeaderOptions, Recorder};

use crate::signals;

#[derive(Subcommand)]
pub enum Component {
    /// The store, with etcd's protocol and flags
    Etcd(Box<etcd::Options>),
    /// The API server
    KubeApiserver(Box<apiserver::Options>),
    /// Runs the controllers
    KubeControllerManager(Box<controllers::Options>),
    /// Chooses nodes for pods
    KubeScheduler(scheduler::Options),
    /// Runs the pods of a node
    Kubelet(Box<kubelet::Options>),
    /// Makes Services reachable on a node
    KubeProxy(Box<proxy::Options>),
}

/// The names that the binary may be called by.
const NAMES: &[&str] = &["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy"];

/// `kube-apiserver --flag` becomes `oxikube kube-apiserver --flag`.
pub fn spread_name(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|first| Path::new(first).file_name()?.to_str().map(str::to_owned));
    if let Some(name) = name.filter(|name| NAMES.contains(&name.as_str())) {
        arguments.insert(1, name.into());
    }
    arguments
}

/// Container runtimes call the binary as a network plugin; then nothing else of it runs.
pub fn run_plugin(_arguments: &[OsString]) -> Option<ExitCode> {
    if !network::cni::is_plugin_call() {
        return None;
    }
    let mut stdin = Vec::new();
    if let Err(error) = std::io::stdin().read_to_end(&mut stdin) {
        eprintln!("Error: reading the network configuration: {error}");
        return Some(ExitCode::FAILURE);
    }
    let (code, output) = network::cni::main(&network::cni::Env::from_process(), &stdin);
    if !output.is_empty() {
        println!("{output}");
    }
    Some(ExitCode::from(u8::try_from(code).unwrap_or(1)))
}

/// A component's options as a command line with these flags gives them.
pub fn from_flags<A: clap::Args>(flags: &[String]) -> Result<A> {
    let command = A::augment_args(clap::Command::new("oxikube").no_binary_name(true));
    Ok(A::from_arg_matches(&command.try_get_matches_from(flags)?)?)
}

impl Component {
    /// Runs until a signal ends it or it fails.
    pub async fn run(self) -> Result<()> {
        let tasks = Tasks::new();
        // What ends by itself after the stop, because it has something to put away.
        let mut closing = None;
        match self {
            Self::Etcd(options) => {
                base::logging::init(1);
                let server = etcd::Server::init(*options, &tasks).await?;
                closing = Some(tokio::spawn(server.run(tasks.clone())));
            }
            Self::KubeApiserver(options) => {
                base::logging::init(1);
                apiserver(*options, &tasks).await?;
            }
            Self::KubeControllerManager(options) => {
                base::logging::init(options.verbosity);
                controller_manager(*options, &tasks).await?;
            }
            Self::KubeScheduler(options) => {
                base::logging::init(options.verbosity);
                scheduler(options, &tasks).await?;
            }
            Self::Kubelet(options) => {
                base::logging::init(1);
                kubelet(*options, &tasks).await?;
            }
            Self::KubeProxy(options) => {
                base::logging::init(1);
                if options.cleanup {
                    return Ok(proxy::cleanup(&host::LinuxNet::here()?)?);
                }
                kube_proxy(&options, &tasks).await?;
            }
        }
        let failed = tokio::select! {
            signal = signals::end() => {
                tracing::info!(signal, "stopping");
                false
            }
            () = tasks.failed() => true,
            ended = end_of(&mut closing) => {
                tasks.stop();
                tasks.join().await;
                return Ok(ended??);
            }
        };
        tasks.stop();
        tasks.join().await;
        if let Some(closing) = closing {
            closing.await??;
        }
        if failed { bail!("a part failed: see the log above") } else { Ok(()) }
    }
}

/// What the part that closes by itself ends with, before anybody stopped it.
async fn end_of<T>(closing: &mut Option<tokio::task::JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match closing {
        Some(closing) => closing.await,
        None => std::future::pending().await,
    }
}

async fn apiserver(options: apiserver::Options, tasks: &Tasks) -> Result<()> {
    let kv = open_store(&options, tasks)?;
    let server = apiserver::ApiServer::new(options, kv)?;
    server.serve(tasks).await?;
    Ok(())
}

/// The etcd of `--etcd-servers`, or else the embedded store.
fn open_store(options: &apiserver::Options, tasks: &Tasks) -> Result<Arc<dyn store::Kv>> {
    if options.etcd_servers.is_empty() {
        std::fs::create_dir_all(&options.data_dir).with_context(|| format!("making {}", options.data_dir.display()))?;
        let engine = store::Engine::open(&options.data_dir, store::EngineOptions::default(), tasks).context("opening the store")?;
        return Ok(Arc::new(engine));
    }
    let tls = options.etcd_cafile.clone().map(|ca_file| etcd::EtcdTls {
        ca_file,
        cert_file: options.etcd_certfile.clone(),
        key_file: options.etcd_keyfile.clone(),
    });
    Ok(Arc::new(etcd::EtcdKv::connect(&options.etcd_servers, tls.as_ref(), tasks).context("--etcd-servers")?))
}

async fn connect(kubeconfig: Option<&Path>, agent: &str) -> Result<Client> {
    let path = kubeconfig.context("--kubeconfig is needed: the file with the API server's address and this component's credentials")?;
    Ok(client::from_kubeconfig(path, agent, None).await?)
}

/// Waits for the Lease, then works; losing it fails the process, so that two never work at once.
async fn lead(client: &Client, name: &'static str, tasks: &Tasks) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let identity = format!("{host}_{:x}", rand_id());
    let mut elector = LeaderElector::new(client.clone(), LeaderOptions::new("kube-system", name, identity));
    elector.acquire().await;
    let group = tasks.clone();
    tasks.spawn_critical("leader-election", async move {
        elector.hold(&group).await;
        tracing::error!("leadership is lost");
    });
}

fn rand_id() -> u64 {
    let mut bytes = [0u8; 8];
    match std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => u64::from(std::process::id()),
    }
}

async fn controller_manager(options: controllers::Options, tasks: &Tasks) -> Result<()> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Ok(controllers::launch(options, &host, tasks).await?)
}

async fn scheduler(options: scheduler::Options, tasks: &Tasks) -> Result<()> {
    let client = connect(options.kubeconfig.as_deref(), "kube-scheduler").await?;
    if options.leader_elect {
        lead(&client, "kube-scheduler", tasks).await;
    }
    let recorder = Recorder::new(client.clone(), "default-scheduler", "");
    scheduler::Scheduler::new(options, client, recorder)?.start(tasks).await?;
    Ok(())
}

async fn kubelet(options: kubelet::Options, tasks: &Tasks) -> Result<()> {
    let client = connect(options.kubeconfig.as_deref(), "kubelet").await?;
    let kubelet = kubelet::Kubelet::new(options, client, tasks.clone()).await?;
    tasks.spawn_critical("kubelet", kubelet.run());
    Ok(())
}

async fn kube_proxy(options: &proxy::Options, tasks: &Tasks) -> Result<()> {
    let host = rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    let config = options.config(&host)?;
    let client = connect(config.kubeconfig.as_deref(), "kube-proxy").await?;
    let proxy = proxy::Proxy::new(config, client, std::sync::Arc::new(host::LinuxNet::here()?)).await?;
    tasks.spawn_critical("kube-proxy", proxy.run(tasks.clone()));
    Ok(())
}
