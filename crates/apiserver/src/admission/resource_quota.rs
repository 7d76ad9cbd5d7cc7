//! ResourceQuota: what a namespace may hold, charged before it is stored (apiserver/pkg/admission/plugin/resourcequota).
//! What the quotas' status says is used is the truth here; the resourcequota controller writes it first and corrects it later.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Service};
use api::quantity::{Amount, parse};
use api::quota::{self, Usage};
use api::{Quantity, StatusError};
use async_trait::async_trait;
use kube::Api;
use kube::api::PostParams;

use super::{AdmissionRequest, Operation, Plugin, forbid};
use crate::Objects;

/// How often a charge is tried again that lost against another one.
const ATTEMPTS: usize = 8;

pub struct ResourceQuotas {
    objects: Objects,
    /// As `system:apiserver`; there once the server has started.
    client: OnceLock<kube::Client>,
}

/// A quota after a charge.
struct Charged {
    quota: ResourceQuota,
    is_changed: bool,
}

impl ResourceQuotas {
    pub fn new(objects: Objects) -> Self {
        Self { objects, client: OnceLock::new() }
    }

    async fn charge(&self, request: &AdmissionRequest<'_>, name: &str, delta: &Usage) -> Result<(), StatusError> {
        let mut known: Option<Arc<ResourceQuota>> = self.objects.get(Some(request.namespace), name);
        for _ in 0..ATTEMPTS {
            let Some(quota) = known else { return Ok(()) };
            let charged = charged(&quota, delta).map_err(|cause| forbid(request, cause))?;
            if !charged.is_changed || request.dry_run {
                return Ok(());
            }
            // Before that only the server itself writes, its start-up objects; the controller counts them.
            let Some(client) = self.client.get() else { return Ok(()) };
            let api = Api::<ResourceQuota>::namespaced(client.clone(), request.namespace);
            match api.replace_status(name, &PostParams::default(), &charged.quota).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.reason == "NotFound" => return Ok(()),
                Err(kube::Error::Api(status)) if status.reason == "Conflict" => {
                    known = self.objects.read::<ResourceQuota>(Some(request.namespace), name).await?.map(Arc::new);
                }
                Err(error) => return Err(StatusError::internal(format!("quota {name} cannot be charged: {error}"))),
            }
        }
        Err(StatusError::conflict(
            "",
            "resourcequotas",
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        ))
    }
}

fn usage(request: &AdmissionRequest<'_>, object: &dyn kinds::Object) -> Usage {
    if let Some(pod) = object.get::<Pod>() {
        return quota::pod(pod);
    }
    if let Some(service) = object.get::<Service>() {
        return quota::service(service);
    }
    match object.get::<PersistentVolumeClaim>() {
        Some(claim) => quota::claim(claim),
        None => quota::count(request.info.group, request.info.resource),
    }
}

fn amounts(list: Option<&BTreeMap<String, Quantity>>) -> Usage {
    list.into_iter().flatten().filter_map(|(name, q)| Some((name.clone(), parse(&q.0).ok()?))).collect()
}

/// The quota with `delta` charged; an error says what would be exceeded.
fn charged(quota: &ResourceQuota, delta: &Usage) -> Result<Charged, String> {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let status = quota.status.clone().unwrap_or_default();
    let (hard, mut used) = (amounts(status.hard.as_ref()), amounts(status.used.as_ref()));
    let concerned: Usage = delta.iter().filter(|(name, _)| hard.contains_key(*name)).map(|(n, a)| (n.clone(), *a)).collect();
    let unknown: Vec<&str> = concerned.keys().filter(|name| !used.contains_key(*name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(format!("status unknown for quota: {name}, resources: {}", unknown.join(",")));
    }
    let over: Vec<&String> = concerned.iter().filter(|(n, by)| by.sign() > 0 && used[*n] + **by > hard[*n]).map(|(n, _)| n).collect();
    if !over.is_empty() {
        let pick = |of: &Usage| quota::show(of.iter().filter(|(n, _)| over.contains(n)));
        let (requested, used, limited) = (pick(&concerned), pick(&used), pick(&hard));
        return Err(format!("exceeded quota: {name}, requested: {requested}, used: {used}, limited: {limited}"));
    }
    let mut is_changed = false;
    for (name, by) in concerned.into_iter().filter(|(_, by)| !by.is_zero()) {
        is_changed = true;
        used.entry(name).and_modify(|sum: &mut Amount| *sum += by);
    }
    let mut quota = quota.clone();
    let shown = used.into_iter().map(|(name, amount)| (name, amount.to_quantity())).collect();
    quota.status.get_or_insert_default().used = Some(shown);
    Ok(Charged { quota, is_changed })
}

#[async_trait]
impl Plugin for ResourceQuotas {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn connect(&self, client: &kube::Client) {
        // A second start in one process keeps the first client: both reach the same server.
        let _ = self.client.set(client.clone());
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let is_namespaced = !request.namespace.is_empty() && request.subresource.is_empty();
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !is_namespaced || !writes || request.is("", "resourcequotas") {
            return Ok(());
        }
        let quotas: Vec<Arc<ResourceQuota>> = self.objects.list(Some(request.namespace));
        let Some(new) = request.object.as_deref().filter(|_| !quotas.is_empty()) else { return Ok(()) };
        let mut delta = usage(request, new);
        if let Some(old) = request.old {
            for (name, amount) in usage(request, old) {
                *delta.entry(name).or_insert(Amount::from_int(0, amount.format())) -= amount;
            }
            delta.retain(|_, amount| amount.sign() > 0);
        }
        for quota in quotas {
            let Some(spec) = &quota.spec else { continue };
            let pod = new.get::<Pod>();
            if quota::has_scopes(spec) && !pod.is_some_and(|pod| quota::chooses_pod(spec, pod)) {
                continue;
            }
            let hard: Vec<&str> = quota.status.iter().flat_map(|s| s.hard.iter().flatten()).map(|(name, _)| name.as_str()).collect();
            let name = quota.metadata.name.as_deref().unwrap_or_default();
            if request.operation == Operation::Create
                && let Some(cause) = pod.and_then(|pod| pod.spec.as_ref()).and_then(|spec| quota::unnamed(&hard, spec))
            {
                return Err(forbid(request, format!("failed quota: {name}: {cause}")));
            }
            if delta.keys().any(|name| hard.contains(&name.as_str())) {
                self.charge(request, name, &delta).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(used: serde_json::Value, delta: &[(&str, &str)], expected: Result<&str, &str>) {
        let quota: ResourceQuota = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "q"}, "status": {"hard": {"pods": "2", "requests.cpu": "1"}, "used": used}
        }))
        .unwrap();
        let delta: Usage = delta.iter().map(|(n, a)| ((*n).to_owned(), parse(a).unwrap())).collect();
        let done = charged(&quota, &delta).map(|c| quota::show(&amounts(c.quota.status.unwrap().used.as_ref())));
        assert_eq!(done.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn charges_or_refuses() {
        let used = || serde_json::json!({"pods": "1", "requests.cpu": "500m"});
        check(used(), &[("pods", "1"), ("requests.cpu", "250m"), ("count/pods", "1")], Ok("pods=2,requests.cpu=750m"));
        check(
            used(),
            &[("pods", "1"), ("requests.cpu", "1")],
            Err("exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=500m, limited: requests.cpu=1"),
        );
        check(serde_json::json!({}), &[("pods", "1")], Err("status unknown for quota: q, resources: pods"));
        check(used(), &[("services", "1")], Ok("pods=1,requests.cpu=500m"));
    }
}
