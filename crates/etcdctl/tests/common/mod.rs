//! Servers for tests: Debian's etcd as a process, ours in this process; on given ports and in folders that go with them.
#![allow(dead_code, clippy::unwrap_used, reason = "each test uses a part; a test may panic")]

use std::net::TcpListener;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

pub enum Kind {
    Real,
    Ours,
}

/// A server, gone when dropped.
pub enum Server {
    Real { _process: Child, _dir: TempDir },
    Ours { tasks: base::Tasks, running: tokio::task::JoinHandle<Result<(), etcd::Error>>, _dir: TempDir },
}

pub struct Addresses {
    pub client: String,
    pub peer: String,
}

impl Addresses {
    pub fn free() -> Self {
        let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [client, peer] = listeners.map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        Self { client, peer }
    }

    pub async fn start(&self, kind: &Kind) -> Server {
        // In memory where there is such a folder: real etcd syncs after each request.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let cluster = format!("default={}", self.peer);
        let data = dir.path().join("data");
        match kind {
            Kind::Real => {
                let process = Command::new("etcd")
                    .args(["--data-dir", data.to_str().unwrap(), "--log-level", "error", "--logger", "zap"])
                    .args(["--listen-client-urls", &self.client, "--advertise-client-urls", &self.client])
                    .args(["--listen-peer-urls", &self.peer, "--initial-advertise-peer-urls", &self.peer, "--initial-cluster", &cluster])
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()
                    .expect("etcd must be installed: apt-get install etcd-server");
                Server::Real { _process: process, _dir: dir }
            }
            Kind::Ours => {
                let options = etcd::Options {
                    data_dir: Some(data),
                    listen_client_urls: self.client.clone(),
                    advertise_client_urls: self.client.clone(),
                    listen_peer_urls: self.peer.clone(),
                    initial_advertise_peer_urls: self.peer.clone(),
                    initial_cluster: Some(cluster),
                    ..etcd::Options::default()
                };
                let tasks = base::Tasks::new();
                let server = etcd::Server::init(options, &tasks).await.unwrap();
                let running = tokio::spawn(server.run(tasks.clone()));
                Server::Ours { tasks, running, _dir: dir }
            }
        }
    }
}

impl Server {
    pub async fn stop(self) {
        match self {
            Self::Real { _process: mut process, .. } => process.kill().await.unwrap(),
            Self::Ours { tasks, running, .. } => {
                tasks.stop();
                running.await.unwrap().unwrap();
            }
        }
    }
}
