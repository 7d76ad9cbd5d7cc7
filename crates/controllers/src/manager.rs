//! The controller manager: which controllers run with which settings, and only while leading.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::Tasks;
use client::leader::Ended;
use client::{LeaderElector, LeaderOptions};
use prometheus_client::registry::Registry;

use crate::clusterroleaggregation::ClusterRoleAggregation;
use crate::connect::connect;
use crate::context::{Clients, Context};
use crate::daemonset::DaemonSetController;
use crate::deployment::DeploymentController;
use crate::endpoints::EndpointsController;
use crate::endpointslice::EndpointSliceController;
use crate::endpointslicemirroring::EndpointSliceMirroring;
use crate::frame::{Controller, Metrics, run};
use crate::garbagecollector::GarbageCollector;
use crate::namespace::NamespaceController;
use crate::nodeipam::{NodeIpam, RangeError, Ranges};
use crate::nodelifecycle::{NodeLifecycle, Rates, Settings};
use crate::options::Options;
use crate::podgc::PodGc;
use crate::replicaset::ReplicaSetController;
use crate::rootca::RootCaPublisher;
use crate::serviceaccount::ServiceAccountController;
use crate::tainteviction::TaintEviction;
use crate::trim;

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("cannot read --root-ca-file {path}: {cause}")]
    RootCa { path: String, cause: std::io::Error },
    #[error("--cluster-cidr and --node-cidr-mask-size do not fit: {0}")]
    Ranges(#[from] RangeError),
    #[error("--allocate-node-cidrs needs --cluster-cidr")]
    NoClusterCidr,
    #[error(transparent)]
    Connect(#[from] client::ConnectError),
    #[error(transparent)]
    Serve(#[from] serve::secure::ServeError),
}

/// How the manager ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was told to.
    Asked,
    /// Another one leads now: the process should exit and start anew.
    LostLeadership,
}

/// Runs the controller manager as a process of its own: connects as the flags say, serves health and metrics, and fails the tasks when the leadership is
/// lost, so that the process ends and another one begins clean.
pub async fn launch(options: Options, host: &str, tasks: &Tasks) -> Result<(), StartError> {
    let clients = connect(&options).await?;
    let mut registry = Registry::default();
    let manager = ControllerManager::new(options.clone(), clients.clone(), host, &mut registry)?;
    if options.secure_port != 0 {
        let metrics = Arc::new(move || {
            let mut encoded = String::new();
            prometheus_client::encoding::text::encode(&mut encoded, &registry).map(|()| encoded)
        });
        let server = serve::Secure { metrics, client: clients.root.clone() };
        server.start(SocketAddr::new(options.bind_address, options.secure_port), host, tasks).await?;
    }
    let group = tasks.clone();
    tasks.spawn_critical("kube-controller-manager", async move {
        let ended = manager.run(group).await;
        tracing::info!(?ended, "the controllers ended");
    });
    Ok(())
}

pub struct ControllerManager {
    options: Options,
    clients: Clients,
    metrics: Metrics,
    root_ca: Option<String>,
    ranges: Vec<Ranges>,
    /// Host name and a random part: who holds the Lease.
    identity: String,
    leading: Arc<AtomicBool>,
}

impl ControllerManager {
    /// Checks the options. `host` goes into the identity for leader election.
    pub fn new(options: Options, clients: Clients, host: &str, registry: &mut Registry) -> Result<Self, StartError> {
        let root_ca = match &options.root_ca_file {
            None => None,
            Some(path) => {
                Some(std::fs::read_to_string(path).map_err(|cause| StartError::RootCa { path: path.display().to_string(), cause })?)
            }
        };
        if options.allocate_node_cidrs && options.cluster_cidr.is_empty() {
            return Err(StartError::NoClusterCidr);
        }
        let cidrs = options.cluster_cidr.iter().filter(|_| options.allocate_node_cidrs);
        let ranges = cidrs.map(|cidr| Ranges::new(*cidr, options.node_mask(cidr))).collect::<Result<_, _>>()?;
        let identity = format!("{host}_{:032x}", rand::random::<u128>());
        Ok(Self { options, clients, metrics: Metrics::new(registry), root_ca, ranges, identity, leading: Arc::default() })
    }

    /// Publishes this CA bundle (PEM) instead of a file's.
    pub fn with_root_ca(mut self, bundle: String) -> Self {
        self.root_ca = Some(bundle);
        self
    }

    /// Whether the controllers run here. A manager that waits for leadership is healthy, but this says no.
    pub fn leading(&self) -> Arc<AtomicBool> {
        self.leading.clone()
    }

    /// Waits for leadership if so configured, runs the controllers, and returns when the tasks are stopped or the leadership is lost.
    pub async fn run(self, tasks: Tasks) -> Stopped {
        if !self.options.leader_elect {
            self.start(&tasks);
            tasks.stopping().await;
            return Stopped::Asked;
        }
        let options = LeaderOptions {
            lease_duration: self.options.leader_elect_lease_duration,
            renew_deadline: self.options.leader_elect_renew_deadline,
            retry_period: self.options.leader_elect_retry_period,
            ..LeaderOptions::new(&self.options.leader_elect_resource_namespace, &self.options.leader_elect_resource_name, &self.identity)
        };
        let mut elector = LeaderElector::new(self.clients.root.clone(), options);
        tokio::select! {
            () = tasks.stopping() => return Stopped::Asked,
            () = elector.acquire() => {}
        }
        let leading = self.leading.clone();
        let controllers = tasks.child();
        self.start(&controllers);
        let ended = elector.hold(&tasks).await;
        controllers.stop();
        leading.store(false, Ordering::Relaxed);
        if ended == Ended::Released { Stopped::Asked } else { Stopped::LostLeadership }
    }

    fn start(self, tasks: &Tasks) {
        let context = Context::new(self.clients, tasks.clone());
        trim::register(&context.informers);
        let starter = Starter { options: &self.options, tasks, metrics: &self.metrics };
        let options = &self.options;
        starter.start("serviceaccount-controller", 1, || ServiceAccountController::new(&context));
        if let Some(bundle) = self.root_ca {
            starter.start("root-ca-certificate-publisher-controller", 1, || RootCaPublisher::new(&context, bundle));
        }
        starter.start("replicaset-controller", options.concurrent_replicaset_syncs, || ReplicaSetController::new(&context));
        starter.start("deployment-controller", options.concurrent_deployment_syncs, || DeploymentController::new(&context));
        starter.start("daemonset-controller", options.concurrent_daemonset_syncs, || DaemonSetController::new(&context));
        starter.start("endpoints-controller", options.concurrent_endpoint_syncs, || EndpointsController::new(&context));
        starter.start("endpointslice-controller", options.concurrent_service_endpoint_syncs, || {
            EndpointSliceController::new(&context, options.max_endpoints_per_slice)
        });
        starter.start("endpointslice-mirroring-controller", 5, || EndpointSliceMirroring::new(&context, options.max_endpoints_per_slice));
        starter.start("clusterrole-aggregation-controller", 1, || ClusterRoleAggregation::new(&context));
        starter.start("namespace-controller", options.concurrent_namespace_syncs, || NamespaceController::new(&context));
        starter.start("garbage-collector-controller", options.concurrent_gc_syncs, || GarbageCollector::new(&context));
        starter.start("pod-garbage-collector-controller", 1, || PodGc::new(&context, options.terminated_pod_gc_threshold));
        starter.start("node-lifecycle-controller", 8, || NodeLifecycle::new(&context, lifecycle_settings(options)));
        starter.start("taint-eviction-controller", 8, || TaintEviction::new(&context));
        if !self.ranges.is_empty() {
            starter.start("node-ipam-controller", 1, || NodeIpam::new(&context, self.ranges));
        }
        self.leading.store(true, Ordering::Relaxed);
        tracing::info!("controllers started");
    }
}

fn lifecycle_settings(options: &Options) -> Settings {
    Settings {
        monitor_period: options.node_monitor_period,
        grace_period: options.node_monitor_grace_period,
        startup_grace_period: options.node_startup_grace_period,
        rates: Rates {
            normal: options.node_eviction_rate,
            secondary: options.secondary_node_eviction_rate,
            large_cluster: options.large_cluster_size_threshold,
            unhealthy_threshold: options.unhealthy_zone_threshold,
        },
    }
}

struct Starter<'a> {
    options: &'a Options,
    tasks: &'a Tasks,
    metrics: &'a Metrics,
}

impl Starter<'_> {
    fn start<C: Controller>(&self, name: &'static str, workers: usize, make: impl FnOnce() -> C) {
        if self.options.runs(name, true) {
            run(make(), workers, self.tasks, self.metrics);
        } else {
            tracing::info!(controller = name, "not started: --controllers leaves it out");
        }
    }
}
