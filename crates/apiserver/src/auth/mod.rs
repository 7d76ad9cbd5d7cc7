//! The seams of authentication, authorization and tokens: what the pipeline asks, not how it is answered.

mod allow_all;
mod authenticate;
mod authorize;
mod identity;
mod node;
mod options;
pub mod rbac;
mod reviews;
mod service_account;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::StatusError;
use api::authentication::v1::TokenRequest;
use api::core::v1::ServiceAccount;
use async_trait::async_trait;
use bytes::Bytes;
use http::request::Parts;
use kinds::Object;
use rustls_pki_types::CertificateDer;

pub use identity::{MASTERS, NODES, node_name};
pub use options::AuthOptions;
pub use service_account::WARN_SECONDS as TOKEN_WARN_SECONDS;

/// Who asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}

/// The chain that the peer showed in the TLS handshake, leaf first: a request extension, set by the listener. Not verified.
#[derive(Clone, Debug)]
pub struct PeerCertificates(pub Arc<[CertificateDer<'static>]>);

/// The peer's network address: a request extension, set by the listener.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub std::net::SocketAddr);

/// What is asked (upstream: k8s.io/apiserver/pkg/authorization/authorizer).
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// `get`, `list`, ... for resources; the lower-case HTTP method for other paths.
    pub verb: &'a str,
    pub is_resource: bool,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    /// Empty: the resource itself.
    pub subresource: &'a str,
    /// Empty: cluster scope or all namespaces.
    pub namespace: &'a str,
    pub name: &'a str,
    pub path: &'a str,
    /// As sent; empty where there is none.
    pub field_selector: &'a str,
    pub label_selector: &'a str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// No later authorizer is asked.
    Deny(String),
    NoOpinion(String),
}

#[async_trait]
pub trait Authenticator: Send + Sync {
    /// From a header, a certificate (`PeerCertificates`) or an in-process caller's extension (`client::InProcessUser`); 401 otherwise.
    /// Impersonation is applied here too.
    async fn authenticate(&self, parts: &Parts) -> Result<Arc<UserInfo>, StatusError>;
}

#[async_trait]
pub trait Authorizer: Send + Sync {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision;
}

/// The virtual kinds of authentication.k8s.io and authorization.k8s.io.
#[async_trait]
pub trait Reviews: Send + Sync {
    /// Fills the status of a TokenReview, SelfSubjectReview, SubjectAccessReview, SelfSubjectAccessReview, LocalSubjectAccessReview or
    /// SelfSubjectRulesReview. `namespace` is the request's, or empty.
    async fn review(&self, user: &UserInfo, namespace: &str, object: &mut dyn Object) -> Result<(), StatusError>;
}

/// Service-account tokens.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Answers `serviceaccounts/NAME/token`: checks the spec, signs, fills the status.
    async fn issue(&self, account: &ServiceAccount, request: &mut TokenRequest) -> Result<(), StatusError>;
    /// `/.well-known/openid-configuration`; `None` where no signing key is set.
    fn openid_configuration(&self) -> Option<Bytes>;
    /// `/openid/v1/jwks`.
    fn jwks(&self) -> Option<Bytes>;
}

/// 403 in upstream's words (apiserver/pkg/endpoints/handlers/responsewriters/errors.go).
pub fn forbidden(asked: &Attributes<'_>, reason: &str) -> StatusError {
    let tail = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    let user = &asked.user.name;
    if !asked.is_resource {
        let message = format!("forbidden: User {user:?} cannot {} path {:?}{tail}", asked.verb, asked.path);
        return StatusError::new(api::Reason::Forbidden, message).with_object("", "", "");
    }
    let sub = asked.subresource;
    let resource = if sub.is_empty() { asked.resource.to_owned() } else { format!("{}/{sub}", asked.resource) };
    let place = match asked.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let cause = format!("User {user:?} cannot {} resource {resource:?} in API group {:?} {place}{tail}", asked.verb, asked.group);
    StatusError::forbidden(asked.group, asked.resource, asked.name, &cause)
}

/// All that the server asks of this module.
#[derive(Clone)]
pub struct Auth {
    pub authenticator: Arc<dyn Authenticator>,
    pub authorizer: Arc<dyn Authorizer>,
    pub reviews: Arc<dyn Reviews>,
    pub tokens: Arc<dyn Tokens>,
    /// Always there beside the flags' authorizers: default roles are made and escalation is checked whatever the mode. `None` in tests.
    pub rbac: Option<Arc<rbac::Rbac>>,
}

impl Auth {
    /// Everybody is `system:admin` of `system:masters` unless an in-process caller says otherwise, and may do everything: for tests.
    pub fn allow_all() -> Self {
        let all = Arc::new(allow_all::AllowAll);
        Self { authenticator: all.clone(), authorizer: all.clone(), reviews: all.clone(), tokens: all, rbac: None }
    }

    /// What the flags ask for. `objects` reads service accounts, secrets, roles and bindings.
    pub fn new(options: &AuthOptions, objects: &crate::Objects) -> Result<Self, AuthError> {
        let rbac = Arc::new(rbac::Rbac::new(objects.clone()));
        let (authorizer, modes) = authorize::chain(&options.authorization_mode, objects, &rbac)?;
        let anonymous = options.anonymous_auth && !modes.always_allow;
        if options.anonymous_auth && !anonymous {
            tracing::warn!("anonymous requests are refused, as --authorization-mode=AlwaysAllow would let them do everything");
        }
        let accounts = Arc::new(service_account::ServiceAccounts::new(options, objects)?);
        let tokens = Arc::new(authenticate::Tokens::new(options, accounts.clone(), objects)?);
        Ok(Self {
            authenticator: Arc::new(authenticate::Chain::new(options, tokens.clone(), authorizer.clone(), anonymous)?),
            reviews: Arc::new(reviews::Reviewer { authorizer: authorizer.clone(), rbac: rbac.clone(), tokens, modes }),
            authorizer,
            tokens: accounts,
            rbac: Some(rbac),
        })
    }

    /// Runs once when the server is ready: default roles and bindings. `client` acts as `system:apiserver` of `system:masters`.
    pub async fn bootstrap(&self, client: &kube::Client) -> Result<(), AuthError> {
        match &self.rbac {
            Some(rbac) => rbac::bootstrap(client, rbac.objects()).await,
            None => Ok(()),
        }
    }
}

/// The flags name something that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AuthError(pub String);
