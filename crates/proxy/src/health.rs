//! What load balancers and probes ask: is this proxy alive, does this node have endpoints of a service.
//! Source: pkg/proxy/healthcheck.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base::Tasks;
use parking_lot::Mutex;
use serde_json::json;
use serve::plain::{self as http, Answer};
use tokio::time::Instant;

use crate::compile::usable;
use crate::model::Snapshot;

/// The state behind /healthz and /livez.
pub struct Health {
    state: Mutex<State>,
    /// How long a change may wait before the proxy counts as ill.
    timeout: Duration,
}

struct State {
    oldest_pending: Option<Instant>,
    last_updated: String,
    node_eligible: bool,
}

impl Health {
    pub fn new(timeout: Duration) -> Self {
        Self { state: Mutex::new(State { oldest_pending: None, last_updated: now(), node_eligible: true }), timeout }
    }

    /// A change has come that is not in the rules yet.
    pub fn queued(&self) {
        self.state.lock().oldest_pending.get_or_insert_with(base::clock::monotonic);
    }

    /// The rules are what the objects say.
    pub fn updated(&self) {
        let mut state = self.state.lock();
        state.oldest_pending = None;
        state.last_updated = now();
    }

    pub fn set_eligible(&self, eligible: bool) {
        self.state.lock().node_eligible = eligible;
    }

    pub fn is_healthy(&self) -> bool {
        self.state.lock().oldest_pending.is_none_or(|since| since.elapsed() < self.timeout)
    }

    /// The answer of `/healthz` and `/livez`; only the first one minds a node that is about to go.
    pub fn answer(&self, path: &str) -> Answer {
        let healthy = self.is_healthy();
        let state = self.state.lock();
        let (good, eligible) = match path {
            "/healthz" => (healthy && state.node_eligible, Some(state.node_eligible)),
            "/livez" => (healthy, None),
            _ => return http::not_found(),
        };
        let now = now();
        let last = if good { &now } else { &state.last_updated };
        let eligible = eligible.map_or(String::new(), |e| format!(", \"nodeEligible\": {e}"));
        let body = format!("{{\"lastUpdated\": {last:?},\"currentTime\": {now:?}{eligible}}}");
        http::text(if good { 200 } else { 503 }, "application/json", body)
    }
}

fn now() -> String {
    base::clock::now().to_string()
}

/// A service with a health check port: its name and its usable endpoints on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub namespace: String,
    pub name: String,
    pub local_endpoints: usize,
}

/// The health check ports that a snapshot asks for.
pub fn checks(snapshot: &Snapshot) -> BTreeMap<u16, Check> {
    let mut checks = BTreeMap::new();
    for service in snapshot.services.iter().filter(|s| s.health_port != 0) {
        let usable = usable(service, snapshot.endpoints_of(&service.key).iter(), &snapshot.node);
        let mut ips: Vec<_> = usable.local.iter().map(|e| e.ip).collect();
        ips.sort();
        ips.dedup();
        let check: &mut Check = checks.entry(service.health_port).or_insert_with(|| Check {
            namespace: service.key.namespace.clone(),
            name: service.key.name.clone(),
            local_endpoints: 0,
        });
        // A service's ports have the same endpoints, mostly; the port with most of them counts.
        check.local_endpoints = check.local_endpoints.max(ips.len());
    }
    checks
}

/// The servers on health check ports.
pub struct CheckServers {
    health: Arc<Health>,
    tasks: Tasks,
    running: HashMap<u16, (Tasks, Arc<Mutex<Check>>)>,
}

impl CheckServers {
    pub fn new(health: Arc<Health>, tasks: Tasks) -> Self {
        Self { health, tasks, running: HashMap::new() }
    }

    /// Opens and closes ports, and tells the open ones their numbers.
    pub async fn sync(&mut self, wanted: BTreeMap<u16, Check>) {
        self.running.retain(|port, (tasks, _)| {
            let keep = wanted.contains_key(port);
            if !keep {
                tasks.stop();
            }
            keep
        });
        for (port, check) in wanted {
            match self.running.get(&port) {
                Some((_, state)) => *state.lock() = check,
                None => self.open(port, check).await,
            }
        }
    }

    async fn open(&mut self, port: u16, check: Check) {
        let listener = match http::bind(SocketAddr::from(([0, 0, 0, 0], port))).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, port, service = format!("{}/{}", check.namespace, check.name), "health check port cannot be opened");
                return;
            }
        };
        let state = Arc::new(Mutex::new(check));
        let (health, shared) = (self.health.clone(), state.clone());
        let handler: http::Handler = Arc::new(move |_: &str| answer(&shared.lock(), health.is_healthy()));
        let tasks = self.tasks.child();
        tasks.spawn_critical("health check port", http::serve(listener, handler));
        self.running.insert(port, (tasks, state));
    }
}

fn answer(check: &Check, proxy_healthy: bool) -> Answer {
    let good = check.local_endpoints > 0 && proxy_healthy;
    let service = json!({ "namespace": check.namespace, "name": check.name });
    let body = json!({ "service": service, "localEndpoints": check.local_endpoints, "serviceProxyHealthy": proxy_healthy });
    let mut answer = http::text(if good { 200 } else { 503 }, "application/json", body.to_string());
    answer.headers_mut().insert("X-Load-Balancing-Endpoint-Weight", check.local_endpoints.into());
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_change_that_waits_too_long_is_illness() {
        let health = Health::new(Duration::from_secs(60));
        let check = |path: &str, status: u16| assert_eq!(health.answer(path).status(), status, "{path}");
        check("/healthz", 200);
        health.queued();
        check("/healthz", 200);
        tokio::time::advance(Duration::from_secs(61)).await;
        check("/healthz", 503);
        check("/livez", 503);
        health.updated();
        health.set_eligible(false);
        check("/healthz", 503);
        check("/livez", 200);
        check("/other", 404);
    }
}
