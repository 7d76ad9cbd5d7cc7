//! Gives every active namespace a ServiceAccount named `default` (pkg/controller/serviceaccount/serviceaccounts_controller.go).

use api::core::v1::{Namespace, ServiceAccount};
use api::meta::v1::ObjectMeta;
use client::{Api, Client, Delta, Informer, WorkQueue};
use kube::api::PostParams;

use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};

const NAME: &str = "default";

pub struct ServiceAccountController {
    namespaces: Informer<Namespace>,
    accounts: Informer<ServiceAccount>,
    client: Client,
}

impl ServiceAccountController {
    pub fn new(context: &Context) -> Self {
        Self { namespaces: context.informer(), accounts: context.informer(), client: context.client("service-account-controller") }
    }
}

/// Whether a namespace takes new objects.
pub fn is_active(namespace: &Namespace) -> bool {
    let phase = namespace.status.as_ref().and_then(|status| status.phase.as_deref());
    namespace.metadata.deletion_timestamp.is_none() && phase != Some("Terminating")
}

impl Controller for ServiceAccountController {
    type Key = String;

    fn name(&self) -> &'static str {
        "serviceaccount-controller"
    }

    fn watch(&self, queue: &WorkQueue<String>) {
        let namespaces = queue.clone();
        self.namespaces.on_change(move |delta| {
            if let Some(namespace) = delta.current() {
                namespaces.add(namespace.metadata.name.clone().unwrap_or_default());
            }
        });
        let accounts = queue.clone();
        self.accounts.on_change(move |delta| {
            if let Delta::Deleted(account) = delta
                && account.metadata.name.as_deref() == Some(NAME)
            {
                accounts.add(account.metadata.namespace.clone().unwrap_or_default());
            }
        });
    }

    async fn synced(&self) {
        self.namespaces.synced().await;
        self.accounts.synced().await;
    }

    async fn reconcile(&self, key: &String) -> Result<Next> {
        let active = self.namespaces.get(None, key).is_some_and(|namespace| is_active(&namespace));
        if !active || self.accounts.get(Some(key), NAME).is_some() {
            return Ok(Next::Done);
        }
        let account =
            ServiceAccount { metadata: ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() }, ..ServiceAccount::default() };
        match Api::namespaced(self.client.clone(), key).create(&PostParams::default(), &account).await.map_err(Error::from) {
            Ok(_) => Ok(Next::Done),
            Err(error) if error.is_already_exists() || error.is_not_found() || error.is_namespace_terminating() => Ok(Next::Done),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use base::Tasks;
    use client::script::{Script, config_map};

    use super::*;
    use crate::context::Clients;

    #[tokio::test]
    async fn creates_the_account_of_an_active_namespace() {
        let namespace = |phase: &str| -> Namespace {
            serde_json::from_value(serde_json::json!({"metadata": {"name": "ns"}, "status": {"phase": phase}})).expect("a namespace")
        };
        assert!(is_active(&namespace("Active")) && !is_active(&namespace("Terminating")));
        let script = Script::new([config_map("unused", 1).to_string()]);
        let context = Context::new(Clients::shared(script.client()), Tasks::new());
        let controller = ServiceAccountController::new(&context);
        assert_eq!(controller.reconcile(&"absent".to_owned()).await.expect("no error"), Next::Done);
    }
}
