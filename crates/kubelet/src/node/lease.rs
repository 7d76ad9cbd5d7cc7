//! The node's heartbeat: a Lease in kube-node-lease (component-helpers/apimachinery/lease).

use std::sync::Arc;
use std::time::Duration;

use api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use kube::Api;
use kube::api::PostParams;

use crate::context::Context;
use crate::objects::{api_text, has_reason};

const NAMESPACE: &str = "kube-node-lease";
/// After a failure, much sooner than the next heartbeat.
const RETRY: Duration = Duration::from_millis(500);

/// Renews at a quarter of the lease's duration.
pub async fn run(context: Arc<Context>) {
    let seconds = u64::try_from(context.settings.lease_seconds).unwrap_or(40);
    let period = Duration::from_secs_f64(seconds as f64 * 0.25);
    let mut held: Option<Lease> = None;
    let mut failures = 0u32;
    loop {
        match renew(&context, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                failures = 0;
                tokio::time::sleep(period).await;
            }
            Err(error) => {
                // At the very start the namespace may not be there yet.
                failures += 1;
                if failures > 3 {
                    tracing::warn!(error = api_text(&error), "the node's lease cannot be renewed, trying again");
                }
                tokio::time::sleep((RETRY * failures).min(Duration::from_secs(7))).await;
            }
        }
    }
}

async fn renew(context: &Context, held: Option<Lease>) -> Result<Lease, kube::Error> {
    let api: Api<Lease> = Api::namespaced(context.client.clone(), NAMESPACE);
    let name = &context.settings.node_name;
    let current = match held {
        Some(lease) => Some(lease),
        None => api.get_opt(name).await?,
    };
    let Some(mut lease) = current else {
        return match api.create(&PostParams::default(), &filled(context, Lease::default())).await {
            Err(error) if has_reason(&error, "AlreadyExists") => api.get(name).await,
            answer => answer,
        };
    };
    lease = filled(context, lease);
    api.replace(name, &PostParams::default(), &lease).await
}

fn filled(context: &Context, mut lease: Lease) -> Lease {
    let name = &context.settings.node_name;
    lease.metadata.name = Some(name.clone());
    lease.metadata.namespace = Some(NAMESPACE.into());
    let spec = lease.spec.get_or_insert_with(LeaseSpec::default);
    spec.holder_identity = Some(name.clone());
    spec.lease_duration_seconds = Some(context.settings.lease_seconds);
    spec.renew_time = Some(MicroTime(base::clock::now()));
    let uid = context.node.get(None, name).and_then(|node| node.metadata.uid.clone());
    if let (None, Some(uid)) = (&lease.metadata.owner_references, uid) {
        let owner = OwnerReference { api_version: "v1".into(), kind: "Node".into(), name: name.clone(), uid, ..Default::default() };
        lease.metadata.owner_references = Some(vec![owner]);
    }
    lease
}
