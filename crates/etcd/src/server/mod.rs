//! The etcd server: finds out who it is, opens the store as that member, binds the sockets, runs the services.

mod alarms;
mod auth;
mod authority;
mod cluster;
mod compactor;
mod core;
mod election;
pub(crate) mod gateway;
mod http;
pub(crate) mod identity;
mod in_task;
mod kv;
mod leader;
mod lease;
mod line;
pub(crate) mod listener;
mod lock;
mod maintenance;
pub(crate) mod metrics;
mod unary;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use store::{Engine, KvError, Role, Transport};
use tokio_rustls::TlsConnector;

use self::core::Core;
use self::identity::{Identity, Known};
use self::listener::{Router, Socket, Tls};
use crate::bootstrap::{self, BootstrapError, Start};
use crate::options::{AutoCompaction, Options, OptionsError, urls};
use crate::peer::{self, PeerHandler, Peers};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Store(#[from] KvError),
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("TLS: {0}")]
    Certificate(#[from] pki::Error),
    #[error("listening on {url}: {source}")]
    Bind { url: String, source: std::io::Error },
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path} is damaged ({reason}): restore it from a copy of the data folder, or start with an empty --data-dir", path = path.display())]
    Identity { path: PathBuf, reason: String },
    #[error("{path} was the folder of a member, but the member's log is missing: restore it, or remove this member from the cluster and add it as a new \
             one with an empty --data-dir", path = .0.display())]
    LogLost(PathBuf),
    #[error("a part of the network between members failed: see the log above")]
    Network,
    #[error("{path} holds the data of another etcd: stop it, make a new folder from its data with 'oxikube etcdctl snapshot restore \
         {path}/snap/db --skip-hash-check --data-dir NEW', and start with --data-dir NEW", path = .0.display())]
    ForeignData(PathBuf),
}

/// A server that is bound and open, and serves once it runs.
pub struct Server {
    core: Arc<Core>,
    router: Router,
    clients: Vec<Socket>,
    metrics: Vec<Socket>,
    peer_urls: Vec<String>,
    peers: Arc<Peers>,
    /// The network between members outlives the stop: a leader hands over first.
    net: base::Tasks,
    published: (String, Vec<String>),
    compaction: AutoCompaction,
}

impl Server {
    /// Opens the data folder and binds the sockets.
    pub async fn init(options: Options, tasks: &base::Tasks) -> Result<Self, Error> {
        let net = base::Tasks::new();
        let made = Self::init_with(options.resolve()?, tasks, &net).await;
        if made.is_err() {
            net.stop();
        }
        made
    }

    async fn init_with(options: Options, tasks: &base::Tasks, net: &base::Tasks) -> Result<Self, Error> {
        options.check_cluster()?;
        let compaction = options.auto_compaction()?;
        let engine_options = options.engine()?;
        let advertised = urls("advertise-client-urls", &options.advertise_client_urls)?;
        for flag in options.accepted.given() {
            tracing::info!(flag, "this flag has no effect here");
        }
        let gate = auth::Gate::new(&options.auth, options.client_tls.client_cert_auth)?;
        let dir = options.data_dir().join("member");
        identity::check_folder(&dir)?;
        let tls = Tls::load(&options.client_tls.files())?;
        let clients = bind("listen-client-urls", &options.listen_client_urls, tls.as_ref()).await?;
        let metrics = match options.listen_metrics_urls.as_ref().filter(|list| !list.is_empty()) {
            Some(list) => bind("listen-metrics-urls", list, tls.as_ref()).await?,
            None => Vec::new(),
        };
        let peer_tls = Tls::load(&options.peer_tls.files())?;
        let connector = peer::connector(&options.peer_tls.files(), peer_tls.as_ref().map(|tls| tls.certificate()))?;
        let handler = PeerHandler::new(net);
        let mut peer_urls = Vec::new();
        for socket in bind("listen-peer-urls", &options.listen_peer_urls, peer_tls.as_ref()).await? {
            tracing::info!(url = socket.url, "serving peers");
            peer_urls.push(socket.url.clone());
            net.spawn_critical("etcd peer listener", socket.serve(handler.clone()));
        }
        let (start, is_fresh) = begin(&dir, &options, connector.as_ref(), net).await?;
        let Start { cluster_id, member_id, .. } = start;
        let (quota_bytes, max_request_bytes) = (engine_options.quota_bytes, engine_options.max_request_bytes);
        let peers = Peers::new(cluster_id, member_id, start.peer_urls.clone(), connector, is_fresh, net);
        let member_options = options.member(cluster_id, member_id, start.bootstrap.clone());
        let engine = Engine::open_member(&dir, engine_options, member_options, peers.clone(), tasks)?;
        identity::write(&dir, &start, true)?;
        let own_engine = engine.acting_as(store::Identity::Server);
        handler.open(own_engine.clone(), peers.clone());
        net.spawn_critical("etcd peers", peers.clone().run(own_engine));
        tracing::info!(cluster_id = format!("{cluster_id:x}"), member_id = format!("{member_id:x}"), is_fresh, "opened the store");
        let identity = Identity { cluster_id, member_id };
        let metrics_values = metrics::Metrics { peers: peers.traffic.clone(), ..metrics::Metrics::default() };
        engine.set_token_ttl(auth::token_ttl(&options.auth));
        let core = Core { engine, gate, identity, metrics: metrics_values, quota_bytes, max_request_bytes, tasks: tasks.child() };
        let core = Arc::new(core);
        let router = Router::new(core.clone(), options.max_concurrent_streams, &options.web);
        let published = (options.name.clone(), advertised);
        Ok(Self { core, router, clients, metrics, peer_urls, peers, net: net.clone(), published, compaction })
    }

