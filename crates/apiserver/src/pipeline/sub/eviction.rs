//! `pods/NAME/eviction`: a delete that respects disruption budgets (upstream: EvictionREST in registry/core/pod/storage/eviction.go).

use std::sync::Arc;

use api::core::v1::Pod;
use api::policy::v1::{Eviction, PodDisruptionBudget};
use api::selector::Selector;
use api::{Reason, StatusError};
use bytes::Bytes;
use http::Response;

use super::super::call::{Call, dry_run};
use super::super::update::{Current, update_with};
use super::super::write::{self, Ownership};
use super::super::{body, convert, delete, get};
use crate::admission::Operation;
use crate::pipeline::route::Path;
use crate::transport::body::Body;

pub async fn create(call: &mut Call, bytes: &Bytes) -> Result<Response<Body>, StatusError> {
    let mut eviction: Eviction = body::typed(call, bytes, "policy/v1", "Eviction")?;
    let name = call.name().to_owned();
    if eviction.metadata.name.as_deref().is_some_and(|n| !n.is_empty() && n != name) {
        return Err(StatusError::bad_request("name in URL does not match name in Eviction object"));
    }
    let options = eviction.delete_options.clone().unwrap_or_default();
    let dry = call.is_dry_run()? || dry_run(options.dry_run.iter().flatten().map(String::as_str))?;
    {
        let mut request = write::admission(call, Operation::Create, &name, dry, None, None);
        request.body = Some(&mut eviction);
        call.core.admission.mutate(&mut request).await?;
        call.core.admission.validate(&mut request).await?;
    }
    let entry = get::read(call, &name).await?.ok_or_else(|| call.not_found(&name))?;
    let object = convert::decode(&call.resource, &entry)?;
    let pod = object.get::<Pod>().ok_or_else(|| StatusError::internal("evictions are for pods"))?;
    if !ignores_budgets(pod) {
        spend(call, pod, dry).await?;
    }
    delete::delete_one(call, &name, &options, dry).await?;
    super::success(call, 201)
}

/// Pods that are over, not yet running, or on their way out disturb nobody.
fn ignores_budgets(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
    matches!(phase, "Succeeded" | "Failed" | "Pending") || pod.metadata.deletion_timestamp.is_some()
}

/// Takes one disruption from the budget that covers the pod; 429 where none is left.
async fn spend(call: &mut Call, pod: &Pod, dry_run: bool) -> Result<(), StatusError> {
    let budgets = call.core.objects.list::<PodDisruptionBudget>(call.namespace());
    let covering: Vec<Arc<PodDisruptionBudget>> = budgets.into_iter().filter(|b| covers(b, pod)).collect();
    let budget = match covering.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(StatusError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let name = budget.metadata.name.clone().unwrap_or_default();
    let Some(resource) = call.core.table.find("policy", "v1", "poddisruptionbudgets").cloned() else {
        return Err(StatusError::internal("PodDisruptionBudgets are not served"));
    };
    let mut query = crate::transport::query::Query::default();
    if dry_run {
        query = crate::transport::query::Query::parse(Some("dryRun=All"));
    }
    let path = Path {
        group: "policy".into(),
        version: "v1".into(),
        resource: "poddisruptionbudgets".into(),
        namespace: call.path.namespace.clone(),
        name: Some(name),
        subresource: Some("status".into()),
        ..Path::default()
    };
    let mut inner = Call { resource, path, query, warnings: Vec::new(), verb: "update", ..call.shallow() };
    let pod_name = pod.metadata.name.clone().unwrap_or_default();
    update_with(&mut inner, &mut |_, current| spent(current, &pod_name), Ownership::Update("kube-apiserver".into())).await?;
    Ok(())
}

fn covers(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let Some(selector) = budget.spec.as_ref().and_then(|s| s.selector.as_ref()) else { return false };
    Selector::from_label_selector(selector).is_ok_and(|s| s.matches_opt(pod.metadata.labels.as_ref()))
}

fn spent(current: &Current, pod: &str) -> Result<Box<dyn kinds::Object>, StatusError> {
    let mut budget =
        current.object.get::<PodDisruptionBudget>().cloned().ok_or_else(|| StatusError::internal("not a PodDisruptionBudget"))?;
    let name = budget.metadata.name.clone().unwrap_or_default();
    let generation = budget.metadata.generation.unwrap_or(0);
    let status = budget.status.get_or_insert_default();
    let refuse = |message: String, cause: String| {
        let mut error = StatusError::new(Reason::TooManyRequests, message).with_retry_after(10);
        if let Some(details) = &mut error.0.details {
            let cause = api::meta::v1::StatusCause { reason: Some("DisruptionBudget".into()), message: Some(cause), field: None };
            details.causes = Some(vec![cause]);
        }
        Err(error)
    };
    if status.observed_generation.unwrap_or(0) < generation {
        return refuse(
            "Cannot evict pod as it would violate the pod's disruption budget.".into(),
            format!("The disruption budget {name} is still being processed by the server."),
        );
    }
    let allowed = status.disruptions_allowed.unwrap_or(0);
    if allowed <= 0 {
        let (desired, healthy) = (status.desired_healthy.unwrap_or(0), status.current_healthy.unwrap_or(0));
        return refuse(
            "Cannot evict pod as it would violate the pod's disruption budget.".into(),
            format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently"),
        );
    }
    status.disruptions_allowed = Some(allowed - 1);
    status.disrupted_pods.get_or_insert_default().insert(pod.to_owned(), write::now());
    budget.metadata.resource_version = None;
    Ok(Box::new(budget))
}
