//! The few writes that reserve something elsewhere: addresses and ports of Services, leases of Events. Each reservation is committed with the
//! write or rolled back without it.

pub mod bootstrap;
mod leases;

use std::sync::Arc;

use api::StatusError;
use kinds::Object;

pub use leases::Leases;

use crate::options::Options;
use crate::pipeline::Core;

pub struct Effects {}

impl Effects {
    pub fn new(_options: &Options) -> Result<Self, String> {
        Ok(Self {})
    }

    pub async fn start(&self, _core: &Arc<Core>, _tasks: &base::Tasks) -> Result<(), StatusError> {
        Ok(())
    }

    /// Before a create (`old` is `None`) or update is stored. A dry run reserves nothing.
    pub fn reserve(&self, _new: &mut dyn Object, _old: Option<&dyn Object>, _dry_run: bool) -> Result<Reservation, StatusError> {
        Ok(Reservation {})
    }

    /// After an object has gone.
    pub fn released(&self, _old: &dyn Object) {}
}

/// What a write has taken. Dropped without `commit`, it is given back.
#[must_use]
pub struct Reservation {}

impl Reservation {
    pub fn commit(self) {}
}
