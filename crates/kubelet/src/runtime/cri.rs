//! The connection to the container runtime over CRI (runtime.v1). Owns timeouts and error texts; must not decide anything.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1 as pb;
use pb::image_service_client::ImageServiceClient;
use pb::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Upstream's cap of a CRI message (pkg/kubelet/cri: maxMsgSize).
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// How long the runtime may take to answer its first call.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A failed call, or no connection at all.
#[derive(Debug, thiserror::Error)]
pub enum CriError {
    #[error("--container-runtime-endpoint {0:?}: only unix:// sockets are supported")]
    Endpoint(String),
    #[error(
        "the container runtime's socket {socket} does not answer: {cause}; start the runtime (for example containerd) or set --container-runtime-endpoint"
    )]
    Unreachable { socket: String, cause: String },
    #[error("{0}")]
    Call(Box<RpcError>),
}

/// A gRPC failure, printed as upstream's clients print it.
#[derive(Debug)]
pub struct RpcError(pub tonic::Status);

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rpc error: code = {:?} desc = {}", self.0.code(), self.0.message())
    }
}

impl CriError {
    pub fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Call(error) => Some(error.0.code()),
            Self::Endpoint(_) | Self::Unreachable { .. } => None,
        }
    }

    /// The object is gone; for removals that is a success.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(tonic::Code::NotFound)
    }
}

impl From<tonic::Status> for CriError {
    fn from(status: tonic::Status) -> Self {
        Self::Call(Box::new(RpcError(status)))
    }
}

/// What `Version` told.
#[derive(Clone, Debug)]
pub struct RuntimeVersion {
    pub name: String,
    pub version: String,
}

/// A cheap-to-clone client of both CRI services.
#[derive(Clone)]
pub struct Cri {
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
    timeout: Duration,
    version: RuntimeVersion,
}

/// `unix:///run/x.sock` or a bare absolute path, as a path.
fn socket_path(endpoint: &str) -> Result<PathBuf, CriError> {
    let path = endpoint.strip_prefix("unix://").unwrap_or(endpoint);
    if path.starts_with('/') { Ok(PathBuf::from(path)) } else { Err(CriError::Endpoint(endpoint.to_owned())) }
}

