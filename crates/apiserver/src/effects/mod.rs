//! The few writes that reserve something elsewhere: addresses and ports of Services, leases of Events. Each reservation is committed with the
//! write or rolled back without it.

pub mod bootstrap;
mod leases;
mod pool;
mod services;

use std::sync::Arc;
use std::time::Duration;

use api::StatusError;
use api::core::v1::Service;
use kinds::Object;

pub use leases::Leases;
use services::{Services, Taken};

use crate::cache::Objects;
use crate::options::Options;

/// How often the pools are brought in line with the Services that there are.
const RECONCILE_EVERY: Duration = Duration::from_secs(180);

pub struct Effects {
    services: Arc<Services>,
}

impl Effects {
    pub fn new(options: &Options) -> Result<Self, String> {
        let services = Services::new(&options.service_cluster_ip_range, &options.service_node_port_range)?;
        Ok(Self { services: Arc::new(services) })
    }

    /// Learns what is taken from the loaded cache, now and then again.
    pub fn start(&self, objects: Objects, tasks: &base::Tasks) {
        self.services.rebuild(&objects.list::<Service>(None));
        let services = self.services.clone();
        tasks.spawn_restarting("apiserver-service-allocator", move || {
            let (services, objects) = (services.clone(), objects.clone());
            async move {
                loop {
                    tokio::time::sleep(RECONCILE_EVERY).await;
                    services.rebuild(&objects.list::<Service>(None));
                }
            }
        });
    }

    /// Before a create (`old` is `None`) or update is validated, after the row has prepared it. A dry run reserves nothing.
    pub fn reserve(&self, new: &mut dyn Object, old: Option<&dyn Object>, dry_run: bool) -> Result<Reservation, StatusError> {
        let Some(service) = new.get_mut::<Service>() else { return Ok(Reservation(None)) };
        self.services.reserve(service, old.and_then(|o| o.get::<Service>()), dry_run).map(Reservation)
    }

    /// After an object has gone.
    pub fn released(&self, old: &dyn Object) {
        if let Some(service) = old.get::<Service>() {
            self.services.released(service);
        }
    }
}

/// What a write has taken. Dropped without `commit`, it is given back.
#[must_use]
pub struct Reservation(Option<Taken>);

impl Reservation {
    pub fn commit(self) {
        if let Some(taken) = self.0 {
            taken.commit();
        }
    }
}
