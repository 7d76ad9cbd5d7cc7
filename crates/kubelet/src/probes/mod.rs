//! Probes: their verdicts per container, and the tasks that run them.

use std::collections::HashMap;

use api::core::v1::Container;

use crate::runtime::ContainerRecord;

/// The probes' last verdicts of one pod, by container id. A container without an entry has the initial value of its kind:
/// alive, not ready, start-up undecided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    pub liveness: HashMap<String, bool>,
    pub readiness: HashMap<String, bool>,
    pub startup: HashMap<String, bool>,
}

impl Results {
    /// A running container has started once its start-up probe, if it has one, succeeded.
    pub fn started(&self, container: &Container, record: &ContainerRecord) -> bool {
        record.is_running() && (container.startup_probe.is_none() || self.startup.get(&record.id) == Some(&true))
    }

    /// A started container is ready once its readiness probe, if it has one, succeeded.
    pub fn ready(&self, container: &Container, record: &ContainerRecord) -> bool {
        self.started(container, record) && (container.readiness_probe.is_none() || self.readiness.get(&record.id) == Some(&true))
    }
}