fn channel(socket: PathBuf) -> Channel {
    let connector = service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

impl Cri {
    /// Connects and checks that the runtime answers `Version`. `image_endpoint` empty means the same socket.
    pub async fn connect(endpoint: &str, image_endpoint: &str, timeout: Duration) -> Result<Self, CriError> {
        let socket = socket_path(endpoint)?;
        let image_socket = if image_endpoint.is_empty() { socket.clone() } else { socket_path(image_endpoint)? };
        let shown = socket.display().to_string();
        let unreachable = |cause: String| CriError::Unreachable { socket: shown.clone(), cause };
        if let Err(error) = UnixStream::connect(&socket).await {
            return Err(unreachable(error.to_string()));
        }
        let mut runtime = RuntimeServiceClient::new(channel(socket)).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let images = ImageServiceClient::new(channel(image_socket)).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request = pb::VersionRequest { version: "v1".into() };
        let answer = tokio::time::timeout(CONNECT_TIMEOUT, runtime.version(request))
            .await
            .map_err(|_| unreachable(format!("no answer to Version within {} s", CONNECT_TIMEOUT.as_secs())))?
            .map_err(|status| unreachable(RpcError(status).to_string()))?
            .into_inner();
        let version = RuntimeVersion { name: answer.runtime_name, version: answer.runtime_version };
        Ok(Self { runtime, images, timeout, version })
    }

    pub fn version(&self) -> &RuntimeVersion {
        &self.version
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        Self::request_within(message, self.timeout)
    }

    fn request_within<T>(message: T, timeout: Duration) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(timeout);
        request
    }

    pub async fn status(&self) -> Result<pb::StatusResponse, CriError> {
        Ok(self.runtime.clone().status(self.request(pb::StatusRequest { verbose: false })).await?.into_inner())
    }

    /// The cgroup driver that the runtime uses, where it can tell (CRI of containerd 2, CRI-O 1.28).
    pub async fn cgroup_driver(&self) -> Result<Option<pb::CgroupDriver>, CriError> {
        match self.runtime.clone().runtime_config(self.request(pb::RuntimeConfigRequest {})).await {
            Ok(answer) => Ok(answer.into_inner().linux.map(|linux| linux.cgroup_driver())),
            Err(status) if status.code() == tonic::Code::Unimplemented => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    pub async fn update_pod_cidr(&self, pod_cidr: &str) -> Result<(), CriError> {
        let network_config = Some(pb::NetworkConfig { pod_cidr: pod_cidr.to_owned() });
        let message = pb::UpdateRuntimeConfigRequest { runtime_config: Some(pb::RuntimeConfig { network_config }) };
        self.runtime.clone().update_runtime_config(self.request(message)).await?;
        Ok(())
    }

    pub async fn run_sandbox(&self, config: pb::PodSandboxConfig, runtime_handler: String) -> Result<String, CriError> {
        // Pulling the pause image and a slow network plugin are within it: upstream doubles the timeout here.
        let message = pb::RunPodSandboxRequest { config: Some(config), runtime_handler };
        let request = Self::request_within(message, self.timeout * 2);
        Ok(self.runtime.clone().run_pod_sandbox(request).await?.into_inner().pod_sandbox_id)
    }

    pub async fn stop_sandbox(&self, id: &str) -> Result<(), CriError> {
        let message = pb::StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_done(self.runtime.clone().stop_pod_sandbox(self.request(message)).await)
    }

    pub async fn remove_sandbox(&self, id: &str) -> Result<(), CriError> {
        let message = pb::RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        gone_is_done(self.runtime.clone().remove_pod_sandbox(self.request(message)).await)
    }

    /// `None` when the sandbox does not exist.
    pub async fn sandbox_status(&self, id: &str) -> Result<Option<pb::PodSandboxStatus>, CriError> {
        let message = pb::PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        match self.runtime.clone().pod_sandbox_status(self.request(message)).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    pub async fn list_sandboxes(&self, filter: Option<pb::PodSandboxFilter>) -> Result<Vec<pb::PodSandbox>, CriError> {
        Ok(self.runtime.clone().list_pod_sandbox(self.request(pb::ListPodSandboxRequest { filter })).await?.into_inner().items)
    }

    pub async fn list_containers(&self, filter: Option<pb::ContainerFilter>) -> Result<Vec<pb::Container>, CriError> {
        Ok(self.runtime.clone().list_containers(self.request(pb::ListContainersRequest { filter })).await?.into_inner().containers)
    }

    pub async fn create_container(
        &self,
        sandbox_id: &str,
        config: pb::ContainerConfig,
        sandbox_config: pb::PodSandboxConfig,
    ) -> Result<String, CriError> {
        let message = pb::CreateContainerRequest {
            pod_sandbox_id: sandbox_id.to_owned(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(self.runtime.clone().create_container(self.request(message)).await?.into_inner().container_id)
    }

    pub async fn start_container(&self, id: &str) -> Result<(), CriError> {
        let message = pb::StartContainerRequest { container_id: id.to_owned() };
        self.runtime.clone().start_container(self.request(message)).await?;
        Ok(())
    }

    /// Sends the stop signal, waits `grace_seconds`, kills.
    pub async fn stop_container(&self, id: &str, grace_seconds: i64) -> Result<(), CriError> {
        let message = pb::StopContainerRequest { container_id: id.to_owned(), timeout: grace_seconds };
        let wait = self.timeout + Duration::from_secs(u64::try_from(grace_seconds).unwrap_or(0));
        gone_is_done(self.runtime.clone().stop_container(Self::request_within(message, wait)).await)
    }

    pub async fn remove_container(&self, id: &str) -> Result<(), CriError> {
        let message = pb::RemoveContainerRequest { container_id: id.to_owned() };
        gone_is_done(self.runtime.clone().remove_container(self.request(message)).await)
    }

    /// `None` when the container does not exist.
    pub async fn container_status(&self, id: &str) -> Result<Option<pb::ContainerStatus>, CriError> {
        let message = pb::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        match self.runtime.clone().container_status(self.request(message)).await {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status.into()),
        }
    }

    pub async fn reopen_log(&self, id: &str) -> Result<(), CriError> {
        let message = pb::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.runtime.clone().reopen_container_log(self.request(message)).await?;
        Ok(())
    }

    /// Runs a command to its end. A runtime that hits `timeout` answers DeadlineExceeded.
    pub async fn exec_sync(&self, id: &str, cmd: Vec<String>, timeout: Duration) -> Result<pb::ExecSyncResponse, CriError> {
        let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let message = pb::ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: seconds };
        // Zero is "no limit"; otherwise leave the runtime time to answer with its own timeout error.
        let request =
            if seconds == 0 { tonic::Request::new(message) } else { Self::request_within(message, timeout + Duration::from_secs(2)) };
        Ok(self.runtime.clone().exec_sync(request).await?.into_inner())
    }

    pub async fn exec_url(&self, request: pb::ExecRequest) -> Result<String, CriError> {
        Ok(self.runtime.clone().exec(self.request(request)).await?.into_inner().url)
    }

    pub async fn attach_url(&self, request: pb::AttachRequest) -> Result<String, CriError> {
        Ok(self.runtime.clone().attach(self.request(request)).await?.into_inner().url)
    }

    pub async fn port_forward_url(&self, request: pb::PortForwardRequest) -> Result<String, CriError> {
        Ok(self.runtime.clone().port_forward(self.request(request)).await?.into_inner().url)
    }

    pub async fn container_stats(&self) -> Result<Vec<pb::ContainerStats>, CriError> {
        Ok(self
            .runtime
            .clone()
            .list_container_stats(self.request(pb::ListContainerStatsRequest { filter: None }))
            .await?
            .into_inner()
            .stats)
    }

    /// The stream of container events; fails with Unimplemented on runtimes without it (containerd 1.6).
    pub async fn events(&self) -> Result<tonic::Streaming<pb::ContainerEventResponse>, CriError> {
        Ok(self.runtime.clone().get_container_events(pb::GetEventsRequest {}).await?.into_inner())
    }

    pub async fn list_images(&self) -> Result<Vec<pb::Image>, CriError> {
        Ok(self.images.clone().list_images(self.request(pb::ListImagesRequest { filter: None })).await?.into_inner().images)
    }

    pub async fn image(&self, name: &str) -> Result<Option<pb::Image>, CriError> {
        let image = Some(pb::ImageSpec { image: name.to_owned(), ..Default::default() });
        Ok(self.images.clone().image_status(self.request(pb::ImageStatusRequest { image, verbose: false })).await?.into_inner().image)
    }

    /// Pulls without a time limit, as upstream (the runtime has its own progress timeout).
    pub async fn pull_image(
        &self,
        name: &str,
        auth: Option<pb::AuthConfig>,
        sandbox_config: Option<pb::PodSandboxConfig>,
    ) -> Result<String, CriError> {
        let image = Some(pb::ImageSpec { image: name.to_owned(), user_specified_image: name.to_owned(), ..Default::default() });
        Ok(self.images.clone().pull_image(pb::PullImageRequest { image, auth, sandbox_config }).await?.into_inner().image_ref)
    }

    pub async fn remove_image(&self, id: &str) -> Result<(), CriError> {
        let image = Some(pb::ImageSpec { image: id.to_owned(), ..Default::default() });
        gone_is_done(self.images.clone().remove_image(self.request(pb::RemoveImageRequest { image })).await)
    }

    pub async fn image_filesystems(&self) -> Result<Vec<pb::FilesystemUsage>, CriError> {
        Ok(self.images.clone().image_fs_info(self.request(pb::ImageFsInfoRequest {})).await?.into_inner().image_filesystems)
    }
}

fn gone_is_done<T>(result: Result<tonic::Response<T>, tonic::Status>) -> Result<(), CriError> {
    match result {
        Ok(_) => Ok(()),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
        Err(status) => Err(status.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        assert_eq!(socket_path("unix:///run/c.sock").unwrap(), PathBuf::from("/run/c.sock"));
        assert_eq!(socket_path("/run/c.sock").unwrap(), PathBuf::from("/run/c.sock"));
        assert!(socket_path("tcp://1.2.3.4:5").is_err());
    }

    #[test]
    fn error_text_is_upstreams() {
        let error = CriError::from(tonic::Status::not_found("no such thing"));
        assert_eq!(error.to_string(), "rpc error: code = NotFound desc = no such thing");
        assert!(error.is_not_found());
    }

    #[tokio::test]
    async fn absent_socket_is_named() {
        let error = Cri::connect("unix:///nonexistent/containerd.sock", "", Duration::from_secs(1)).await.err().expect("no such socket");
        assert!(error.to_string().contains("/nonexistent/containerd.sock"), "{error}");
        assert!(error.to_string().contains("--container-runtime-endpoint"), "{error}");
    }
}
