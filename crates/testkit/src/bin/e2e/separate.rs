//! The components as separate processes with upstream's names and flags over mutual TLS, and point 1 on them: once on each kind of store.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use testkit::host::output;
use testkit::{Cluster, wait};

use crate::manifests;
use crate::stores::Store;

/// Ends its processes when dropped.
pub struct Processes(Vec<(String, Child)>);

impl Drop for Processes {
    fn drop(&mut self) {
        for (name, child) in &mut self.0 {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(|_| ())) {
                eprintln!("{name} cannot be ended: {error}");
            }
        }
    }
}

impl Processes {
    /// Starts `oxikube NAME FLAGS`, its log in the host's folder.
    pub fn start(&mut self, cluster: &Cluster, name: &str, flags: &[String]) -> Result<()> {
        let mut command: Command = cluster.oxikube(name);
        command.args(flags);
        self.run(name, cluster, command)
    }

    /// Starts a program, its log in the host's folder.
    pub fn run(&mut self, name: &str, cluster: &Cluster, mut command: Command) -> Result<()> {
        let log = std::fs::File::create(cluster.host.path(&format!("{name}.log"))).context("a log file")?;
        let child = command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).spawn()?;
        self.0.push((name.to_owned(), child));
        Ok(())
    }

    /// An error with the log of a process that has ended.
    fn check(&mut self, cluster: &Cluster) -> Result<()> {
        for (name, child) in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                let log = std::fs::read_to_string(cluster.host.path(&format!("{name}.log"))).unwrap_or_default();
                bail!("{name} ended ({status}):\n{log}");
            }
        }
        Ok(())
    }
}

pub fn embedded(binary: &Path) -> Result<()> {
    run(binary, Store::Embedded)
}

pub fn on_our_etcd(binary: &Path) -> Result<()> {
    run(binary, Store::Ours)
}

pub fn on_debians_etcd(binary: &Path) -> Result<()> {
    run(binary, Store::Debians)
}

/// `up` makes the certificates and the runtime; then its process ends and separate ones take over, on a store of their own.
fn run(binary: &Path, store: Store) -> Result<()> {
    let cluster = Cluster::up(binary, "parts", 2, &[])?;
    let runtime = format!("unix://{}", cluster.host.path("run").join("containerd.sock").display());
    output(cluster.host.command("kill").args(["-TERM", &cluster.pid()?.to_string()]))?;
    let pid = cluster.pid().unwrap_or(0);
    wait::until(Duration::from_secs(15), "the all-in-one process ends", || {
        if pid > 0 && Path::new(&format!("/proc/{pid}")).exists() { bail!("it runs") } else { Ok(()) }
    })?;
    let mut processes = Processes(Vec::new());
    let result = start(&cluster, &runtime, store, &mut processes).and_then(|()| hello(&cluster, store, &mut processes));
    if result.is_err() {
        processes.check(&cluster)?;
    }
    drop(processes);
    let downed = cluster.down();
    result?;
    downed.map(|_| ())
}

