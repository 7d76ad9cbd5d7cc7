//! Publishes the cluster's CA to every namespace as the ConfigMap `kube-root-ca.crt` (pkg/controller/certificates/rootcacertpublisher).

use std::collections::BTreeMap;

use api::core::v1::{ConfigMap, Namespace};
use api::meta::v1::ObjectMeta;
use client::{Api, Client, Informer, WorkQueue};
use kube::api::PostParams;

use crate::context::Context;
use crate::frame::{Controller, Error, Next, Result};
use crate::serviceaccount::is_active;

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION_KEY: &str = "kubernetes.io/description";
const DESCRIPTION: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

pub struct RootCaPublisher {
    namespaces: Informer<Namespace>,
    maps: Informer<ConfigMap>,
    client: Client,
    bundle: String,
}

#[derive(Debug, PartialEq)]
enum Plan {
    Nothing,
    Create(Box<ConfigMap>),
    Replace(Box<ConfigMap>),
}

fn plan(current: Option<&ConfigMap>, bundle: &str) -> Plan {
    let data = BTreeMap::from([(FILE.to_owned(), bundle.to_owned())]);
    let Some(current) = current else {
        let annotations = BTreeMap::from([(DESCRIPTION_KEY.to_owned(), DESCRIPTION.to_owned())]);
        let metadata = ObjectMeta { name: Some(NAME.into()), annotations: Some(annotations), ..ObjectMeta::default() };
        return Plan::Create(Box::new(ConfigMap { metadata, data: Some(data), ..ConfigMap::default() }));
    };
    let described = current.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(DESCRIPTION_KEY));
    if described && current.data.as_ref() == Some(&data) {
        return Plan::Nothing;
    }
    let mut new = current.clone();
    new.data = Some(data);
    new.metadata.annotations.get_or_insert_default().insert(DESCRIPTION_KEY.into(), DESCRIPTION.into());
    Plan::Replace(Box::new(new))
}

impl RootCaPublisher {
    /// `bundle` is the PEM text of the CA.
    pub fn new(context: &Context, bundle: String) -> Self {
        let maps = context.informers.selected::<ConfigMap>(&format!("metadata.name={NAME}"), "");
        Self { namespaces: context.informer(), maps, client: context.client("root-ca-cert-publisher"), bundle }
    }
}

impl Controller for RootCaPublisher {
    type Key = String;

    fn name(&self) -> &'static str {
        "root-ca-certificate-publisher-controller"
    }

    fn watch(&self, queue: &WorkQueue<String>) {
        let namespaces = queue.clone();
        self.namespaces.on_change(move |delta| namespaces.add(delta.object().metadata.name.clone().unwrap_or_default()));
        let maps = queue.clone();
        self.maps.on_change(move |delta| {
            if delta.old().is_some() {
                maps.add(delta.object().metadata.namespace.clone().unwrap_or_default());
            }
        });
    }

    async fn synced(&self) {
        self.namespaces.synced().await;
        self.maps.synced().await;
    }

    async fn reconcile(&self, key: &String) -> Result<Next> {
        if !self.namespaces.get(None, key).is_some_and(|namespace| is_active(&namespace)) {
            return Ok(Next::Done);
        }
        let maps = Api::<ConfigMap>::namespaced(self.client.clone(), key);
        let outcome = match plan(self.maps.get(Some(key), NAME).as_deref(), &self.bundle) {
            Plan::Nothing => return Ok(Next::Done),
            Plan::Create(map) => maps.create(&PostParams::default(), &map).await,
            Plan::Replace(map) => maps.replace(NAME, &PostParams::default(), &map).await,
        };
        match outcome.map_err(Error::from) {
            Ok(_) => Ok(Next::Done),
            Err(error) if error.is_already_exists() || error.is_not_found() || error.is_namespace_terminating() => Ok(Next::Done),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_and_repairs() {
        let Plan::Create(map) = plan(None, "PEM") else { panic!("creates it") };
        assert_eq!(plan(Some(&map), "PEM"), Plan::Nothing);
        assert!(matches!(plan(Some(&map), "another"), Plan::Replace(new) if new.data.as_ref().is_some_and(|data| data[FILE] == "another")));
    }
}
