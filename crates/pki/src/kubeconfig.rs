//! kubeconfig files: reading, merging one cluster's entries into an existing file, writing with embedded certificates.
//! Keeps what it does not know.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result, files};

type Rest = BTreeMap<String, Value>;

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kubeconfig {
    #[serde(default = "v1", rename = "apiVersion")]
    pub api_version: String,
    #[serde(default)]
    pub clusters: Vec<NamedCluster>,
    #[serde(default)]
    pub contexts: Vec<NamedContext>,
    #[serde(default)]
    pub current_context: String,
    #[serde(default = "config")]
    pub kind: String,
    #[serde(default)]
    pub users: Vec<NamedUser>,
    #[serde(flatten)]
    pub rest: Rest,
}

fn v1() -> String {
    "v1".into()
}

fn config() -> String {
    "Config".into()
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NamedCluster {
    pub name: String,
    pub cluster: Cluster,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cluster {
    /// The CA bundle, base64 of PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_authority_data: Option<String>,
    #[serde(default)]
    pub server: String,
    #[serde(flatten)]
    pub rest: Rest,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NamedContext {
    pub name: String,
    pub context: Context,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Context {
    #[serde(default)]
    pub cluster: String,
    #[serde(default)]
    pub user: String,
    #[serde(flatten)]
    pub rest: Rest,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NamedUser {
    pub name: String,
    pub user: User,
}

#[derive(Clone, Default, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct User {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_key_data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    #[serde(flatten)]
    pub rest: Rest,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("client_certificate_data", &self.client_certificate_data).finish_non_exhaustive()
    }
}

impl Default for Kubeconfig {
    fn default() -> Self {
        Self {
            api_version: v1(),
            kind: config(),
            clusters: Vec::new(),
            contexts: Vec::new(),
            users: Vec::new(),
            current_context: String::new(),
            rest: Rest::new(),
        }
    }
}

impl Kubeconfig {
    /// The shape that kubeadm writes: one cluster, one user with an embedded certificate, the context `user@cluster` current.
    pub fn with_certificate(cluster: &str, server: &str, ca_pem: &str, user: &str, certificate_pem: &str, key_pem: &str) -> Self {
        let context = format!("{user}@{cluster}");
        Self {
            clusters: vec![NamedCluster {
                name: cluster.into(),
                cluster: Cluster { certificate_authority_data: Some(STANDARD.encode(ca_pem)), server: server.into(), ..Cluster::default() },
            }],
            users: vec![NamedUser {
                name: user.into(),
                user: User {
                    client_certificate_data: Some(STANDARD.encode(certificate_pem)),
                    client_key_data: Some(STANDARD.encode(key_pem)),
                    ..User::default()
                },
            }],
            contexts: vec![NamedContext {
                name: context.clone(),
                context: Context { cluster: cluster.into(), user: user.into(), rest: Rest::new() },
            }],
            current_context: context,
            ..Self::default()
        }
    }

    pub fn from_yaml(text: &str) -> Result<Self> {
        serde_saphyr::from_str(text).map_err(|e| Error::Kubeconfig(e.to_string()))
    }

    pub fn to_yaml(&self) -> Result<String> {
        serde_saphyr::to_string(self).map_err(|e| Error::Kubeconfig(e.to_string()))
    }

    pub fn read(path: &Path) -> Result<Option<Self>> {
        files::read(path)?.map(|text| Self::from_yaml(&text).map_err(|e| e.in_file(path))).transpose()
    }

    /// Atomically, readable by the owner only.
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write(path, self.to_yaml()?.as_bytes(), files::KEY_MODE)
    }

    /// Takes over the entries of `other` (those of the same name are replaced) and its current context.
    pub fn merge(&mut self, other: Self) {
        for entry in other.clusters {
            self.clusters.retain(|e| e.name != entry.name);
            self.clusters.push(entry);
        }
        for entry in other.users {
            self.users.retain(|e| e.name != entry.name);
            self.users.push(entry);
        }
        for entry in other.contexts {
            self.contexts.retain(|e| e.name != entry.name);
            self.contexts.push(entry);
        }
        if !other.current_context.is_empty() {
            self.current_context = other.current_context;
        }
    }

    /// The cluster and the user of the current context.
    pub fn current(&self) -> Option<(&Cluster, &User)> {
        let context = &self.contexts.iter().find(|c| c.name == self.current_context)?.context;
        let cluster = &self.clusters.iter().find(|c| c.name == context.cluster)?.cluster;
        let user = &self.users.iter().find(|u| u.name == context.user)?.user;
        Some((cluster, user))
    }
}

impl User {
    /// The embedded client certificate as PEM.
    pub fn certificate_pem(&self) -> Option<String> {
        decode(self.client_certificate_data.as_deref()?)
    }

    /// The embedded client key as PEM.
    pub fn key_pem(&self) -> Option<String> {
        decode(self.client_key_data.as_deref()?)
    }
}

impl Cluster {
    /// The embedded CA bundle as PEM.
    pub fn ca_pem(&self) -> Option<String> {
        decode(self.certificate_authority_data.as_deref()?)
    }
}

fn decode(data: &str) -> Option<String> {
    String::from_utf8(STANDARD.decode(data).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_again() {
        let config = Kubeconfig::with_certificate("kubernetes", "https://10.0.0.1:6443", "CA", "kubernetes-admin", "CERT", "KEY");
        let text = config.to_yaml().unwrap();
        assert!(text.contains("current-context: kubernetes-admin@kubernetes"), "{text}");
        let again = Kubeconfig::from_yaml(&text).unwrap();
        let (cluster, user) = again.current().unwrap();
        assert_eq!(cluster.server, "https://10.0.0.1:6443");
        assert_eq!((cluster.ca_pem().as_deref(), user.certificate_pem().as_deref()), (Some("CA"), Some("CERT")));
    }

    #[test]
    fn merging_keeps_what_it_does_not_know() {
        let mut mine = Kubeconfig::from_yaml(
            "apiVersion: v1\nkind: Config\npreferences: {colors: true}\nclusters:\n- name: far\n  cluster: {server: https://far, tls-server-name: x}\n",
        )
        .unwrap();
        mine.merge(Kubeconfig::with_certificate("near", "https://near", "CA", "me", "C", "K"));
        let again = Kubeconfig::from_yaml(&mine.to_yaml().unwrap()).unwrap();
        assert_eq!(again.clusters.len(), 2);
        assert_eq!(again.clusters[0].cluster.rest["tls-server-name"], "x");
        assert_eq!(again.rest["preferences"]["colors"], true);
        assert_eq!(again.current_context, "me@near");
        assert!(Kubeconfig::from_yaml("clusters: 3").is_err());
    }
}
