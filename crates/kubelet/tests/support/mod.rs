//! What the tests with a real runtime share.

pub mod api;
pub mod runtime;

use std::time::Duration;

use base::Tasks;
use kubelet::{Kubelet, Options};
use serde_json::{Value, json};

pub use api::FakeApi;
pub use runtime::{Containerd, IMAGE};

/// A node: a runtime, an API, and the kubelet between them.
pub struct Node {
    pub containerd: Containerd,
    pub api: FakeApi,
    pub tasks: Tasks,
}

impl Node {
    pub async fn start(name: &str) -> Self {
        let filter = std::env::var("OXIKUBE_LOG").is_ok();
        if filter {
            base::logging::init(0);
        }
        let containerd = Containerd::start(name);
        let api = FakeApi::new();
        api.put(
            "/api/v1/namespaces/default/services/kubernetes",
            json!({"apiVersion": "v1", "kind": "Service",
            "spec": {"clusterIP": "10.96.0.1", "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]}}),
        );
        let mut this = Self { containerd, api, tasks: Tasks::new() };
        this.start_kubelet().await;
        this
    }

    /// Starts a kubelet over what is there, as after a crash of the last one.
    pub async fn start_kubelet(&mut self) {
        self.tasks.stop();
        self.tasks = Tasks::new();
        let dir = &self.containerd.dir;
        std::fs::create_dir_all(dir.join("manifests")).unwrap();
        let config = dir.join("kubelet.yaml");
        let text = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\npodLogsDir: {0}/logs/pods\nstaticPodPath: {0}/manifests\n",
            dir.display()
        );
        std::fs::write(&config, text).unwrap();
        let options = Options {
            config: Some(config),
            hostname_override: Some("test".into()),
            root_dir: Some(dir.join("kubelet")),
            container_runtime_endpoint: Some(self.containerd.endpoint()),
            cgroup_root: Some(self.containerd.cgroup.clone()),
            node_ip: vec!["127.0.0.1".parse().unwrap()],
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: Some("cluster.local".into()),
            fail_swap_on: Some(false),
            // How full the machine is that runs the tests must not decide on them.
            eviction_hard: vec!["memory.available<0".into()],
            port: Some(0),
            healthz_port: Some(0),
            ..Options::default()
        };
        let kubelet = Kubelet::new(options, self.api.client(), self.tasks.clone()).await.expect("the kubelet starts");
        let tasks = self.tasks.clone();
        tasks.spawn("kubelet", kubelet.run());
    }

    pub fn pod_path(name: &str) -> String {
        format!("/api/v1/namespaces/default/pods/{name}")
    }

    /// A pod bound to the node; containers without an image get busybox.
    pub fn create_pod(&self, name: &str, mut spec: Value) {
        spec["nodeName"] = json!("test");
        for list in ["containers", "initContainers"] {
            for container in spec[list].as_array_mut().into_iter().flatten() {
                if container["image"].is_null() {
                    container["image"] = json!(IMAGE);
                }
                if container["imagePullPolicy"].is_null() {
                    container["imagePullPolicy"] = json!("IfNotPresent");
                }
            }
        }
        self.api
            .put(&Self::pod_path(name), json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"app": name}}, "spec": spec}));
    }

    pub fn pod(&self, name: &str) -> Value {
        self.api.get(&Self::pod_path(name)).unwrap_or_default()
    }

    /// Waits until `test` holds of the pod's status and gives it back.
    pub async fn wait(&self, name: &str, what: &str, test: impl Fn(&Value) -> bool) -> Value {
        for _ in 0..3000 {
            let pod = self.pod(name);
            if test(&pod["status"]) {
                return pod["status"].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{name} does not become {what}: {:#}\nevents: {:#?}", self.pod(name)["status"], self.events());
    }

    pub async fn wait_ready(&self, name: &str) -> Value {
        self.wait(name, "ready", |status| condition(status, "Ready") == "True").await
    }

    pub async fn wait_gone(&self, name: &str) {
        self.wait(name, "gone", Value::is_null).await;
    }

    pub async fn until(&self, what: &str, test: impl Fn() -> bool) {
        for _ in 0..3000 {
            if test() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what} does not happen; events: {:#?}", self.events());
    }

    /// `reason: message` of every event.
    pub fn events(&self) -> Vec<String> {
        let text = |event: &Value| {
            let note = event["note"].as_str().or(event["message"].as_str()).unwrap_or_default();
            format!("{}: {note}", event["reason"].as_str().unwrap_or_default())
        };
        self.api.find("/events/").iter().map(text).collect()
    }

    pub fn log(&self, pod: &str, container: &str, attempt: u32) -> String {
        let uid = self.pod(pod)["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let path = self.containerd.dir.join(format!("logs/pods/default_{pod}_{uid}/{container}/{attempt}.log"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The kubelet ends before the runtime, which is dropped after this: it would make again what that removes.
        self.tasks.stop();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.tasks.join());
        if tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(ended)).is_err() {
            eprintln!("the kubelet's tasks do not end");
        }
    }
}

pub fn condition<'a>(status: &'a Value, type_: &str) -> &'a str {
    let list = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().find(|condition| condition["type"] == type_).and_then(|condition| condition["status"].as_str()).unwrap_or_default()
}
