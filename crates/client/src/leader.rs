//! Leader election on a Lease (client-go/tools/leaderelection): one holder at a time, judged by this process's own monotonic clock, never by the
//! timestamps that others wrote.

use std::time::Duration;

use api::coordination::v1::{Lease, LeaseSpec};
use api::meta::v1::{MicroTime, ObjectMeta};
use base::Tasks;
use kube::api::PostParams;
use kube::{Api, Client, Error};
use tokio::time::Instant;

#[derive(Clone, Debug)]
pub struct LeaderOptions {
    pub namespace: String,
    pub name: String,
    /// Unique to this process: host name, underscore, uuid.
    pub identity: String,
    /// How long others wait after the last renewal that they saw. 15 s unless told.
    pub lease_duration: Duration,
    /// How long the leader tries to renew before it gives up. 10 s.
    pub renew_deadline: Duration,
    /// Between tries. 2 s.
    pub retry_period: Duration,
}

impl LeaderOptions {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Use: `acquire().await`, then work while `hold(..).await` runs; stop the work (usually the process) when it returns.
pub struct LeaderElector {
    options: LeaderOptions,
    leases: Api<Lease>,
    /// The Lease as last seen and when it was first seen so.
    observed: Option<(Lease, Instant)>,
}

/// How leadership ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Others may lead now: the renewals failed for too long or somebody took the Lease.
    Lost,
    /// The group of tasks was stopped and the Lease released.
    Released,
}

impl LeaderElector {
    pub fn new(client: Client, options: LeaderOptions) -> Self {
        let leases = Api::namespaced(client, &options.namespace);
        Self { options, leases, observed: None }
    }

    /// Waits until this process leads.
    pub async fn acquire(&mut self) {
        tracing::info!(lease = self.options.name, identity = self.options.identity, "waiting for leadership");
        loop {
            match self.try_acquire_or_renew().await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::warn!(lease = self.options.name, %error, "cannot read or write the lease, trying again"),
            }
            let jitter = 1.0 + 1.2 * rand::random::<f64>();
            tokio::time::sleep(self.options.retry_period.mul_f64(jitter)).await;
        }
        tracing::info!(lease = self.options.name, "became leader");
    }

    /// Renews until leadership is lost or `tasks` are stopped; then the Lease is released so that another one can lead at once.
    pub async fn hold(&mut self, tasks: &Tasks) -> Ended {
        let mut renewed = base::clock::monotonic();
        loop {
            tokio::select! {
                () = tasks.stopping() => {
                    self.release().await;
                    return Ended::Released;
                }
                () = tokio::time::sleep(self.options.retry_period) => {}
            }
            let deadline = renewed + self.options.renew_deadline;
            let outcome = tokio::time::timeout_at(deadline, self.try_acquire_or_renew()).await;
            match outcome {
                Ok(Ok(true)) => renewed = base::clock::monotonic(),
                Ok(Ok(false)) if !self.observed_holder_is_self() => {
                    tracing::error!(lease = self.options.name, "another process took the leadership");
                    return Ended::Lost;
                }
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(lease = self.options.name, %error, "cannot renew the lease, trying again"),
                Err(_) => {}
            }
            if base::clock::monotonic() >= deadline {
                tracing::error!(lease = self.options.name, "leadership lost: the lease could not be renewed in time");
                return Ended::Lost;
            }
        }
    }

    /// Whether this process holds the Lease now.
    async fn try_acquire_or_renew(&mut self) -> Result<bool, Error> {
        let now = base::clock::monotonic();
        let Some(current) = self.leases.get_opt(&self.options.name).await? else {
            return match self.leases.create(&PostParams::default(), &self.new_lease()).await {
                Ok(lease) => {
                    self.observed = Some((lease, now));
                    Ok(true)
                }
                Err(Error::Api(status)) if status.is_already_exists() => Ok(false),
                Err(error) => Err(error),
            };
        };
        if self.observed.as_ref().is_none_or(|(seen, _)| seen.spec != current.spec) {
            self.observed = Some((current.clone(), now));
        }
        let since = self.observed.as_ref().map_or(now, |(_, since)| *since);
        let holder = holder(&current);
        let ours = holder == self.options.identity;
        if !ours && !holder.is_empty() && now < since + lease_time(&current, self.options.lease_duration) {
            return Ok(false);
        }
        let next = self.next_lease(current, ours);
        match self.leases.replace(&self.options.name, &PostParams::default(), &next).await {
            Ok(lease) => {
                self.observed = Some((lease, base::clock::monotonic()));
                Ok(true)
            }
            Err(Error::Api(status)) if status.is_conflict() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn new_lease(&self) -> Lease {
        let metadata =
            ObjectMeta { name: Some(self.options.name.clone()), namespace: Some(self.options.namespace.clone()), ..ObjectMeta::default() };
        self.next_lease(Lease { metadata, spec: None }, false)
    }

    fn next_lease(&self, mut lease: Lease, renewal: bool) -> Lease {
        let old = lease.spec.take().unwrap_or_default();
        let now = MicroTime(base::clock::now());
        let transitions = old.lease_transitions.unwrap_or(0);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.options.identity.clone()),
            lease_duration_seconds: i32::try_from(self.options.lease_duration.as_secs()).ok(),
            acquire_time: if renewal { old.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if renewal || old.holder_identity.is_none() { transitions } else { transitions + 1 }),
            ..old
        });
        lease
    }

    fn observed_holder_is_self(&self) -> bool {
        self.observed.as_ref().is_some_and(|(lease, _)| holder(lease) == self.options.identity)
    }

    async fn release(&mut self) {
        let Some((mut lease, _)) = self.observed.take().filter(|(lease, _)| holder(lease) == self.options.identity) else { return };
        let now = MicroTime(base::clock::now());
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.acquire_time = Some(now.clone());
        spec.renew_time = Some(now);
        let params = PostParams::default();
        let released = self.leases.replace(&self.options.name, &params, &lease);
        match tokio::time::timeout(self.options.retry_period, released).await {
            Ok(Ok(_)) => tracing::info!(lease = self.options.name, "released the leadership"),
            Ok(Err(error)) => tracing::warn!(lease = self.options.name, %error, "cannot release the leadership"),
            Err(_) => tracing::warn!(lease = self.options.name, "cannot release the leadership: no answer"),
        }
    }
}

