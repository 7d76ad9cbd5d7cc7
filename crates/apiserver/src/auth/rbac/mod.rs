//! Authorization by roles and bindings (rbac.authorization.k8s.io): rules, their index over the cache, the default roles, the escalation check.

mod bootstrap;
pub mod controllers;
pub mod defaults;
mod escalation;
mod index;
pub mod policy;
pub mod rules;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};

pub use bootstrap::bootstrap;
pub use escalation::Escalation;
pub use index::{Index, aggregated};

use super::{Attributes, Authorizer, Decision};
use crate::Objects;

/// The revisions of the four kinds that an index was made of.
type Version = [i64; 4];

pub struct Rbac {
    objects: Objects,
    current: RwLock<(Version, Arc<Index>)>,
    building: Mutex<()>,
}

impl Rbac {
    pub fn new(objects: Objects) -> Self {
        Self { objects, current: RwLock::new(([-1; 4], Arc::default())), building: Mutex::new(()) }
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    fn version(&self) -> Version {
        [
            self.objects.changed::<ClusterRole>(),
            self.objects.changed::<Role>(),
            self.objects.changed::<ClusterRoleBinding>(),
            self.objects.changed::<RoleBinding>(),
        ]
    }

    /// The index of what the cache holds now. Whoever first sees a change makes the new one; others wait for it.
    pub fn index(&self) -> Arc<Index> {
        let fresh = |version: Version| {
            let current = self.current.read();
            (current.0 == version).then(|| current.1.clone())
        };
        if let Some(index) = fresh(self.version()) {
            return index;
        }
        let _only_one = self.building.lock();
        let version = self.version();
        if let Some(index) = fresh(version) {
            return index;
        }
        let index =
            Arc::new(Index::new(&self.objects.list(None), &self.objects.list(None), &self.objects.list(None), &self.objects.list(None)));
        *self.current.write() = (version, index.clone());
        index
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, asked: &Attributes<'_>) -> Decision {
        match self.index().authorize(asked) {
            Ok(()) => Decision::Allow,
            Err(reason) => Decision::NoOpinion(reason),
        }
    }
}
