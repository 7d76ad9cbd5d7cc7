//! From a request's path to the resource, object and subresource that it names (upstream: apiserver/pkg/endpoints/request/requestinfo.go).

use http::Method;

use crate::transport::query::{Query, decode};

/// A path below `/api/v1/` or `/apis/GROUP/VERSION/` that names a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path {
    pub group: String,
    pub version: String,
    pub resource: String,
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub subresource: Option<String>,
    /// What follows the subresource, undecoded, with its leading slash: for proxies.
    pub rest: String,
    /// The old `/watch/` prefix.
    pub watch: bool,
}

/// `None`: no resource is named (`/api`, `/apis/apps/v1`, `/healthz`).
pub fn parse(path: &str) -> Option<Path> {
    let mut parts = Parts(path.strip_prefix('/')?);
    let mut out = Path::default();
    match parts.next()? {
        "api" => {}
        "apis" => out.group = decode(parts.next()?, false),
        _ => return None,
    }
    out.version = decode(parts.next()?, false);
    let mut first = parts.next()?;
    if first == "watch" {
        out.watch = true;
        first = parts.next()?;
    }
    if first == "namespaces" && is_namespaced(parts.0) {
        out.namespace = parts.next().map(|p| decode(p, false));
        first = parts.next()?;
    }
    out.resource = decode(first, false);
    out.name = parts.next().map(|p| decode(p, false));
    out.subresource = parts.next().map(|p| decode(p, false));
    if out.subresource.is_some() {
        out.rest = parts.0.to_owned();
    }
    Some(out)
}

/// Whether what follows `namespaces/` is `NS/RESOURCE...` rather than a namespace object.
fn is_namespaced(rest: &str) -> bool {
    let mut parts = Parts(rest);
    parts.next().is_some() && parts.next().is_some_and(|second| second != "status" && second != "finalize")
}

/// Segments of a path; `.0` is what is left, with its leading slash after the first.
struct Parts<'a>(&'a str);

impl<'a> Parts<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let text = self.0.strip_prefix('/').unwrap_or(self.0);
        if text.is_empty() {
            return None;
        }
        let end = text.find('/').unwrap_or(text.len());
        self.0 = &text[end..];
        Some(&text[..end])
    }
}

/// The verb for authorization and dispatch.
pub fn verb(method: &Method, path: &Path, query: &Query) -> &'static str {
    let one = path.name.is_some();
    match *method {
        Method::GET | Method::HEAD if path.watch => "watch",
        Method::GET | Method::HEAD if one => "get",
        Method::GET | Method::HEAD if query.flag("watch") => "watch",
        Method::GET | Method::HEAD => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE if one => "delete",
        Method::DELETE => "deletecollection",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, expected: Option<[&str; 7]>) {
        let seen = parse(path).map(|p| {
            let text = |o: Option<String>| o.unwrap_or_default();
            [p.group, p.version, p.resource, text(p.namespace), text(p.name), text(p.subresource), p.rest]
        });
        assert_eq!(seen, expected.map(|e| e.map(str::to_owned)), "{path}");
    }

    #[test]
    fn paths() {
        check("/api", None);
        check("/api/v1", None);
        check("/healthz", None);
        check("/apis/apps/v1/", None);
        check("/api/v1/pods", Some(["", "v1", "pods", "", "", "", ""]));
        check("/api/v1/namespaces", Some(["", "v1", "namespaces", "", "", "", ""]));
        check("/api/v1/namespaces/a", Some(["", "v1", "namespaces", "", "a", "", ""]));
        check("/api/v1/namespaces/a/status", Some(["", "v1", "namespaces", "", "a", "status", ""]));
        check("/api/v1/namespaces/a/pods/b/log", Some(["", "v1", "pods", "a", "b", "log", ""]));
        check("/api/v1/namespaces/a/services/http:b:80/proxy/x//y/", Some(["", "v1", "services", "a", "http:b:80", "proxy", "/x//y/"]));
        check("/apis/apps/v1/namespaces/a/deployments/b", Some(["apps", "v1", "deployments", "a", "b", "", ""]));
        check(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node%3Aa",
            Some(["rbac.authorization.k8s.io", "v1", "clusterroles", "", "system:node:a", "", ""]),
        );
    }
}