fn start(cluster: &Cluster, runtime: &str, store: Store, processes: &mut Processes) -> Result<()> {
    let config = cluster.host.path("config");
    let pki = |name: &str| config.join("pki").join(name).display().to_string();
    let conf = |name: &str| config.join(format!("{name}.conf")).display().to_string();
    let flags = |list: &[(&str, &str)]| list.iter().map(|(name, value)| format!("--{name}={value}")).collect::<Vec<String>>();
    let store = store.start(cluster, processes)?;
    let store: Vec<(&str, &str)> = store.iter().map(|(name, value)| (*name, value.as_str())).collect();
    processes.start(
        cluster,
        "kube-apiserver",
        &flags(
            &[
                &store[..],
                &[
                    ("secure-port", "6443"),
                    ("advertise-address", cluster.host.address()),
                    ("tls-cert-file", &pki("apiserver.crt")),
                    ("tls-private-key-file", &pki("apiserver.key")),
                    ("client-ca-file", &pki("ca.crt")),
                    ("service-account-key-file", &pki("sa.pub")),
                    ("service-account-signing-key-file", &pki("sa.key")),
                    ("service-account-issuer", "https://kubernetes.default.svc.cluster.local"),
                    ("service-cluster-ip-range", "10.96.0.0/12"),
                    ("authorization-mode", "Node,RBAC"),
                    ("enable-admission-plugins", "NodeRestriction"),
                    ("kubelet-client-certificate", &pki("apiserver-kubelet-client.crt")),
                    ("kubelet-client-key", &pki("apiserver-kubelet-client.key")),
                    ("kubelet-certificate-authority", &pki("ca.crt")),
                    ("kubelet-preferred-address-types", "InternalIP,Hostname"),
                    ("allow-privileged", "true"),
                ],
            ]
            .concat(),
        ),
    )?;
    let super_admin = conf("super-admin");
    wait::until(Duration::from_secs(20), "the API server is ready", || {
        processes.check(cluster)?;
        output(cluster.host.command("kubectl").args(["--kubeconfig", &super_admin, "get", "--raw", "/readyz"])).map(|_| ())
    })?;
    // What kubeadm does once, with the super admin's rights.
    let binding =
        ["create", "clusterrolebinding", "kubeadm:cluster-admins", "--clusterrole=cluster-admin", "--group=kubeadm:cluster-admins"];
    output(cluster.host.command("kubectl").args(["--kubeconfig", &super_admin]).args(binding))?;
    let root = pki("ca.crt");
    processes.start(
        cluster,
        "kube-controller-manager",
        &flags(&[
            ("kubeconfig", &conf("controller-manager")),
            ("leader-elect", "true"),
            ("use-service-account-credentials", "true"),
            ("allocate-node-cidrs", "true"),
            ("cluster-cidr", "10.244.0.0/16"),
            ("service-cluster-ip-range", "10.96.0.0/12"),
            ("root-ca-file", &root),
            ("service-account-private-key-file", &pki("sa.key")),
        ]),
    )?;
    processes.start(cluster, "kube-scheduler", &flags(&[("kubeconfig", &conf("scheduler")), ("leader-elect", "true")]))?;
    processes.start(cluster, "kubelet", &kubelet_flags(cluster, runtime)?)?;
    let proxy = cluster.host.path("kube-proxy.yaml");
    std::fs::write(
        &proxy,
        format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\nmode: nftables\nhostnameOverride: node-1\nclusterCIDR: 10.244.0.0/16\nclientConnection:\n  kubeconfig: {}\n",
            conf("kube-proxy")
        ),
    )?;
    processes.start(cluster, "kube-proxy", &flags(&[("config", &proxy.display().to_string())]))
}

fn kubelet_flags(cluster: &Cluster, runtime: &str) -> Result<Vec<String>> {
    let config = cluster.host.path("config");
    let file = cluster.host.path("kubelet.yaml");
    let pki = config.join("pki").display().to_string();
    std::fs::write(
        &file,
        format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nfailSwapOn: false\nclusterDNS: [10.96.0.10]\nclusterDomain: cluster.local\n\
             tlsCertFile: {pki}/kubelet.crt\ntlsPrivateKeyFile: {pki}/kubelet.key\nauthentication:\n  anonymous: {{enabled: false}}\n  webhook: {{enabled: true}}\n  x509: {{clientCAFile: {pki}/ca.crt}}\n\
             authorization: {{mode: Webhook}}\ncontainerRuntimeEndpoint: {runtime}\n\
             evictionHard: {{memory.available: 100Mi}}\nimageGCHighThresholdPercent: 100\n"
        ),
    )?;
    Ok(vec![
        format!("--config={}", file.display()),
        format!("--kubeconfig={}", config.join("kubelet.conf").display()),
        "--hostname-override=node-1".into(),
        format!("--node-ip={}", cluster.host.address()),
        format!("--root-dir={}", cluster.host.path("data").join("kubelet").display()),
    ])
}

fn hello(cluster: &Cluster, store: Store, processes: &mut Processes) -> Result<()> {
    wait::until(Duration::from_secs(60), "the node is Ready", || {
        processes.check(cluster)?;
        let status = cluster.jsonpath(&["node", "node-1"], "{.status.conditions[?(@.type==\"Ready\")].status}")?;
        if status == "True" { Ok(()) } else { bail!("Ready is {status:?}") }
    })?;
    cluster.apply(manifests::HELLO)?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=90s"])?;
    let page = wait::until(Duration::from_secs(20), "the node port answers", || {
        output(cluster.host.command("curl").args(["-sS", "-m", "3", &format!("http://{}:30080/", cluster.host.address())]))
    })?;
    ensure!(page.starts_with("hello-"), "{page}");
    ensure!(cluster.kubectl(&["logs", "-l", "app=hello", "--tail=1"]).is_ok(), "logs by the kubelet's own port and certificate");
    ensure!(cluster.kubectl(&["exec", "deployment/hello", "--", "echo", "hi"])? == "hi\n", "exec too");
    store.check(cluster)?;
    cluster.kubectl_with(&["delete", "-f", "-"], manifests::HELLO)?;
    wait::until(Duration::from_secs(40), "the pods go", || {
        let left = cluster.kubectl(&["get", "pods", "-l", "app=hello", "-o", "name"])?;
        if left.is_empty() { Ok(()) } else { bail!("{left}") }
    })
}
