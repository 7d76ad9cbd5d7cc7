//! Servers for tests: Debian's etcd as a process, ours in this process; both on free ports and in folders that go with them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test may panic")]

pub mod proxy;

pub mod cluster;
pub mod load;

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use etcd::{EtcdKv, Options, Server};
use store::Kv;
use tempfile::TempDir;

/// Two ports that were free a moment ago.
pub fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// A real etcd. Killed when dropped.
pub struct RealEtcd {
    process: Child,
    pub endpoint: String,
    pub dir: TempDir,
}

impl RealEtcd {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub async fn start_with(flags: &[&str]) -> Self {
        // In memory where there is such a folder: nobody measures it, and it syncs after each request.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        Self::start_in(dir, flags).await
    }

    /// On the data that is in `data` of the folder; what they say of peers counts no more.
    pub async fn start_in(dir: TempDir, flags: &[&str]) -> Self {
        let [client, peer] = free_ports();
        let endpoint = format!("http://127.0.0.1:{client}");
        let peer = format!("http://127.0.0.1:{peer}");
        let process = Command::new("etcd")
            .args(["--data-dir", dir.path().join("data").to_str().unwrap(), "--log-level", "error", "--logger", "zap"])
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer, "--initial-cluster", &format!("default={peer}")])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd must be installed: apt-get install etcd-server");
        let etcd = Self { process, endpoint, dir };
        wait_ready(&etcd.endpoint).await;
        etcd
    }

    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Our server in this process.
pub struct OurEtcd {
    pub endpoint: String,
    pub tasks: base::Tasks,
    running: Option<tokio::task::JoinHandle<Result<(), etcd::Error>>>,
    pub dir: TempDir,
}

impl OurEtcd {
    pub async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub async fn start_with(options: Options) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), Options { listen_client_urls: "http://127.0.0.1:0".into(), ..options }).await
    }

    pub async fn start_in(dir: TempDir, options: Options) -> Self {
        let tasks = base::Tasks::new();
        // Nobody comes there: no port, which another server of the tests might have had. The ids are made from the advertised URL.
        let listen_peer_urls = format!("unix://{}", dir.path().join("peers").display());
        let options = Options { data_dir: Some(dir.path().join("data")), listen_peer_urls, ..options };
        let server = Server::init(options, &tasks).await.unwrap();
        let endpoint = server.client_urls().remove(0);
        let running = tokio::spawn(server.run(tasks.clone()));
        Self { endpoint, tasks, running: Some(running), dir }
    }

    /// Ends it and gives its folder back.
    pub async fn stop(mut self) -> TempDir {
        self.tasks.stop();
        self.running.take().unwrap().await.unwrap().unwrap();
        self.dir
    }
}

pub fn client(endpoint: &str) -> EtcdKv {
    EtcdKv::connect(&[endpoint.to_owned()], None, &base::Tasks::new()).unwrap()
}

pub async fn wait_ready(endpoint: &str) {
    let kv = client(endpoint);
    let mut last = None;
    // Each try waits by itself for an endpoint that takes connections.
    for _ in 0..6 {
        match kv.status().await {
            // It asks who we are: it serves.
            Ok(_) | Err(store::KvError::Auth(_)) => return,
            Err(error) => last = Some(error),
        }
    }
    panic!("{endpoint} does not get ready: {last:?}");
}

/// Runs a program; its output, or a panic with what it said.
pub async fn run(program: &str, args: &[&str], environment: &[(&str, &str)], dir: Option<&Path>) -> String {
    let output = try_run(program, args, environment, dir).await;
    assert!(output.0, "{program} {args:?}: {}", output.1);
    output.1
}

/// Whether the program succeeded, and what it said on both outputs.
pub async fn try_run(program: &str, args: &[&str], environment: &[(&str, &str)], dir: Option<&Path>) -> (bool, String) {
    let mut command = tokio::process::Command::new(program);
    command.args(args).envs(environment.iter().copied()).kill_on_drop(true);
    if let Some(dir) = dir {
        command.current_dir(dir);
    }
    let output = command.output().await.unwrap_or_else(|error| panic!("{program} must be installed: {error}"));
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}