    /// Where other members connect, with the ports that were taken.
    pub fn peer_urls(&self) -> Vec<String> {
        self.peer_urls.clone()
    }

    /// Where clients connect, with the ports that were taken.
    pub fn client_urls(&self) -> Vec<String> {
        self.clients.iter().map(|socket| socket.url.clone()).collect()
    }

    /// Where only health and metrics are served.
    pub fn metrics_urls(&self) -> Vec<String> {
        self.metrics.iter().map(|socket| socket.url.clone()).collect()
    }

    /// Serves until the tasks stop, then closes the store. Ends by itself, without an error, when the member is removed from its cluster.
    pub async fn run(self, tasks: base::Tasks) -> Result<(), Error> {
        let Self { core, router, clients, metrics, peers, net, published, compaction, .. } = self;
        let serving = core.tasks.clone();
        for socket in metrics {
            tracing::info!(url = socket.url, "serving metrics");
            serving.spawn_critical("etcd metrics listener", socket.serve(Arc::new(router.metrics_only())));
        }
        for socket in clients {
            tracing::info!(url = socket.url, "serving clients");
            let router = router.behind(&socket);
            serving.spawn_critical("etcd client listener", socket.serve(Arc::new(router)));
        }
        serving.spawn_critical("etcd compactor", compactor::run(core.own_engine(), compaction));
        serving.spawn("etcd publication", publish(core.own_engine(), peers.clone(), published));
        let ended = tokio::select! {
            () = tasks.stopping() => {
                hand_over(&core.own_engine(), &*peers, core.identity.member_id).await;
                Ok(())
            }
            () = net.failed() => Err(Error::Network),
            () = peers.data_is_lost() => Err(BootstrapError::Bootstrapped { id: core.identity.member_id }.into()),
            stopped = stopped(&core.engine) => match stopped {
                KvError::Removed => {
                    tracing::warn!("the member has been permanently removed from the cluster; the data-dir used by this member must be removed");
                    Ok(())
                }
                error => Err(error.into()),
            },
        };
        serving.stop();
        net.stop();
        serving.join().await;
        net.join().await;
        let closed = core.engine.close().await;
        ended?;
        match closed {
            Err(KvError::Removed) => Ok(()),
            closed => Ok(closed?),
        }
    }
}

async fn bind(flag: &'static str, list: &str, tls: Option<&Arc<Tls>>) -> Result<Vec<Socket>, Error> {
    let mut sockets = Vec::new();
    for url in urls(flag, list)? {
        sockets.push(Socket::bind(&url, tls).await?);
    }
    Ok(sockets)
}

/// Who the folder's member is, and whether its store is yet to be made.
async fn begin(dir: &Path, options: &Options, tls: Option<&TlsConnector>, tasks: &base::Tasks) -> Result<(Start, bool), Error> {
    let has_log = Engine::is_member_folder(dir)?;
    match identity::read(dir)? {
        Some(Known { begun: true, .. }) if !has_log => Err(Error::LogLost(dir.to_owned())),
        Some(Known { start, .. }) => Ok((start, !has_log)),
        None if has_log => Err(Error::Identity { path: dir.to_owned(), reason: "its member.json is missing".into() }),
        None => {
            let start = bootstrap::start(options, tls, tasks).await?;
            identity::write(dir, &start, false)?;
            Ok((start, true))
        }
    }
}

/// Says to the cluster that this member is there.
async fn publish(engine: Engine, peers: Arc<Peers>, (name, client_urls): (String, Vec<String>)) {
    // Whoever knows this member from an earlier life has refused it before there is a leader.
    if let Some(mut changes) = engine.raft_changes()
        && changes.wait_for(|raft| raft.leader != 0).await.is_err()
    {
        return;
    }
    peers.started();
    match engine.publish(name.clone(), client_urls.clone()).await {
        Ok(()) => tracing::info!(name, client_urls = client_urls.join(","), "published local member to cluster through raft"),
        Err(error) => tracing::warn!(%error, "the member could not say its name and client URLs to the cluster"),
    }
}

/// Why the member takes part no more.
async fn stopped(engine: &Engine) -> KvError {
    let Some(mut changes) = engine.raft_changes() else { return std::future::pending().await };
    let stopped = match changes.wait_for(|raft| raft.stopped.is_some()).await {
        Ok(raft) => raft.stopped.clone(),
        Err(_) => None,
    };
    stopped.unwrap_or_else(|| KvError::Unavailable("the store ended".into()))
}

/// A leader that stops gives the lead to the voter that it has reached for longest (etcdserver.TryTransferLeadershipOnShutdown).
async fn hand_over(engine: &Engine, peers: &dyn Transport, own: u64) {
    if engine.raft_status().is_none_or(|raft| raft.role != Role::Leader) {
        return;
    }
    let members = engine.members();
    let voters = members.iter().filter(|member| member.id != own && !member.is_learner);
    let reached = voters.filter_map(|member| Some((peers.connected_for(member.id)?, member.id)));
    if let Some((_, to)) = reached.max() {
        match engine.transfer_leader(to).await {
            Ok(()) => tracing::info!(to = format!("{to:x}"), "transferred leadership while stopping server"),
            Err(error) => tracing::warn!(to = format!("{to:x}"), %error, "leadership transfer failed"),
        }
    }
}
