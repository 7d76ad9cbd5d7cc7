//! Requests that go on to a kubelet, pod, service or node: log, exec, attach, portforward, proxy.

use api::StatusError;
use http::{Request, Response};

use crate::pipeline::Call;
use crate::transport::body::{Body, RequestBody};

/// How kubelets are reached.
pub struct Kubelets {}

impl Kubelets {
    pub fn new(_options: &crate::options::Options) -> Result<Self, String> {
        Ok(Self {})
    }
}

pub async fn connect(call: &mut Call, _request: Request<RequestBody>) -> Result<Response<Body>, StatusError> {
    Err(StatusError::internal(format!("{} is not served yet", call.subresource())))
}
