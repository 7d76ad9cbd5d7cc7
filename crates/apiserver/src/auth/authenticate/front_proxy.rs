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
