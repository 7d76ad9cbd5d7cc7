//! What every controller is made of: caches, a client under its own identity, an event recorder.

use std::sync::Arc;

use base::Tasks;
use client::{Client, Informer, Informers, Object, Recorder};

/// The clients of the controller manager. With upstream's `--use-service-account-credentials` every controller has its own identity, a service account in
/// kube-system with just its role (`system:controller:...`).
#[derive(Clone)]
pub struct Clients {
    /// `system:kube-controller-manager`: caches and leader election.
    pub root: Client,
    of: Arc<dyn Fn(&str) -> Client + Send + Sync>,
}

impl Clients {
    /// One identity for everything.
    pub fn shared(root: Client) -> Self {
        let client = root.clone();
        Self { root, of: Arc::new(move |_| client.clone()) }
    }

    /// `of` makes the client of `system:serviceaccount:kube-system:NAME`.
    pub fn per_controller(root: Client, of: impl Fn(&str) -> Client + Send + Sync + 'static) -> Self {
        Self { root, of: Arc::new(of) }
    }
}

/// Cheap to clone.
#[derive(Clone)]
pub struct Context {
    pub informers: Informers,
    pub tasks: Tasks,
    clients: Clients,
}

impl Context {
    pub fn new(clients: Clients, tasks: Tasks) -> Self {
        Self { informers: Informers::new(clients.root.clone(), tasks.clone()), tasks, clients }
    }

    pub fn informer<K: Object<DynamicType = ()>>(&self) -> Informer<K> {
        self.informers.of::<K>()
    }

    /// A client as the service account of a controller (plugin/pkg/auth/authorizer/rbac/bootstrappolicy/controller_policy.go).
    pub fn client(&self, service_account: &str) -> Client {
        (self.clients.of)(service_account)
    }

    pub fn recorder(&self, service_account: &str) -> Recorder {
        Recorder::new(self.client(service_account), service_account, "")
    }
}
