//! The files of a cluster as kubeadm lays them out: `pki/` with CAs, certificates and the service-account key, and kubeconfig files beside it.
//! Never overwrites a CA, nor a certificate whose CA key is not there (an external CA).
//! Upstream: cmd/kubeadm/app/phases/certs/certlist.go, cmd/kubeadm/app/phases/kubeconfig/kubeconfig.go.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::certificate::Certificate;
use crate::{Authority, Error, Kubeconfig, Leaf, PrivateKey, Result, files};

/// Leaf certificates are renewed when they have no more than this left.
pub const RENEW_DAYS: i64 = 30;

/// What the names in the certificates come from.
#[derive(Clone, Debug)]
pub struct ClusterNames {
    /// In kubeconfig files: `kubernetes`.
    pub cluster: String,
    /// `https://HOST:6443`: where kubeconfig files point.
    pub server: String,
    pub node_name: String,
    /// `cluster.local`
    pub dns_domain: String,
    /// The first address of the service range.
    pub service_ip: IpAddr,
    /// Addresses of the API server.
    pub addresses: Vec<IpAddr>,
    /// More names of the API server, such as a load balancer's.
    pub extra_names: Vec<String>,
}

/// Where everything is.
#[derive(Clone, Debug)]
pub struct Paths {
    pub root: PathBuf,
}

impl Paths {
    /// A file below `pki/`: `pki("ca.crt")`.
    pub fn pki(&self, name: &str) -> PathBuf {
        self.root.join("pki").join(name)
    }

    /// A kubeconfig: `conf("admin")`, `conf("super-admin")`, `conf("controller-manager")`, `conf("scheduler")`, `conf("kubelet")`,
    /// `conf("kube-proxy")`.
    pub fn conf(&self, name: &str) -> PathBuf {
        self.root.join(format!("{name}.conf"))
    }
}

/// What `ensure` found and made.
#[derive(Debug)]
pub struct Layout {
    pub paths: Paths,
    /// `None` when only the certificate is there (an external CA).
    pub ca: Option<Authority>,
    pub ca_pem: String,
    /// Files that were made or renewed this time.
    pub written: Vec<PathBuf>,
}

/// Makes what is missing below `root` (`/etc/kubernetes`), renews leaf certificates that expire soon or lack a name, keeps the rest.
pub fn ensure(root: &Path, names: &ClusterNames, now: jiff::Timestamp) -> Result<Layout> {
    let mut work = Work { paths: Paths { root: root.to_owned() }, now, written: Vec::new() };
    let (ca_pem, ca) = work.authority("ca", "kubernetes")?;
    let (front_pem, front) = work.authority("front-proxy-ca", "front-proxy-ca")?;
    let admins = Some("kubeadm:cluster-admins");
    work.leaf("apiserver", &apiserver_leaf(names), &ca_pem, ca.as_ref())?;
    work.leaf("apiserver-kubelet-client", &Leaf::client("kube-apiserver-kubelet-client", admins), &ca_pem, ca.as_ref())?;
    work.leaf("front-proxy-client", &Leaf::client("front-proxy-client", None), &front_pem, front.as_ref())?;
    work.service_account_key()?;
    let node = format!("system:node:{}", names.node_name);
    let node_user = node.clone();
    let configs = [
        ("admin", "kubernetes-admin", Leaf::client("kubernetes-admin", admins)),
        ("super-admin", "kubernetes-super-admin", Leaf::client("kubernetes-super-admin", Some("system:masters"))),
        ("controller-manager", "system:kube-controller-manager", Leaf::client("system:kube-controller-manager", None)),
        ("scheduler", "system:kube-scheduler", Leaf::client("system:kube-scheduler", None)),
        ("kube-proxy", "system:kube-proxy", Leaf::client("system:kube-proxy", None)),
        ("kubelet", node_user.as_str(), Leaf::client(node, Some("system:nodes"))),
    ];
    for (file, user, leaf) in &configs {
        work.kubeconfig(file, user, leaf, names, &ca_pem, ca.as_ref())?;
    }
    Ok(Layout { paths: work.paths, ca, ca_pem, written: work.written })
}

/// Makes or renews `STEM.crt` and `STEM.key`; returns whether they were written. For certificates outside the layout, such as a kubelet's.
pub fn ensure_leaf(stem: &Path, leaf: &Leaf, authority: &Authority, now: jiff::Timestamp) -> Result<bool> {
    let (certificate, key) = (with_extension(stem, "crt"), with_extension(stem, "key"));
    if let (Some(pem), Some(key_pem)) = (files::read(&certificate)?, files::read(&key)?) {
        let current = Certificate::from_pem(&pem).map_err(|e| e.in_file(&certificate))?;
        let own = PrivateKey::from_pem(&key_pem).map_err(|e| e.in_file(&key))?;
        if own.public_der() == current.public_der && is_good(&current, leaf, &authority.certificate, now)? {
            return Ok(false);
        }
    }
    let (pem, private) = authority.issue(leaf, now)?;
    files::write(&key, private.to_pem().as_bytes(), files::KEY_MODE)?;
    files::write(&certificate, pem.as_bytes(), files::CERTIFICATE_MODE)?;
    Ok(true)
}

