//! Amounts of resources, and what a pod asks for (component-helpers/resource/helpers.go; KEP-753 sidecars, KEP-2837 pod-level resources).

use std::collections::BTreeMap;

use api::Quantity;
use api::core::v1::{Container, PodSpec};

/// What a container without a request counts for when nodes are scored (pkg/scheduler/util/pod_resources.go).
pub const DEFAULT_MILLI_CPU: i64 = 100;
pub const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// CPU in thousandths, memory and storage in bytes, extended resources in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub milli_cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Extended resources and huge pages, sorted by name.
    pub extended: Vec<(Box<str>, i64)>,
}

impl Resources {
    /// A quantity that cannot be read counts as nothing: the API server refuses such an object, so it is not met.
    pub fn from_map(map: &BTreeMap<String, Quantity>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in map {
            let Ok(amount) = api::quantity::parse(&quantity.0) else {
                tracing::warn!(resource = name, quantity = quantity.0, "a quantity cannot be read and counts as 0");
                continue;
            };
            match name.as_str() {
                "cpu" => resources.milli_cpu = amount.milli_value(),
                "memory" => resources.memory = amount.value(),
                "ephemeral-storage" => resources.ephemeral_storage = amount.value(),
                "pods" => {}
                _ => resources.extended.push((name.as_str().into(), amount.value())),
            }
        }
        resources
    }

    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self.extended.iter().find(|(known, _)| known.as_ref() == name).map_or(0, |(_, amount)| *amount),
        }
    }

    fn extended_mut(&mut self, name: &str) -> &mut i64 {
        let at = match self.extended.binary_search_by(|(known, _)| known.as_ref().cmp(name)) {
            Ok(at) => at,
            Err(at) => {
                self.extended.insert(at, (name.into(), 0));
                at
            }
        };
        &mut self.extended[at].1
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
    }

    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.extended {
            let mine = self.extended_mut(name);
            *mine = with(*mine, *amount);
        }
    }
}

fn requests(container: &Container) -> Resources {
    container.resources.as_ref().and_then(|r| r.requests.as_ref()).map(Resources::from_map).unwrap_or_default()
}

fn or_default(mut resources: Resources) -> Resources {
    if resources.milli_cpu == 0 {
        resources.milli_cpu = DEFAULT_MILLI_CPU;
    }
    if resources.memory == 0 {
        resources.memory = DEFAULT_MEMORY_BYTES;
    }
    resources
}

/// What the pod takes on its node: the larger of its running containers together and each init container with the sidecars started before it.
pub fn of_pod(spec: &PodSpec) -> Resources {
    total(spec, requests)
}

/// The same with the default amounts for containers that ask for nothing; only for scoring.
pub fn of_pod_for_scoring(spec: &PodSpec) -> Resources {
    total(spec, |container| or_default(requests(container)))
}

fn total(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    for container in &spec.containers {
        running.add(&of(container));
    }
    let mut sidecars = Resources::default();
    let mut starting = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            running.add(&own);
            sidecars.add(&own);
            starting.raise_to(&sidecars);
        } else {
            let mut together = sidecars.clone();
            together.add(&own);
            starting.raise_to(&together);
        }
    }
    running.raise_to(&starting);
    if let Some(requests) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let pod_level = Resources::from_map(requests);
        for (name, mine) in [("cpu", &mut running.milli_cpu), ("memory", &mut running.memory)] {
            if requests.contains_key(name) {
                *mine = pod_level.get(name);
            }
        }
    }
    if let Some(overhead) = &spec.overhead {
        running.add(&Resources::from_map(overhead));
    }
    running
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, milli_cpu: i64, memory: i64) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let seen = of_pod(&spec);
        assert_eq!((seen.milli_cpu, seen.memory), (milli_cpu, memory));
    }

    fn container(name: &str, cpu: &str, memory: &str) -> serde_json::Value {
        json!({ "name": name, "resources": { "requests": { "cpu": cpu, "memory": memory } } })
    }

    #[test]
    fn init_containers_and_sidecars() {
        check(json!({ "containers": [container("a", "100m", "10"), container("b", "1", "20")] }), 1100, 30);
        check(json!({ "containers": [container("a", "100m", "10")], "initContainers": [container("i", "500m", "5")] }), 500, 10);
        let mut sidecar = container("s", "200m", "100");
        sidecar["restartPolicy"] = "Always".into();
        check(json!({ "containers": [container("a", "100m", "10")], "initContainers": [sidecar, container("i", "300m", "1")] }), 500, 110);
        check(json!({ "containers": [container("a", "100m", "10")], "overhead": { "cpu": "50m" } }), 150, 10);
        check(json!({ "containers": [container("a", "100m", "10")], "resources": { "requests": { "cpu": "2" } } }), 2000, 10);
    }
}
