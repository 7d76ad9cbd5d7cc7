//! Users that an authenticating proxy names in headers; believed only beside the proxy's own client certificate
//! (apiserver/pkg/authentication/request/headerrequest).

use base::clock;
use http::HeaderMap;
use pki::verify::ClientRoots;

use crate::auth::identity::mark_authenticated;
use crate::auth::{AuthError, AuthOptions, PeerCertificates, UserInfo};
use crate::transport::query::decode;

pub struct FrontProxy {
    roots: ClientRoots,
    allowed_names: Vec<String>,
    user_headers: Vec<String>,
    group_headers: Vec<String>,
    extra_prefixes: Vec<String>,
}

impl FrontProxy {
    pub fn new(options: &AuthOptions) -> Result<Option<Self>, AuthError> {
        let Some(path) = options.requestheader_client_ca_file.as_deref() else { return Ok(None) };
        let roots = pki::files::read_required(path).and_then(|pem| ClientRoots::from_pem(&pem).map_err(|e| e.in_file(path)));
        let or = |given: &[String], usual: &str| if given.is_empty() { vec![usual.to_owned()] } else { given.to_vec() };
        Ok(Some(Self {
            roots: roots.map_err(|e| AuthError(format!("--requestheader-client-ca-file: {e}")))?,
            allowed_names: options.requestheader_allowed_names.clone(),
            user_headers: or(&options.requestheader_username_headers, "X-Remote-User"),
            group_headers: or(&options.requestheader_group_headers, "X-Remote-Group"),
            extra_prefixes: or(&options.requestheader_extra_headers_prefix, "X-Remote-Extra-")
                .into_iter()
                .map(|prefix| prefix.to_ascii_lowercase())
                .collect(),
        }))
    }

    pub fn user(&self, peer: &PeerCertificates, headers: &HeaderMap) -> Option<UserInfo> {
        let name = self.user_headers.iter().find_map(|h| text(headers.get(h.as_str())?)).filter(|name| !name.is_empty())?;
        let certificate = self.roots.verify(&peer.0, clock::now()).ok()?;
        if !self.allowed_names.is_empty() && !self.allowed_names.contains(&certificate.common_name) {
            return None;
        }
        let groups =
            self.group_headers.iter().flat_map(|h| headers.get_all(h.as_str())).filter_map(text).filter(|g| !g.is_empty()).collect();
        let mut user = UserInfo { name, groups, ..UserInfo::default() };
        for (header, value) in headers {
            let key = self.extra_prefixes.iter().find_map(|prefix| header.as_str().strip_prefix(prefix.as_str()));
            if let (Some(key), Some(value)) = (key, text(value)) {
                user.extra.entry(decode(key, false)).or_default().push(value);
            }
        }
        mark_authenticated(&mut user);
        Some(user)
    }
}

fn text(value: &http::HeaderValue) -> Option<String> {
    value.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn headers_count_only_beside_the_proxys_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let now = clock::now();
        let ca = pki::Authority::create("front-proxy-ca", now).unwrap();
        let path = dir.path().join("ca.crt");
        std::fs::write(&path, &ca.certificate_pem).unwrap();
        let options = AuthOptions {
            requestheader_client_ca_file: Some(path),
            requestheader_allowed_names: vec!["front-proxy-client".into()],
            ..AuthOptions::default()
        };
        let proxy = FrontProxy::new(&options).unwrap().unwrap();
        let headers: HeaderMap = [("x-remote-user", "jo"), ("x-remote-group", "devs"), ("x-remote-extra-acme.com%2fscope", "x")]
            .into_iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap()))
            .collect();
        let peer = |authority: &pki::Authority, name: &str| {
            let (pem, _) = authority.issue(&pki::Leaf::client(name, None), now).unwrap();
            PeerCertificates(Arc::from(vec![pki::Certificate::from_pem(&pem).unwrap().der]))
        };
        let user = proxy.user(&peer(&ca, "front-proxy-client"), &headers).unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("jo", &["devs".to_owned(), "system:authenticated".to_owned()][..]));
        assert_eq!(user.extra["acme.com/scope"], ["x"]);
        assert!(proxy.user(&peer(&ca, "other"), &headers).is_none());
        let stranger = pki::Authority::create("front-proxy-ca", now).unwrap();
        assert!(proxy.user(&peer(&stranger, "front-proxy-client"), &headers).is_none());
        assert!(proxy.user(&peer(&ca, "front-proxy-client"), &HeaderMap::new()).is_none());
    }
}
