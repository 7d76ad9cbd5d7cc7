//! The seam of admission: plugins that see every write between decoding and storing.

mod certificates;
mod default_ingress_class;
mod default_toleration_seconds;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod options;
mod owner_references;
mod plugins;
mod pod_security;
mod priority;
mod privileged;
mod resource_quota;
mod runtime_class;
mod service_account;
mod storage;
mod taint_nodes_by_condition;
mod templates;

use std::any::Any;

use api::StatusError;
use api::meta::v1::ObjectMeta;
use async_trait::async_trait;
use kinds::{KindInfo, Object};

use crate::auth::rbac::Escalation;
use crate::auth::{Auth, UserInfo};

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

    /// Called once at start: for plugins that write other objects. `client` acts as `system:apiserver`.
    fn connect(&self, _client: &kube::Client) {}

    async fn mutate(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        Ok(())
    }

    async fn validate(&self, _request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        Ok(())
    }
}

/// 403 as a plugin gives it: `pods "x" is forbidden: CAUSE`.
pub(crate) fn forbid(request: &AdmissionRequest<'_>, cause: impl AsRef<str>) -> StatusError {
    let meta = request.object.as_deref().map(Object::meta);
    let named = || meta.and_then(|m| m.name.as_deref()).filter(|n| !n.is_empty());
    let generated = || meta.and_then(|m| m.generate_name.as_deref()).filter(|n| !n.is_empty());
    let name = Some(request.name).filter(|n| !n.is_empty()).or_else(named).or_else(generated).unwrap_or("Unknown");
    StatusError::forbidden(request.info.group, request.info.resource, name, cause.as_ref())
}

/// The name of the object that one of the annotations marks as default: the newest, then the first by name.
fn newest_default<'a>(objects: impl Iterator<Item = &'a ObjectMeta>, annotations: &[&str]) -> Option<String> {
    let marked = |meta: &&ObjectMeta| {
        let own = meta.annotations.as_ref();
        annotations.iter().any(|key| own.and_then(|a| a.get(*key)).is_some_and(|value| value == "true"))
    };
    let newest = objects.filter(marked).max_by(|a, b| {
        let time = |meta: &ObjectMeta| meta.creation_timestamp.as_ref().map(|t| t.0);
        time(a).cmp(&time(b)).then_with(|| b.name.cmp(&a.name))
    });
    newest.and_then(|meta| meta.name.clone())
}

/// The enabled plugins in upstream's order.
#[derive(Default)]
pub struct Admission {
    plugins: Vec<Box<dyn Plugin>>,
    /// Where to look before making start-up objects; `None` in tests.
    objects: Option<crate::Objects>,
}

impl Admission {
    /// What the flags ask for. `objects` reads namespaces, service accounts, priority classes and so on.
    pub fn new(options: &AdmissionOptions, objects: &crate::Objects, auth: &Auth) -> Result<Self, AdmissionError> {
        let parts = plugins::Parts { options, objects, authorizer: &auth.authorizer };
        let mut plugins = plugins::make(&parts)?;
        // Not plugins of upstream but parts of its storage: no flag turns them off.
        plugins.insert(0, Box::new(certificates::Requester));
        if let Some(rbac) = &auth.rbac {
            plugins.push(Box::new(Escalation::new(rbac.clone(), auth.authorizer.clone())));
        }
        Ok(Self { plugins, objects: Some(objects.clone()) })
    }

    /// `--allow-privileged=false`.
    pub fn refuse_privileged(&mut self) {
        self.plugins.push(Box::new(privileged::Privileged));
    }

    /// Just these, for tests.
    pub fn of(plugins: Vec<Box<dyn Plugin>>) -> Self {
        Self { plugins, objects: None }
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
    pub async fn bootstrap(&self, client: &kube::Client) -> Result<(), AdmissionError> {
        self.plugins.iter().for_each(|plugin| plugin.connect(client));
        match &self.objects {
            Some(objects) => priority::bootstrap(client, objects).await,
            None => Ok(()),
        }
    }
}

/// The flags name something that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AdmissionError(pub String);
