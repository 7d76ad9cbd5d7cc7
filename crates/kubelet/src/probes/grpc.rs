//! The gRPC probe: `grpc.health.v1.Health/Check` (pkg/probe/grpc).

use std::time::Duration;

use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic_prost::ProstCodec;

use super::worker::Outcome;

#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;

pub async fn check(host: &str, port: i32, service: &str, timeout: Duration) -> Outcome {
    match tokio::time::timeout(timeout, ask(host, port, service)).await {
        Ok(Ok(SERVING)) => Outcome::Success,
        Ok(Ok(status)) => Outcome::Failure(format!("service unhealthy (responded with {:?})", name(status))),
        Ok(Err(cause)) => Outcome::Failure(cause),
        Err(_) => {
            Outcome::Failure(format!("timeout: failed to connect service \"{host}:{port}\" within {timeout:?}: context deadline exceeded"))
        }
    }
}

fn name(status: i32) -> &'static str {
    match status {
        0 => "UNKNOWN",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "INVALID",
    }
}

async fn ask(host: &str, port: i32, service: &str) -> Result<i32, String> {
    let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let endpoint = Endpoint::from_shared(format!("http://{bracketed}:{port}")).map_err(|error| error.to_string())?;
    let endpoint = endpoint.user_agent("kube-probe/1.36").map_err(|error| error.to_string())?;
    let channel = endpoint.connect().await.map_err(|error| format!("error: failed to connect service \"{host}:{port}\": {error}"))?;
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| error.to_string())?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let request = tonic::Request::new(CheckRequest { service: service.to_owned() });
    let codec: ProstCodec<CheckRequest, CheckResponse> = ProstCodec::default();
    match grpc.unary(request, path, codec).await {
        Ok(answer) => Ok(answer.into_inner().status),
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            Err(format!("error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}", status.message()))
        }
        Err(status) => Err(format!("error: health rpc probe failed: rpc error: code = {:?} desc = {}", status.code(), status.message())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_listening_is_a_failure() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = i32::from(listener.local_addr().unwrap().port());
        drop(listener);
        assert!(matches!(check("127.0.0.1", port, "", Duration::from_secs(2)).await, Outcome::Failure(_)));
    }
}