/// The serving certificate of a kubelet, with the names that its clients use.
pub fn kubelet_leaf(node_name: &str, addresses: &[IpAddr]) -> Leaf {
    Leaf {
        organization: Some("system:nodes".into()),
        ..Leaf::server(format!("system:node:{node_name}"), vec![node_name.to_owned()], addresses.to_vec())
    }
}

fn apiserver_leaf(names: &ClusterNames) -> Leaf {
    let mut dns_names: Vec<String> = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned).to_vec();
    dns_names.push(format!("kubernetes.default.svc.{}", names.dns_domain));
    dns_names.push(names.node_name.clone());
    dns_names.push("localhost".into());
    let mut addresses = vec![names.service_ip, IpAddr::from([127, 0, 0, 1])];
    addresses.extend(&names.addresses);
    for name in &names.extra_names {
        match name.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => dns_names.push(name.clone()),
        }
    }
    addresses.sort();
    addresses.dedup();
    dns_names.sort();
    dns_names.dedup();
    Leaf::server("kube-apiserver", dns_names, addresses)
}

/// Whether a certificate can stay. One that is not valid yet is an error, not a reason to make another: the clock is wrong.
fn is_good(current: &Certificate, wanted: &Leaf, authority: &Certificate, now: jiff::Timestamp) -> Result<bool> {
    if now < current.not_before {
        current.check_time(now)?;
    }
    Ok(!current.expires_within(RENEW_DAYS, now)
        && current.issuer == authority.subject
        && current.common_name == wanted.common_name
        && current.covers(&wanted.dns_names, &wanted.ip_addresses)
        && crate::verify::is_signed_by(current, authority))
}

fn with_extension(stem: &Path, extension: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(".");
    name.push(extension);
    PathBuf::from(name)
}

struct Work {
    paths: Paths,
    now: jiff::Timestamp,
    written: Vec<PathBuf>,
}

impl Work {
    fn authority(&mut self, name: &str, common_name: &str) -> Result<(String, Option<Authority>)> {
        let (crt, key) = (self.paths.pki(&format!("{name}.crt")), self.paths.pki(&format!("{name}.key")));
        match (files::read(&crt)?, files::read(&key)?) {
            (Some(pem), Some(key_pem)) => {
                let authority = Authority::load(&pem, &key_pem).map_err(|e| e.in_file(&crt))?;
                authority.certificate.check_time(self.now).map_err(|e| e.in_file(&crt))?;
                Ok((pem, Some(authority)))
            }
            (Some(pem), None) => {
                Certificate::from_pem(&pem).and_then(|c| c.check_time(self.now)).map_err(|e| e.in_file(&crt))?;
                Ok((pem, None))
            }
            (None, Some(_)) => {
                Err(Error::Certificate("its key is there and it is not: restore it, or remove the key".into()).in_file(&crt))
            }
            (None, None) => {
                let authority = Authority::create(common_name, self.now)?;
                self.write(&key, &authority.key.to_pem(), files::KEY_MODE)?;
                self.write(&crt, &authority.certificate_pem, files::CERTIFICATE_MODE)?;
                Ok((authority.certificate_pem.clone(), Some(authority)))
            }
        }
    }

    fn write(&mut self, path: &Path, content: &str, mode: u32) -> Result<()> {
        files::write(path, content.as_bytes(), mode)?;
        self.written.push(path.to_owned());
        Ok(())
    }

    fn leaf(&mut self, name: &str, leaf: &Leaf, ca_pem: &str, authority: Option<&Authority>) -> Result<()> {
        let stem = self.paths.pki(name);
        let Some(authority) = authority else {
            let crt = with_extension(&stem, "crt");
            let ca = Certificate::from_pem(ca_pem)?;
            let pem = files::read(&crt)?.ok_or_else(|| Error::CaKeyMissing(ca.common_name.clone()).in_file(&crt))?;
            return Certificate::from_pem(&pem).and_then(|c| c.check_time(self.now)).map_err(|e| e.in_file(&crt));
        };
        if ensure_leaf(&stem, leaf, authority, self.now)? {
            self.written.extend([with_extension(&stem, "key"), with_extension(&stem, "crt")]);
        }
        Ok(())
    }

