//! The seam of admission: plugins that see every write between decoding and storing.

mod options;

use std::any::Any;

use api::StatusError;
use async_trait::async_trait;
use kinds::{KindInfo, Object};

use crate::auth::UserInfo;
use crate::auth::rbac::Escalation;

pub use options::AdmissionOptions;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    /// exec, attach, port-forward, proxy.
    Connect,
}

/// A write as plugins see it.
pub struct AdmissionRequest<'a> {
    pub operation: Operation,
    pub info: &'a KindInfo,
    /// Empty for cluster scope.
    pub namespace: &'a str,
    /// Empty while generateName has not been resolved.
    pub name: &'a str,
    /// Empty: the resource itself.
    pub subresource: &'a str,
    pub user: &'a UserInfo,
    pub dry_run: bool,
    /// The new object, typed as the row: `request.get_mut::<Pod>()`. `None` for deletes, connects and subresources with a body of their own.
    pub object: Option<&'a mut dyn Object>,
    /// The stored object, for updates and deletes.
    pub old: Option<&'a dyn Object>,
    /// The body of a subresource with a kind of its own: `Binding`, `Eviction`, `TokenRequest`, `Scale`.
    pub body: Option<&'a mut (dyn Any + Send + Sync)>,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl AdmissionRequest<'_> {
    pub fn get<T: Any>(&self) -> Option<&T> {
        self.object.as_deref().and_then(|object| object.get())
    }

    pub fn get_mut<T: Any>(&mut self) -> Option<&mut T> {
        self.object.as_deref_mut().and_then(|object| object.get_mut())
    }

    pub fn old<T: Any>(&self) -> Option<&T> {
        self.old.and_then(|object| object.get())
    }

    pub fn body<T: Any>(&self) -> Option<&T> {
        self.body.as_deref().and_then(|body| (body as &dyn Any).downcast_ref())
    }

    /// Whether this is about that resource itself: `request.is("", "pods")`.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.info.group == group && self.info.resource == resource && self.subresource.is_empty()
    }
}

#[async_trait]
pub trait Plugin: Send + Sync {
    /// Upstream's name: `NamespaceLifecycle`.
    fn name(&self) -> &'static str;

    async fn mutate(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        Ok(())
    }

    async fn validate(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        Ok(())
    }
}

/// The enabled plugins in upstream's order.
#[derive(Default)]
pub struct Admission {
    plugins: Vec<Box<dyn Plugin>>,
}

impl Admission {
    /// What the flags ask for. `objects` reads namespaces, service accounts, priority classes and so on.
    pub fn new(_options: &AdmissionOptions, _objects: &crate::Objects, auth: &crate::auth::Auth) -> Result<Self, AdmissionError> {
        let mut plugins: Vec<Box<dyn Plugin>> = Vec::new();
        if let Some(rbac) = &auth.rbac {
            plugins.push(Box::new(Escalation::new(rbac.clone(), auth.authorizer.clone())));
        }
        Ok(Self { plugins })
    }

    /// Just these, for tests.
    pub fn of(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins }
    }

    pub async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        for plugin in &self.plugins {
            plugin.mutate(request).await?;
        }
        Ok(())
    }

    pub async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        for plugin in &self.plugins {
            plugin.validate(request).await?;
        }
        Ok(())
    }

    /// Runs once when the server is ready: the objects that plugins need (priority classes). `client` acts as `system:apiserver`.
    pub async fn bootstrap(&self, _client: &kube::Client) -> Result<(), AdmissionError> {
        Ok(())
    }
}

/// The flags name something that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AdmissionError(pub String);
