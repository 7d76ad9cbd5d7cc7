//! The etcd server: opens the store, binds the sockets, runs the services. A cluster of one member.

mod alarms;
mod auth;
mod authority;
mod cluster;
mod compactor;
mod core;
mod election;
pub(crate) mod gateway;
mod http;
mod identity;
mod kv;
mod leader;
mod lease;
mod line;
mod listener;
mod lock;
mod maintenance;
mod metrics;
mod unary;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use store::{Engine, KvError};

use self::core::Core;
pub(crate) use self::identity::Identity;
use self::listener::{Router, Socket, Tls};
use crate::options::{AutoCompaction, Options, OptionsError, urls};
use crate::pb;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Store(#[from] KvError),
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
    compaction: AutoCompaction,
}

impl Server {
    /// Opens the data folder and binds the sockets.
    pub async fn init(options: Options, tasks: &base::Tasks) -> Result<Self, Error> {
        let options = options.resolve()?;
        let peer_urls = options.check_cluster()?;
        let compaction = options.auto_compaction()?;
        let engine_options = options.engine()?;
        for flag in options.accepted.given() {
            tracing::info!(flag, "this flag has no effect here");
        }
        let gate = auth::Gate::new(&options.auth, options.client_tls.client_cert_auth)?;
        let tls = Tls::load(&options.client_tls.files())?;
        let mut clients = Vec::new();
        for url in urls("listen-client-urls", &options.listen_client_urls)? {
            clients.push(Socket::bind(&url, tls.as_ref()).await?);
        }
        let mut metrics = Vec::new();
        if let Some(list) = options.listen_metrics_urls.as_ref().filter(|list| !list.is_empty()) {
            for url in urls("listen-metrics-urls", list)? {
                metrics.push(Socket::bind(&url, tls.as_ref()).await?);
            }
        }
        let dir = options.data_dir().join("member");
        Identity::check_folder(&dir)?;
        let fresh = Identity::derive(&peer_urls, &options.initial_cluster_token);
        let (quota_bytes, max_request_bytes) = (engine_options.quota_bytes, engine_options.max_request_bytes);
        // The store's lock on the folder comes first: a second process must not count a term.
        let engine = Engine::open(&dir, engine_options, tasks)?;
        let identity = Identity::open(&dir, fresh)?;
        let member = pb::Member {
            id: identity.member_id,
            name: options.name.clone(),
            peer_ur_ls: peer_urls,
            client_ur_ls: urls("advertise-client-urls", &options.advertise_client_urls)?,
            is_learner: false,
        };
        let metrics_values = metrics::Metrics::default();
        engine.set_token_ttl(auth::token_ttl(&options.auth));
        let core = Core { engine, gate, identity, member, metrics: metrics_values, quota_bytes, max_request_bytes, tasks: tasks.child() };
        let core = Arc::new(core);
        let router = Router::new(core.clone(), options.max_concurrent_streams, &options.web);
        Ok(Self { core, router, clients, metrics, compaction })
    }

    /// Where clients connect, with the ports that were taken.
    pub fn client_urls(&self) -> Vec<String> {
        self.clients.iter().map(|socket| socket.url.clone()).collect()
    }

    /// Where only health and metrics are served.
    pub fn metrics_urls(&self) -> Vec<String> {
        self.metrics.iter().map(|socket| socket.url.clone()).collect()
    }

    /// Serves until the tasks stop, then closes the store.
    pub async fn run(self, tasks: base::Tasks) -> Result<(), Error> {
        let Self { core, router, clients, metrics, compaction } = self;
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
        tasks.stopping().await;
        serving.stop();
        serving.join().await;
        core.engine.close().await?;
        Ok(())
    }
}
