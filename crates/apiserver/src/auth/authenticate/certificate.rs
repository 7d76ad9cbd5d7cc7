//! Users of client certificates: CN is the name, O the groups (apiserver/pkg/authentication/request/x509).

use std::path::Path;
use std::sync::Arc;

use base::clock;
use hashbrown::HashMap;
use parking_lot::Mutex;
use pki::verify::ClientRoots;

use crate::auth::identity::{CREDENTIAL_ID, mark_authenticated};
use crate::auth::{AuthError, PeerCertificates, UserInfo};

const CACHE_SIZE: usize = 4096;

/// Certificates that were verified, by the leaf's DER: a connection shows the same one with each request.
pub struct Certificates {
    roots: ClientRoots,
    known: Mutex<HashMap<Box<[u8]>, Verified>>,
}

/// Until when, and who.
type Verified = (jiff::Timestamp, Arc<UserInfo>);

impl Certificates {
    pub fn new(ca_file: &Path) -> Result<Self, AuthError> {
        let roots = pki::files::read_required(ca_file).and_then(|pem| ClientRoots::from_pem(&pem).map_err(|e| e.in_file(ca_file)));
        Ok(Self { roots: roots.map_err(|e| AuthError(format!("--client-ca-file: {e}")))?, known: Mutex::default() })
    }

    /// `None` when the certificate is not believed: other ways to authenticate are tried then.
    pub fn user(&self, peer: &PeerCertificates) -> Option<Arc<UserInfo>> {
        let now = clock::now();
        let leaf = peer.0.first()?.as_ref();
        if let Some((until, user)) = self.known.lock().get(leaf) {
            return (now <= *until).then(|| user.clone());
        }
        let certificate = match self.roots.verify(&peer.0, now) {
            Ok(certificate) => certificate,
            Err(error) => {
                tracing::warn!(%error, "a client certificate is refused");
                return None;
            }
        };
        if certificate.common_name.is_empty() {
            return None;
        }
        let mut user = UserInfo {
            extra: [(CREDENTIAL_ID.to_owned(), vec![certificate.credential_id()])].into(),
            uid: certificate.uid.unwrap_or_default(),
            name: certificate.common_name,
            groups: certificate.organizations,
        };
        mark_authenticated(&mut user);
        let user = Arc::new(user);
        let mut known = self.known.lock();
        if known.len() >= CACHE_SIZE {
            known.clear();
        }
        known.insert(leaf.into(), (certificate.not_after, user.clone()));
        Some(user)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_name_and_organization_are_user_and_group() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock::now();
        let ca = pki::Authority::create("kubernetes", now).unwrap();
        let path = dir.path().join("ca.crt");
        std::fs::write(&path, &ca.certificate_pem).unwrap();
        let certificates = Certificates::new(&path).unwrap();
        let peer = |authority: &pki::Authority| {
            let (pem, _) = authority.issue(&pki::Leaf::client("alice", Some("devs")), now).unwrap();
            PeerCertificates(Arc::from(vec![pki::Certificate::from_pem(&pem).unwrap().der]))
        };
        let mine = peer(&ca);
        let user = certificates.user(&mine).unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("alice", &["devs".to_owned(), "system:authenticated".to_owned()][..]));
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert!(Arc::ptr_eq(&user, &certificates.user(&mine).unwrap()));
        assert!(certificates.user(&peer(&pki::Authority::create("kubernetes", now).unwrap())).is_none());
    }
}
