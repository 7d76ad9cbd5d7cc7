//! Lifecycle hooks: what runs right after a container's start and right before its stop (pkg/kubelet/lifecycle/handlers.go).

use std::time::Duration;

use api::IntOrString;
use api::core::v1::{ContainerPort, LifecycleHandler};

use crate::probes::http;
use crate::runtime::Cri;

/// The time one hook's HTTP request may take.
const HTTP_TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a hook in or against the container; the error is its event's text.
pub async fn run(cri: &Cri, handler: &LifecycleHandler, container_id: &str, pod_ip: &str, ports: &[ContainerPort]) -> Result<(), String> {
    if let Some(exec) = &handler.exec {
        let answer = cri.exec_sync(container_id, exec.command.clone().unwrap_or_default(), Duration::ZERO).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.exit_code == 0 {
            return Ok(());
        }
        let output = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
        return Err(format!("command '{}' exited with {}: {output}", exec.command.clone().unwrap_or_default().join(" "), answer.exit_code));
    }
    if let Some(get) = &handler.http_get {
        let port = resolve_port(&get.port, ports)?;
        let target = http::Target {
            tls: get.scheme.as_deref().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")),
            host: get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.to_owned()),
            port,
            path: get.path.clone().unwrap_or_default(),
            headers: get.http_headers.clone().unwrap_or_default(),
            user_agent: "kube-lifecycle/1.36",
        };
        let answer = http::get(&target, HTTP_TIMEOUT).await.map_err(|error| error.to_string())?;
        if (200..400).contains(&answer.status) {
            return Ok(());
        }
        return Err(format!("HTTP hook answered with status code {}", answer.status));
    }
    if let Some(sleep) = &handler.sleep {
        tokio::time::sleep(Duration::from_secs(u64::try_from(sleep.seconds).unwrap_or(0))).await;
        return Ok(());
    }
    Err("invalid handler: it has neither exec, httpGet nor sleep".into())
}

/// A number, or the name of one of the container's ports.
pub fn resolve_port(port: &IntOrString, ports: &[ContainerPort]) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => i64::from(*number),
        IntOrString::String(name) => match ports.iter().find(|port| port.name.as_deref() == Some(name)) {
            Some(port) => i64::from(port.container_port),
            None => name.parse().map_err(|_| format!("couldn't find port: {name:?}"))?,
        },
    };
    u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let ports = [ContainerPort { name: Some("web".into()), container_port: 8080, ..ContainerPort::default() }];
        let check = |port: IntOrString, expected: Option<u16>| assert_eq!(resolve_port(&port, &ports).ok(), expected);
        check(IntOrString::Int(80), Some(80));
        check(IntOrString::String("web".into()), Some(8080));
        check(IntOrString::String("81".into()), Some(81));
        check(IntOrString::String("no".into()), None);
        check(IntOrString::Int(0), None);
        check(IntOrString::Int(70_000), None);
    }
}
