//! `/livez`, `/readyz`, `/healthz`: each check by name, with upstream's texts (apiserver/pkg/server/healthz).

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Response};

use crate::pipeline::Core;
use crate::transport::body::Body;
use crate::transport::query::Query;
use crate::transport::response;

/// What start-up has reached.
#[derive(Default)]
pub struct Health {
    pub cache_synced: AtomicBool,
    pub bootstrapped: AtomicBool,
    pub store_failed: AtomicBool,
}

impl Health {
    pub fn is_ready(&self) -> bool {
        self.cache_synced.load(Ordering::Acquire) && self.bootstrapped.load(Ordering::Acquire) && !self.store_failed.load(Ordering::Acquire)
    }

    fn checks(&self, core: &Core, root: &str) -> Vec<(&'static str, bool)> {
        let store = !self.store_failed.load(Ordering::Acquire);
        let booted = self.bootstrapped.load(Ordering::Acquire);
        let mut checks = vec![("ping", true), ("log", true), ("etcd", store)];
        if root == "/readyz" {
            checks.push(("etcd-readiness", store));
            checks.push(("informer-sync", self.cache_synced.load(Ordering::Acquire)));
        }
        checks.push(("poststarthook/start-system-namespaces-controller", booted));
        checks.push(("poststarthook/rbac/bootstrap-roles", booted));
        checks.push(("poststarthook/scheduling/bootstrap-system-priority-classes", booted));
        if root == "/readyz" {
            checks.push(("shutdown", !core.stop.is_cancelled()));
        }
        checks
    }

    /// `root` is one of the three paths; `one` a single check below it.
    pub fn serve(&self, core: &Core, root: &str, one: Option<&str>, query: &Query) -> Response<Body> {
        let checks = self.checks(core, root);
        if let Some(name) = one {
            return match checks.iter().find(|(check, _)| *check == name) {
                Some((_, true)) => plain(200, "ok".into()),
                Some(_) => plain(500, "internal server error: not ready\n".into()),
                None => response::no_such_page(),
            };
        }
        let excluded: Vec<&str> = query.all("exclude").collect();
        let (mut text, mut failed) = (String::new(), false);
        for (name, good) in checks {
            if excluded.contains(&name) {
                text.push_str(&format!("[+]{name} excluded: ok\n"));
            } else if good {
                text.push_str(&format!("[+]{name} ok\n"));
            } else {
                failed = true;
                text.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
        let name = &root[1..];
        if failed {
            return plain(500, format!("{text}{name} check failed\n"));
        }
        if query.has("verbose") { plain(200, format!("{text}{name} check passed\n")) } else { plain(200, "ok".into()) }
    }
}

fn plain(code: u16, text: String) -> Response<Body> {
    let mut response = response::text(code, text);
    response.headers_mut().insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}
