//! Which path is answered by what.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;

use api::core::v1::Pod;
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use tokio::sync::mpsc;

use super::answers::{self, Body, text};
use super::logs::{self, LogOptions};
use super::{metrics, stats, streaming};
use crate::context::Context;
use crate::pod::worker::Shared;
use crate::pod::{find_container, name, sandbox_config};
use crate::pods::Workers;
use crate::runtime::{ContainerRecord, RuntimePod, State};

pub struct Routes {
    context: Arc<Context>,
    workers: Workers,
    stats: stats::Stats,
}

type Query = Vec<(String, String)>;

fn parse_query(text: &str) -> Query {
    let decode = |part: &str| {
        let spaced = part.replace('+', " ");
        percent_decode(&spaced)
    };
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(k, v)| (decode(k), decode(v)))
        .collect()
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Routes {
    pub fn new(context: Arc<Context>, workers: Workers) -> Self {
        let stats = stats::Stats::new(context.clone(), workers.clone());
        Self { context, workers, stats }
    }

    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.context.tasks.spawn("connection", task);
    }

    pub async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let parts: Vec<String> = path.split('/').filter(|part| !part.is_empty()).map(percent_decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let query = parse_query(request.uri().query().unwrap_or_default());
        let get = request.method() == Method::GET;
        if !self.context.settings.debugging_handlers && !matches!(parts.first(), Some(&("healthz" | "metrics" | "stats" | "pods"))) {
            return text(StatusCode::METHOD_NOT_ALLOWED, "Debug endpoints are disabled.");
        }
        match parts.as_slice() {
            ["healthz", ..] if get => self.healthz(),
            ["pods"] if get => self.pods(false),
            ["runningpods"] if get => self.pods(true),
            ["configz"] if get => answers::json(&json!({"kubeletconfig": self.context.settings.effective})),
            ["stats", "summary"] if get => self.summary().await,
            ["metrics", which @ ..] if get => self.metrics(which).await,
            ["logs", rest @ ..] if get => host_log(&rest.join("/")).await,
            ["containerLogs", namespace, pod, container] if get => self.container_log(namespace, pod, container, &query),
            ["exec" | "attach", namespace, pod, container] | ["exec" | "attach", namespace, pod, _, container] => {
                let (namespace, pod, container, attach) = (*namespace, *pod, *container, parts[0] == "attach");
                let Some((_, id)) = self.running(namespace, pod, container) else { return container_not_found(container) };
                match attach {
                    true => streaming::attach(&self.context.cri, &id, &query, request).await,
                    false => streaming::exec(&self.context.cri, &id, &query, request).await,
                }
            }
            ["portForward", namespace, pod] | ["portForward", namespace, pod, _] => {
                let sandbox =
                    self.workers.by_name(namespace, pod).and_then(|shared| shared.runtime().ready_sandbox().map(|s| s.id.clone()));
                match sandbox {
                    Some(sandbox) => streaming::port_forward(&self.context.cri, &sandbox, &query, request).await,
                    None => text(StatusCode::NOT_FOUND, "pod does not exist"),
                }
            }
            ["run", namespace, pod, container] | ["run", namespace, pod, _, container] if request.method() == Method::POST => {
                self.run(namespace, pod, container, query, request).await
            }
            _ => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        }
    }

    pub fn healthz(&self) -> Response<Body> {
        match self.context.pleg.healthy() {
            Ok(()) => text(StatusCode::OK, "ok"),
            Err(cause) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("[-]pleg failed: {cause}\nhealthz check failed\n")),
        }
    }

    /// A PodList; of `running` ones only what the runtime holds.
    fn pods(&self, running: bool) -> Response<Body> {
        let shared = self.workers.all();
        let wanted = shared.iter().filter(|shared| !running || shared.runtime().has_running());
        let shown = wanted.map(|shared| {
            let mut pod = Pod::clone(&shared.pod());
            if let Some(status) = self.context.statuses.get(crate::pod::uid(&pod)) {
                pod.status = Some(status);
            }
            pod
        });
        answers::json(&json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": shown.collect::<Vec<_>>()}))
    }

    async fn summary(&self) -> Response<Body> {
        match self.stats.summary().await {
            Ok(summary) => answers::json(&summary),
            Err(cause) => text(StatusCode::INTERNAL_SERVER_ERROR, &cause),
        }
    }

    async fn metrics(&self, which: &[&str]) -> Response<Body> {
        let body = match which {
            [] => Ok(metrics::own(&self.context, &self.workers)),
            ["resource"] => self.stats.summary().await.map(|summary| metrics::resource(&summary)),
            ["cadvisor"] => self.stats.summary().await.map(|summary| metrics::cadvisor(&summary)),
            ["probes"] => Ok(metrics::probes(&self.context)),
            _ => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
        };
        match body {
            Ok(body) => answers::metrics(body),
            Err(cause) => text(StatusCode::INTERNAL_SERVER_ERROR, &cause),
        }
    }

    fn running(&self, namespace: &str, pod: &str, container: &str) -> Option<(Arc<Shared>, String)> {
        let shared = self.workers.by_name(namespace, pod)?;
        let id = shared.runtime().container(container).filter(|record| record.is_running())?.id.clone();
        Some((shared, id))
    }

    fn container_log(&self, namespace: &str, pod_name: &str, container: &str, query: &Query) -> Response<Body> {
        let options = match LogOptions::parse(query, base::clock::now()) {
            Ok(options) => options,
            Err(cause) => return text(StatusCode::UNPROCESSABLE_ENTITY, &cause),
        };
        let Some(shared) = self.workers.by_name(namespace, pod_name) else {
            return text(StatusCode::NOT_FOUND, &format!("pod {pod_name:?} does not exist\n"));
        };
        let pod = shared.pod();
        if find_container(&pod, container).is_none() {
            return text(StatusCode::NOT_FOUND, &format!("container {container:?} not found in pod {pod_name:?}\n"));
        }
        let runtime = shared.runtime();
        let record = match self.log_record(&pod, &runtime, container, options.previous) {
            Ok(record) => record,
            Err(cause) => return text(StatusCode::BAD_REQUEST, &cause),
        };
        let path = match record.log_path.is_empty() {
            false => record.log_path.clone().into(),
            true => sandbox_config::log_directory(&self.context.settings.pod_logs_dir, &pod)
                .join(format!("{container}/{}.log", record.restart_count)),
        };
        let id = record.id.clone();
        let (send, receive) = mpsc::channel(16);
        self.spawn(async move {
            let is_running = || shared.runtime().containers.iter().any(|record| record.id == id && record.is_running());
            if let Err(error) = logs::send(path, options, is_running, send).await {
                tracing::warn!(%error, "a container's log cannot be read");
            }
        });
        answers::stream(receive)
    }

    /// The start whose log is asked for (validateContainerLogStatus in pkg/kubelet/kubelet_pods.go).
    fn log_record(&self, pod: &Pod, runtime: &RuntimePod, container: &str, previous: bool) -> Result<ContainerRecord, String> {
        let status = self.context.statuses.get(crate::pod::uid(pod)).unwrap_or_default();
        let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
        let shown = lists.into_iter().flat_map(|list| list.iter().flatten()).find(|status| status.name == container);
        let waiting = shown.and_then(|status| status.state.as_ref()?.waiting.as_ref()?.reason.clone());
        let pod_name = name(pod);
        let newest = runtime.container(container);
        let Some(newest) = newest else {
            return Err(match waiting.as_deref() {
                _ if previous => format!("previous terminated container {container:?} in pod {pod_name:?} not found"),
                Some("ErrImagePull" | "ImagePullBackOff") => {
                    format!("container {container:?} in pod {pod_name:?} is waiting to start: trying and failing to pull image")
                }
                Some(reason) => format!("container {container:?} in pod {pod_name:?} is waiting to start: {reason}"),
                None => format!("container {container:?} in pod {pod_name:?} is not available"),
            });
        };
        if !previous {
            return Ok(newest.clone());
        }
        // One that is waiting for its restart is itself the previous one.
        let except = if newest.state == State::Exited && waiting.is_some() { "" } else { newest.id.as_str() };
        let last = runtime.last_exited(container, except);
        last.cloned().ok_or_else(|| format!("previous terminated container {container:?} in pod {pod_name:?} not found"))
    }

    async fn run(&self, namespace: &str, pod: &str, container: &str, query: Query, request: Request<Incoming>) -> Response<Body> {
        let Some((_, id)) = self.running(namespace, pod, container) else { return container_not_found(container) };
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let form = parse_query(&String::from_utf8_lossy(&body));
        let command = query.iter().chain(&form).filter(|(key, _)| key == "cmd").flat_map(|(_, value)| value.split(' ').map(str::to_owned));
        match self.context.cri.exec_sync(&id, command.collect(), std::time::Duration::ZERO).await {
            Ok(answer) => {
                let output = [answer.stdout, answer.stderr].concat();
                let status = if answer.exit_code == 0 { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
                text(status, &String::from_utf8_lossy(&output))
            }
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }
}

fn container_not_found(container: &str) -> Response<Body> {
    text(StatusCode::NOT_FOUND, &format!("container not found ({container:?})"))
}

/// A file or folder below /var/log.
async fn host_log(relative: &str) -> Response<Body> {
    use std::os::fd::AsRawFd;
    let opened = match host::mounts::open_beneath(Path::new("/var/log"), Path::new(relative)) {
        Ok(opened) => opened,
        Err(_) => return text(StatusCode::NOT_FOUND, "404 page not found\n"),
    };
    // The descriptor only names the file; opening its link under /proc opens the file itself.
    let link = format!("/proc/self/fd/{}", opened.as_raw_fd());
    if std::fs::metadata(&link).is_ok_and(|meta| meta.is_dir()) {
        let entries = std::fs::read_dir(&link).map(|entries| entries.filter_map(Result::ok).collect::<Vec<_>>()).unwrap_or_default();
        let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        return text(StatusCode::OK, &(names.join("\n") + "\n"));
    }
    match tokio::fs::File::open(&link).await {
        Ok(file) => {
            let (send, receive) = mpsc::channel(16);
            tokio::spawn(async move {
                if let Err(error) = logs::whole(file, send).await {
                    tracing::debug!(%error, "a host log cannot be read");
                }
            });
            answers::stream(receive)
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        let got = parse_query("command=a+b&command=c%26d&tty=1&x&bad=%zz%");
        let expected = [("command", "a b"), ("command", "c&d"), ("tty", "1"), ("x", ""), ("bad", "%zz%")];
        assert_eq!(got, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
