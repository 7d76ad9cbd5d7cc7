//! What the API server may stand on: its embedded store, `oxikube etcd` over TLS with client certificates, or the etcd of the distribution.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use testkit::Cluster;
use testkit::host::output;

use crate::separate::Processes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    Embedded,
    Ours,
    Debians,
}

impl Store {
    /// Starts the store's server, if it has one; the flags that lead the API server to it.
    pub fn start(self, cluster: &Cluster, processes: &mut Processes) -> Result<Vec<(&'static str, String)>> {
        let data = cluster.host.path("store-of-parts").display().to_string();
        match self {
            Self::Embedded => Ok(vec![("data-dir", data)]),
            Self::Debians => {
                let mut etcd = cluster.host.command("etcd");
                etcd.args(["--data-dir", &data, "--logger", "zap"]);
                processes.run("etcd", cluster, etcd)?;
                Ok(vec![("etcd-servers", "http://127.0.0.1:2379".into())])
            }
            Self::Ours => {
                let files = Certificates::write(&cluster.host.path("etcd-pki"))?;
                let url = "https://127.0.0.1:2379".to_owned();
                let flags = [
                    ("data-dir", &data),
                    ("listen-client-urls", &url),
                    ("advertise-client-urls", &url),
                    ("cert-file", &files.server.0),
                    ("key-file", &files.server.1),
                    ("trusted-ca-file", &files.authority),
                    ("client-cert-auth", &"true".to_owned()),
                ];
                processes.start(cluster, "etcd", &flags.map(|(name, value)| format!("--{name}={value}")))?;
                let Certificates { authority, client: (cert, key), .. } = files;
                Ok(vec![("etcd-servers", url), ("etcd-cafile", authority), ("etcd-certfile", cert), ("etcd-keyfile", key)])
            }
        }
    }

    /// What is stored can be seen where people look for it.
    pub fn check(self, cluster: &Cluster) -> Result<()> {
        let mut etcdctl = cluster.host.command("etcdctl");
        etcdctl.env("ETCDCTL_API", "3");
        match self {
            Self::Embedded => return Ok(()),
            Self::Debians => {}
            Self::Ours => {
                let folder = cluster.host.path("etcd-pki");
                etcdctl.args(["--endpoints", "https://127.0.0.1:2379"]);
                for (flag, file) in [("--cacert", "ca.crt"), ("--cert", "client.crt"), ("--key", "client.key")] {
                    etcdctl.arg(flag).arg(folder.join(file));
                }
            }
        }
        let keys = output(etcdctl.args(["get", "--keys-only", "--prefix", "/registry/deployments/"]))?;
        ensure!(keys.trim() == "/registry/deployments/default/hello", "{keys}");
        Ok(())
    }
}

/// Files of an authority, a server and a client.
struct Certificates {
    authority: String,
    server: (String, String),
    client: (String, String),
}

impl Certificates {
    fn write(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            Ok::<_, anyhow::Error>(path.display().to_string())
        };
        let now = base::clock::now();
        let authority = pki::Authority::create("etcd-ca", now)?;
        let pair = |name: &str, leaf: &pki::Leaf| {
            let (cert, key) = authority.issue(leaf, now)?;
            Ok::<_, anyhow::Error>((write(&format!("{name}.crt"), &cert)?, write(&format!("{name}.key"), &key.to_pem())?))
        };
        Ok(Self {
            authority: write("ca.crt", &authority.certificate_pem)?,
            server: pair("server", &pki::Leaf::server("etcd", vec!["localhost".into()], vec!["127.0.0.1".parse()?]))?,
            client: pair("client", &pki::Leaf::client("kube-apiserver-etcd-client", None))?,
        })
    }
}
