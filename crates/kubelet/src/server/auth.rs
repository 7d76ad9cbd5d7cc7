//! Who asks the kubelet and whether they may: client certificates and TokenReview, SubjectAccessReview (pkg/kubelet/server/auth.go).

use std::collections::HashMap;
use std::time::Duration;

use api::authentication::v1::{TokenReview, TokenReviewSpec};
use api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use client::Client;
use http::{HeaderMap, Method};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;

use crate::objects::api_text;

/// Upstream's cache times (KubeletConfiguration: authentication.webhook.cacheTTL, authorization.webhook.*).
const TOKEN_TTL: Duration = Duration::from_secs(120);
const ALLOWED_TTL: Duration = Duration::from_secs(300);
const DENIED_TTL: Duration = Duration::from_secs(30);
/// Entries kept at most; a full cache is emptied.
const MAX_CACHED: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

/// An answer instead of the one that was asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    Unauthorized,
    Forbidden(String),
    Failed(String),
}

/// Who, verb, subresource.
type Question = (User, String, String);

pub struct Gate {
    client: Client,
    node: String,
    roots: Option<pki::verify::ClientRoots>,
    webhook_tokens: bool,
    webhook_access: bool,
    anonymous: bool,
    tokens: Mutex<HashMap<String, (Instant, User)>>,
    verdicts: Mutex<HashMap<Question, (Instant, bool)>>,
}

impl Gate {
    pub fn new(client: Client, settings: &crate::options::Settings) -> Result<Self, String> {
        let roots = match &settings.client_ca_file {
            None => None,
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| format!("--client-ca-file {}: {error}", path.display()))?;
                Some(pki::verify::ClientRoots::from_pem(&text).map_err(|error| format!("--client-ca-file {}: {error}", path.display()))?)
            }
        };
        Ok(Self {
            client,
            node: settings.node_name.clone(),
            roots,
            webhook_tokens: settings.webhook_authentication,
            webhook_access: settings.webhook_authorization,
            anonymous: settings.anonymous,
            tokens: Mutex::default(),
            verdicts: Mutex::default(),
        })
    }

    /// Lets the request through or says why not.
    pub async fn check(&self, chain: &[CertificateDer<'_>], headers: &HeaderMap, method: &Method, path: &str) -> Result<(), Refusal> {
        let user = self.authenticate(chain, headers).await?;
        if !self.webhook_access {
            return Ok(());
        }
        let verb = verb(method);
        let subresources = subresources(path);
        for subresource in subresources {
            if self.allowed(&user, verb, subresource).await? {
                return Ok(());
            }
        }
        let last = subresources.last().copied().unwrap_or("proxy");
        Err(Refusal::Forbidden(format!("Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{last}])", user.name)))
    }

    async fn authenticate(&self, chain: &[CertificateDer<'_>], headers: &HeaderMap) -> Result<User, Refusal> {
        if let (Some(roots), false) = (&self.roots, chain.is_empty()) {
            match roots.verify(chain, base::clock::now()) {
                Ok(certificate) => {
                    let mut groups = certificate.organizations;
                    groups.push("system:authenticated".into());
                    return Ok(User { name: certificate.common_name, uid: String::new(), groups });
                }
                Err(error) => tracing::debug!(%error, "a client certificate is not believed"),
            }
        }
        let bearer = headers.get(http::header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|text| text.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        if let (true, Some((_, token))) = (self.webhook_tokens, token) {
            return self.review_token(token.trim()).await;
        }
        match self.anonymous && token.is_none() {
            true => Ok(User { name: "system:anonymous".into(), uid: String::new(), groups: vec!["system:unauthenticated".into()] }),
            false => Err(Refusal::Unauthorized),
        }
    }

    async fn review_token(&self, token: &str) -> Result<User, Refusal> {
        if let Some((at, user)) = self.tokens.lock().get(token)
            && at.elapsed() < TOKEN_TTL
        {
            return Ok(user.clone());
        }
        let spec = TokenReviewSpec { token: token.to_owned(), ..TokenReviewSpec::default() };
        let review = TokenReview { spec, ..TokenReview::default() };
        let answer = Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| Refusal::Failed(format!("the token cannot be reviewed: {}", api_text(&error))))?;
        let status = answer.status.unwrap_or_default();
        let found = status.user.filter(|_| status.authenticated == Some(true)).ok_or(Refusal::Unauthorized)?;
        let user =
            User { name: found.username.unwrap_or_default(), uid: found.uid.unwrap_or_default(), groups: found.groups.unwrap_or_default() };
        let mut tokens = self.tokens.lock();
        if tokens.len() >= MAX_CACHED {
            tokens.clear();
        }
        tokens.insert(token.to_owned(), (base::clock::monotonic(), user.clone()));
        Ok(user)
    }

    async fn allowed(&self, user: &User, verb: &str, subresource: &str) -> Result<bool, Refusal> {
        let key = (user.clone(), verb.to_owned(), subresource.to_owned());
        if let Some((at, allowed)) = self.verdicts.lock().get(&key)
            && at.elapsed() < if *allowed { ALLOWED_TTL } else { DENIED_TTL }
        {
            return Ok(*allowed);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: Some(user.uid.clone()).filter(|uid| !uid.is_empty()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    group: Some(String::new()),
                    version: Some("v1".into()),
                    resource: Some("nodes".into()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(self.node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let answer = Api::<SubjectAccessReview>::all(self.client.clone()).create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| Refusal::Failed(format!("access cannot be reviewed: {}", api_text(&error))))?;
        let allowed = answer.status.is_some_and(|status| status.allowed);
        let mut verdicts = self.verdicts.lock();
        if verdicts.len() >= MAX_CACHED {
            verdicts.clear();
        }
        verdicts.insert(key, (base::clock::monotonic(), allowed));
        Ok(allowed)
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of `nodes` that open a path; one is enough (KEP-2862, fine-grained kubelet authorization).
fn subresources(path: &str) -> &'static [&'static str] {
    let below = |root: &str| path == root || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'));
    if below("/stats") {
        &["stats"]
    } else if below("/metrics") {
        &["metrics"]
    } else if below("/logs") {
        &["log"]
    } else if below("/checkpoint") {
        &["checkpoint"]
    } else if below("/pods") || below("/runningpods") {
        &["pods", "proxy"]
    } else if below("/healthz") {
        &["healthz", "proxy"]
    } else if below("/configz") {
        &["configz", "proxy"]
    } else {
        &["proxy"]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_path_asks_for() {
        let check = |path: &str, expected: &[&str]| assert_eq!(subresources(path), expected, "{path}");
        check("/stats/summary", &["stats"]);
        check("/metrics/cadvisor", &["metrics"]);
        check("/metricsx", &["proxy"]);
        check("/pods", &["pods", "proxy"]);
        check("/exec/default/p/c", &["proxy"]);
        check("/", &["proxy"]);
    }
}