fn holder(lease: &Lease) -> &str {
    lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default()
}

/// Others' Leases count by the duration that they promised.
fn lease_time(lease: &Lease, default: Duration) -> Duration {
    let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(default, Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{Script, status};

    fn lease(holder: &str) -> String {
        serde_json::json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {"name": "kcm", "namespace": "kube-system", "resourceVersion": "4"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 15, "leaseTransitions": 1, "renewTime": "2020-01-01T00:00:00.000000Z"}})
        .to_string()
    }

    fn elector(script: &Script) -> LeaderElector {
        LeaderElector::new(script.client(), LeaderOptions::new("kube-system", "kcm", "me"))
    }

    #[tokio::test(start_paused = true)]
    async fn creates_the_lease_when_there_is_none() {
        let script = Script::new([status(404, "NotFound").to_string(), lease("me")]);
        script.code(0, 404);
        elector(&script).acquire().await;
        assert!(script.requests()[1].starts_with("POST /apis/coordination.k8s.io/v1/namespaces/kube-system/leases"));
        assert!(script.requests()[1].contains("\"leaseTransitions\":0"), "{:?}", script.requests());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_out_anothers_lease_by_its_own_clock() {
        // However old the other's renew time looks, its 15 s begin when it was first seen.
        let mut answers = vec![lease("other"); 30];
        answers.push(lease("me"));
        let script = Script::new(answers);
        let start = base::clock::monotonic();
        let mut elector = elector(&script);
        tokio::select! {
            () = elector.acquire() => {}
            () = script.used_up() => {}
        }
        assert!(start.elapsed() >= Duration::from_secs(15));
        let writes: Vec<_> = script.requests().into_iter().filter(|request| request.starts_with("PUT")).collect();
        assert!(writes[0].contains("\"leaseTransitions\":2"), "{writes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_the_renew_deadline() {
        let mut answers = vec![lease(""), lease("me")];
        answers.extend(vec![status(500, "InternalError").to_string(); 20]);
        let script = Script::new(answers);
        (2..22).for_each(|index| script.code(index, 500));
        let mut elector = elector(&script);
        elector.acquire().await;
        let start = base::clock::monotonic();
        assert_eq!(elector.hold(&Tasks::new()).await, Ended::Lost);
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn releases_when_stopped() {
        let script = Script::new([lease(""), lease("me"), lease("")]);
        let mut elector = elector(&script);
        elector.acquire().await;
        let tasks = Tasks::new();
        tasks.stop();
        assert_eq!(elector.hold(&tasks).await, Ended::Released);
        assert!(script.requests()[2].contains("\"holderIdentity\":\"\""), "{:?}", script.requests());
    }
}
