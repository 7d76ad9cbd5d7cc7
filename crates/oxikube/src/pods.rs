//! Asking a node's container runtime directly: its images, and removing every pod for `oxikube down`, when no kubelet runs any more.

use std::path::Path;

use anyhow::{Context, Result};
use hyper_util::rt::TokioIo;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use k8s_cri::v1::{ListImagesRequest, ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use tonic::transport::{Channel, Endpoint};

/// The label that every sandbox made by a kubelet carries.
const POD_NAME_LABEL: &str = "io.kubernetes.pod.name";

async fn connect(socket: &Path) -> Result<Channel> {
    let path = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://cri")
        .connect_with_connector(connector)
        .await
        .with_context(|| format!("connecting to {}", socket.display()))
}

/// The tags of the images that the runtime has.
pub async fn images(socket: &Path) -> Result<Vec<String>> {
    let mut service = ImageServiceClient::new(connect(socket).await?);
    let images = service.list_images(ListImagesRequest::default()).await.context("listing images")?.into_inner().images;
    Ok(images.into_iter().flat_map(|image| image.repo_tags).collect())
}

/// Stops and removes every pod sandbox of the node. Returns how many.
pub async fn remove_all(socket: &Path) -> Result<usize> {
    let runtime = RuntimeServiceClient::new(connect(socket).await?);
    let sandboxes =
        runtime.clone().list_pod_sandbox(ListPodSandboxRequest::default()).await.context("listing pod sandboxes")?.into_inner().items;
    let ours: Vec<String> = sandboxes.into_iter().filter(|s| s.labels.contains_key(POD_NAME_LABEL)).map(|s| s.id).collect();
    let count = ours.len();
    let removals = ours.into_iter().map(|id| {
        let mut runtime = runtime.clone();
        async move {
            runtime
                .stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.clone() })
                .await
                .with_context(|| format!("stopping sandbox {id}"))?;
            runtime
                .remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.clone() })
                .await
                .with_context(|| format!("removing sandbox {id}"))?;
            anyhow::Ok(())
        }
    });
    futures::future::try_join_all(removals).await?;
    Ok(count)
}
