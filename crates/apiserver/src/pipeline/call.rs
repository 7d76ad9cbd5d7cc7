//! One request on its way through the pipeline: what it names, who sent it, how it wants its answer.

use std::sync::Arc;

use api::StatusError;
use futures::future::BoxFuture;
use http::{HeaderMap, Method, Uri};
use kinds::KindInfo;

use super::Core;
use crate::auth::{Attributes, Decision, UserInfo};
use crate::pipeline::route::Path;
use crate::table::Resource;
use crate::transport::negotiate::View;
use crate::transport::query::Query;

pub struct Call {
    pub core: Arc<Core>,
    pub resource: Arc<Resource>,
    pub path: Path,
    pub verb: &'static str,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub query: Query,
    pub user: Arc<UserInfo>,
    pub view: View,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl Call {
    pub fn info(&self) -> &'static KindInfo {
        self.resource.info()
    }

    pub fn namespace(&self) -> Option<&str> {
        self.path.namespace.as_deref()
    }

    /// The same caller and view, for a write that this one entails.
    pub fn shallow(&self) -> Self {
        Self {
            core: self.core.clone(),
            resource: self.resource.clone(),
            path: self.path.clone(),
            verb: self.verb,
            method: self.method.clone(),
            uri: self.uri.clone(),
            headers: self.headers.clone(),
            query: self.query.clone(),
            user: self.user.clone(),
            view: self.view,
            warnings: Vec::new(),
        }
    }

    /// Empty where the path names no object.
    pub fn name(&self) -> &str {
        self.path.name.as_deref().unwrap_or_default()
    }

    pub fn subresource(&self) -> &str {
        self.path.subresource.as_deref().unwrap_or_default()
    }

    pub fn not_found(&self, name: &str) -> StatusError {
        StatusError::not_found(self.info().group, self.info().resource, name)
    }

    /// The store's key of an object of the call's resource and namespace.
    pub fn key(&self, name: &str) -> String {
        let prefix = self.resource.collection.as_ref().map_or("", |c| c.prefix.as_str());
        match self.namespace() {
            Some(namespace) => format!("{prefix}{namespace}/{name}"),
            None => format!("{prefix}{name}"),
        }
    }

    /// `?dryRun=All`.
    pub fn is_dry_run(&self) -> Result<bool, StatusError> {
        dry_run(self.query.all("dryRun"))
    }

    /// Whether the caller may also do `verb` here: an update or apply that creates needs `create`.
    pub async fn authorize_also(&self, verb: &'static str) -> Result<(), StatusError> {
        authorize(&self.core, &self.attributes(verb)).await
    }

    fn attributes<'a>(&'a self, verb: &'a str) -> Attributes<'a> {
        attributes(&self.path, verb, &self.user, self.uri.path(), &self.query)
    }

    /// Who owns the fields that this request sets (upstream: managerOrUserAgent in endpoints/handlers/create.go).
    pub fn field_manager(&self) -> String {
        if let Some(manager) = self.query.text("fieldManager") {
            return manager.to_owned();
        }
        let agent = self.headers.get(http::header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let prefix = agent.split('/').next().unwrap_or_default();
        if prefix.is_empty() { "unknown".to_owned() } else { prefix.chars().filter(|c| !c.is_control()).take(128).collect() }
    }
}

pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>) -> Result<bool, StatusError> {
    let mut found = false;
    for value in values {
        match value {
            "All" => found = true,
            "" => {}
            _ => return Err(StatusError::bad_request(format!("dryRun: Unsupported value: {value:?}: supported values: \"All\""))),
        }
    }
    Ok(found)
}

pub fn attributes<'a>(path: &'a Path, verb: &'a str, user: &'a UserInfo, raw: &'a str, query: &'a Query) -> Attributes<'a> {
    let field_selector = query.get("fieldSelector").unwrap_or_default();
    let mut name = path.name.as_deref().unwrap_or_default();
    if name.is_empty() && matches!(verb, "list" | "watch" | "deletecollection") {
        // A selector of one name counts as that name (requestinfo.go).
        name = field_selector.strip_prefix("metadata.name=").filter(|n| !n.contains([',', '=', '\\'])).unwrap_or_default();
    }
    let mut namespace = path.namespace.as_deref().unwrap_or_default();
    if path.resource == "namespaces" && path.group.is_empty() {
        namespace = name;
    }
    Attributes {
        user,
        verb,
        is_resource: true,
        group: &path.group,
        version: &path.version,
        resource: &path.resource,
        subresource: path.subresource.as_deref().unwrap_or_default(),
        namespace,
        name,
        path: raw,
        field_selector,
        label_selector: query.get("labelSelector").unwrap_or_default(),
    }
}

/// 403 in upstream's words (apiserver/pkg/endpoints/handlers/responsewriters/errors.go).
pub fn authorize<'a>(core: &'a Core, asked: &'a Attributes<'a>) -> BoxFuture<'a, Result<(), StatusError>> {
    Box::pin(async move {
        match core.auth.authorizer.authorize(asked).await {
            Decision::Allow => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(crate::auth::forbidden(asked, &reason)),
        }
    })
}
