//! The server as a whole: puts the parts together, loads the cache, listens. Must not know verbs or kinds.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use store::Kv;
use tokio::net::TcpListener;

use crate::admission::{Admission, AdmissionError};
use crate::auth::{Auth, AuthError};
use crate::cache::{Cache, Objects};
use crate::compactor;
use crate::discovery::{Discovery, health::Health};
use crate::effects::{Effects, Leases};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::pipeline::{self, Core, Limits};
use crate::proxying::Kubelets;
use crate::storage::Storage;
use crate::table::Table;
use crate::transport::body::{Body, BoxError, request_body};
use crate::transport::tls::{self, TlsError};

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the store cannot be read: {0}")]
    Store(#[from] store::KvError),
    #[error(transparent)]
    Auth(#[from] AuthError),
    #[error(transparent)]
    Admission(#[from] AdmissionError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("cannot listen on {address}: {cause}. Stop what uses the port, or choose another with --secure-port")]
    Listen { address: SocketAddr, cause: std::io::Error },
    #[error("{0}")]
    Flags(String),
    #[error("start-up objects: {0}")]
    Bootstrap(String),
}

/// kube-apiserver. Cheap to clone.
#[derive(Clone)]
pub struct ApiServer {
    core: Arc<Core>,
}

/// The table of kinds, and the store as it shows to them.
fn laid_out(options: &Options, kv: Arc<dyn Kv>) -> (Arc<Table>, Arc<dyn Kv>) {
    let table = Arc::new(Table::new(kinds::rows()));
    let storage = Storage::new(kv, &options.etcd_prefix, options.storage_media_type, table.clone());
    (table, Arc::new(storage))
}

impl ApiServer {
    /// Reads flags and files; nothing runs yet.
    pub fn new(options: Options, kv: Arc<dyn Kv>) -> Result<Self, StartError> {
        let (table, kv) = laid_out(&options, kv);
        let cache = Arc::new(Cache::new(kv.clone(), table.clone()));
        let objects = Objects { cache: cache.clone(), table: table.clone() };
        let auth = Auth::new(&options.auth, &objects)?;
        let mut admission = Admission::new(&options.admission, &objects, &auth)?;
        if !options.allow_privileged {
            admission.refuse_privileged();
        }
        Self::with(options, kv, table, cache, auth, admission)
    }

    /// Everything is allowed to everybody and nothing is admitted or changed: for tests of this crate and others.
    pub fn for_tests(options: Options, kv: Arc<dyn Kv>) -> Result<Self, StartError> {
        let (table, kv) = laid_out(&options, kv);
        let cache = Arc::new(Cache::new(kv.clone(), table.clone()));
        Self::with(options, kv, table, cache, Auth::allow_all(), Admission::default())
    }

    fn with(
        options: Options,
        kv: Arc<dyn Kv>,
        table: Arc<Table>,
        cache: Arc<Cache>,
        auth: Auth,
        admission: Admission,
    ) -> Result<Self, StartError> {
        let ignored = options.ignored.named();
        if !ignored.is_empty() {
            tracing::info!(flags = ignored.join(","), "these flags have no effect here");
        }
        let core = Core {
            objects: Objects { cache: cache.clone(), table: table.clone() },
            effects: Effects::new(&options).map_err(StartError::Flags)?,
            leases: Leases::new(kv.clone(), options.event_ttl),
            metrics: Metrics::new(),
            limits: Limits::new(options.max_requests_inflight, options.max_mutating_requests_inflight),
            discovery: Discovery::new(table.clone()),
            health: Health::default(),
            kubelets: Kubelets::new(&options).map_err(StartError::Flags)?,
            tasks: base::Tasks::new(),
            connections: tokio_util::task::TaskTracker::new(),
            stop: tokio_util::sync::CancellationToken::new(),
            options,
            kv,
            table,
            cache,
            auth,
            admission,
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// The server as a tower service, for clients in this process.
    pub fn service(&self) -> Service {
        Service { core: self.core.clone() }
    }

    pub fn objects(&self) -> Objects {
        self.core.objects.clone()
    }

    /// Whether `/readyz` is well.
    pub fn ready(&self) -> bool {
        self.core.health.is_ready()
    }

    /// Loads the cache and starts to follow the store; the service answers from now on. Then makes the objects that must be there.
    pub async fn start(&self, tasks: &base::Tasks) -> Result<(), StartError> {
        self.start_on(tasks, self.core.options.secure_port).await
    }

    async fn start_on(&self, tasks: &base::Tasks, port: u16) -> Result<(), StartError> {
        let core = &self.core;
        core.cache.load().await?;
        core.health.cache_synced.store(true, Ordering::Release);
        let follower = core.clone();
        tasks.spawn_critical("apiserver-cache", async move {
            let error = follower.cache.follow().await;
            follower.health.store_failed.store(true, Ordering::Release);
            tracing::error!(%error, "the store's watch failed: reads would be stale");
        });
        let (streams, watcher) = (core.tasks.clone(), tasks.clone());
        let guard = core.stop.clone().drop_guard();
        tasks.spawn("apiserver-stop", async move {
            // Dropped when the task is stopped, which is when the server is.
            let _guard = guard;
            watcher.stopping().await;
            streams.stop();
        });
        core.effects.start(core.objects.clone(), tasks);
        compactor::start(&core.kv, core.options.etcd_compaction_interval, tasks);
        let user = client::InProcessUser::new("system:apiserver", &["system:masters", "system:authenticated"]);
        let client = client::in_process(self.service(), user);
        crate::effects::bootstrap::system_namespaces(&client).await.map_err(|error| StartError::Bootstrap(error.to_string()))?;
        core.auth.bootstrap(&client).await?;
        core.admission.bootstrap(&client).await?;
        if let Err(error) = crate::effects::bootstrap::reconcile(&client, &core.options, port).await {
            tracing::warn!(%error, "the kubernetes service cannot be made yet");
        }
        core.health.bootstrapped.store(true, Ordering::Release);
        let (reconciled, options) = (client, core.options.clone());
        tasks.spawn_restarting("apiserver-kubernetes-service", move || {
            crate::effects::bootstrap::keep_kubernetes_service(reconciled.clone(), options.clone(), port)
        });
        Ok(())
    }

    /// Takes no more requests: `/readyz` fails, watches end, requests under way are finished, but no longer than `limit`. Call it before the tasks
    /// are stopped, which ends what is left.
    pub async fn drain(&self, limit: std::time::Duration) {
        self.core.stop.cancel();
        self.core.connections.close();
        if tokio::time::timeout(limit, self.core.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.core.connections.len(), "requests are still running after the time to drain");
        }
    }

    /// Starts and listens until `tasks` are told to stop. Returns the address once connections are taken.
    pub async fn serve(&self, tasks: &base::Tasks) -> Result<SocketAddr, StartError> {
        let options = &self.core.options;
        let address = SocketAddr::new(options.bind_address, options.secure_port);
        let config = tls::ServerTls::load(options)?;
        let listener = TcpListener::bind(address).await.map_err(|cause| StartError::Listen { address, cause })?;
        let bound = listener.local_addr().map_err(|cause| StartError::Listen { address, cause })?;
        self.start_on(tasks, bound.port()).await?;
        let core = self.core.clone();
        let connections = tasks.clone();
        tasks.spawn_critical("apiserver-listener", async move { tls::accept(listener, config, core, connections).await });
        tracing::info!(address = %bound, "kube-apiserver serves");
        Ok(bound)
    }
}

/// The pipeline as a tower service over any body.
#[derive(Clone)]
pub struct Service {
    core: Arc<Core>,
}

impl<B> tower::Service<Request<B>> for Service
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let core = self.core.clone();
        Box::pin(async move { Ok(pipeline::handle(core, request.map(request_body)).await) })
    }
}