    fn service_account_key(&mut self) -> Result<()> {
        let (private, public) = (self.paths.pki("sa.key"), self.paths.pki("sa.pub"));
        let key = match files::read(&private)? {
            Some(pem) => PrivateKey::from_pem(&pem).map_err(|e| e.in_file(&private))?,
            None => {
                let key = PrivateKey::generate()?;
                self.write(&private, &key.to_pem(), files::KEY_MODE)?;
                key
            }
        };
        if files::read(&public)?.is_none() {
            self.write(&public, &key.public_pem(), files::CERTIFICATE_MODE)?;
        }
        Ok(())
    }

    fn kubeconfig(
        &mut self,
        file: &str,
        user: &str,
        leaf: &Leaf,
        names: &ClusterNames,
        ca_pem: &str,
        ca: Option<&Authority>,
    ) -> Result<()> {
        let path = self.paths.conf(file);
        let current = Kubeconfig::read(&path)?;
        let Some(ca) = ca else {
            return if current.is_some() { Ok(()) } else { Err(Error::CaKeyMissing("kubernetes".into()).in_file(&path)) };
        };
        if let Some(current) = &current {
            let parts = current.current().ok_or_else(|| Error::Kubeconfig("its current context names nothing".into()).in_file(&path))?;
            let certificate = parts.1.certificate_pem().and_then(|pem| Certificate::from_pem(&pem).ok());
            let same = parts.0.server == names.server && parts.0.ca_pem().as_deref() == Some(ca_pem);
            if let Some(certificate) = certificate
                && same
                && is_good(&certificate, leaf, &ca.certificate, self.now).map_err(|e| e.in_file(&path))?
            {
                return Ok(());
            }
        }
        let (pem, key) = ca.issue(leaf, self.now)?;
        let config = Kubeconfig::with_certificate(&names.cluster, &names.server, ca_pem, user, &pem, &key.to_pem());
        config.write(&path)?;
        self.written.push(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> ClusterNames {
        ClusterNames {
            cluster: "kubernetes".into(),
            server: "https://10.0.0.5:6443".into(),
            node_name: "n1".into(),
            dns_domain: "cluster.local".into(),
            service_ip: "10.96.0.1".parse().unwrap(),
            addresses: vec!["10.0.0.5".parse().unwrap()],
            extra_names: vec!["api.example.org".into()],
        }
    }

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn makes_everything_once() {
        let dir = tempfile::tempdir().unwrap();
        let made = ensure(dir.path(), &names(), at("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(made.written.len(), 18, "{:?}", made.written);
        assert!(ensure(dir.path(), &names(), at("2026-06-01T00:00:00Z")).unwrap().written.is_empty());
        let apiserver = Certificate::from_pem(&files::read_required(&made.paths.pki("apiserver.crt")).unwrap()).unwrap();
        assert!(apiserver.covers(&["kubernetes.default.svc.cluster.local".into()], &["10.96.0.1".parse().unwrap()]));
        let config = Kubeconfig::read(&made.paths.conf("kubelet")).unwrap().unwrap();
        let user = Certificate::from_pem(&config.current().unwrap().1.certificate_pem().unwrap()).unwrap();
        assert_eq!((user.common_name.as_str(), user.organizations[0].as_str()), ("system:node:n1", "system:nodes"));
    }

    #[test]
    fn renews_leaves_and_keeps_the_ca() {
        let dir = tempfile::tempdir().unwrap();
        let first = ensure(dir.path(), &names(), at("2026-01-01T00:00:00Z")).unwrap();
        let late = ensure(dir.path(), &names(), at("2026-12-15T00:00:00Z")).unwrap();
        assert_eq!(late.written.len(), 12, "{:?}", late.written);
        assert_eq!(first.ca_pem, late.ca_pem);
        let moved = ClusterNames { addresses: vec!["10.0.0.6".parse().unwrap()], ..names() };
        let again = ensure(dir.path(), &moved, at("2026-12-15T00:00:00Z")).unwrap();
        assert_eq!(again.written.len(), 2, "{:?}", again.written);
    }

    #[test]
    fn a_clock_that_is_far_off_is_named() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path(), &names(), at("2026-01-01T00:00:00Z")).unwrap();
        let text = ensure(dir.path(), &names(), at("1970-02-01T00:00:00Z")).unwrap_err().to_string();
        assert!(text.contains("ca.crt") && text.contains("1970-02-01") && text.contains("2025-12-31"), "{text}");
    }

    #[test]
    fn an_external_ca_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let now = at("2026-01-01T00:00:00Z");
        let made = ensure(dir.path(), &names(), now).unwrap();
        std::fs::remove_file(made.paths.pki("ca.key")).unwrap();
        assert!(ensure(dir.path(), &names(), now).unwrap().ca.is_none());
        std::fs::remove_file(made.paths.pki("apiserver.crt")).unwrap();
        assert!(ensure(dir.path(), &names(), now).unwrap_err().to_string().contains("apiserver.crt"));
    }
}
