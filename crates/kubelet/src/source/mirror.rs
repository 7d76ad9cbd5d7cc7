//! Mirror pods: what the API shows of static pods. They are read-only copies (pkg/kubelet/pod/mirror_client.go).

use api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, PostParams, Preconditions};

use crate::context::Context;
use crate::objects::has_reason;
use crate::pod::{annotation, name, namespace, uid};
use crate::runtime::labels::{CONFIG_HASH, CONFIG_MIRROR};

/// Whether the mirror shows this version of the static pod.
pub fn shows(mirror: &Pod, own: &Pod) -> bool {
    annotation(mirror, CONFIG_MIRROR) == annotation(own, CONFIG_HASH) && mirror.metadata.deletion_timestamp.is_none()
}

/// Makes the mirror unless it is there; one of an older version is deleted first.
pub async fn ensure(context: &Context, own: &Pod) -> Result<(), kube::Error> {
    if let Some(there) = context.pods.get(Some(namespace(own)), name(own)) {
        if shows(&there, own) {
            return Ok(());
        }
        delete(context, &there).await?;
    }
    let mut mirror = own.clone();
    mirror.metadata.uid = None;
    mirror.status = None;
    let hash = annotation(own, CONFIG_HASH).unwrap_or_default().to_owned();
    mirror.metadata.annotations.get_or_insert_default().insert(CONFIG_MIRROR.into(), hash);
    if let Some(node) = context.node.get(None, &context.settings.node_name) {
        mirror.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: context.settings.node_name.clone(),
            uid: node.metadata.uid.clone().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: None,
        }]);
    }
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace(own));
    match api.create(&PostParams::default(), &mirror).await {
        Ok(_) => Ok(()),
        Err(error) if has_reason(&error, "AlreadyExists") => Ok(()),
        Err(error) => Err(error),
    }
}

/// Deletes the mirror of that name at once; nothing runs behind it.
pub async fn delete(context: &Context, own: &Pod) -> Result<(), kube::Error> {
    let Some(there) = context.pods.get(Some(namespace(own)), name(own)).filter(|pod| crate::pod::is_mirror(pod)) else { return Ok(()) };
    let api: Api<Pod> = Api::namespaced(context.client.clone(), namespace(own));
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(uid(&there).to_owned()), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(name(own), &params).await {
        Ok(_) => Ok(()),
        Err(error) if has_reason(&error, "NotFound") || has_reason(&error, "Conflict") => Ok(()),
        Err(error) => Err(error),
    }
}
