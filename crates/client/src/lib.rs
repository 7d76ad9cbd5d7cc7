//! A Kubernetes client: connections over HTTPS or in process, informers, work queues, events, leader election.
//! Must not know a server's internals nor decide anything about objects.

pub mod connect;
pub mod informer;
pub mod leader;
pub mod limit;
pub mod meta;
pub mod queue;
pub mod recorder;
#[cfg(any(test, feature = "script"))]
pub mod script;
pub mod watch;

pub use connect::{ConnectError, InProcessUser, from_config, from_kubeconfig, in_process};
pub use informer::{Delta, Informer, Informers, Subscription};
pub use kube::{self, Api, Client, Resource, ResourceExt};
pub use leader::{LeaderElector, LeaderOptions};
pub use meta::{Object, ObjectKey, controller_of, is_controlled_by, key_of, object_ref, owner_reference};
pub use queue::WorkQueue;
pub use recorder::{EventType, Recorder};
pub use watch::Selection;
