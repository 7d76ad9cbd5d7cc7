//! NamespaceLifecycle: nothing is made in a namespace that does not exist or is going away; three namespaces stay for ever
//! (apiserver/pkg/admission/plugin/namespace/lifecycle).

use std::sync::Arc;

use api::StatusError;
use api::core::v1::Namespace;
use api::meta::v1::StatusCause;
use async_trait::async_trait;
use base::clock;
use hashbrown::HashMap;
use parking_lot::Mutex;

use super::{AdmissionRequest, Operation, Plugin, forbid};
use crate::Objects;

const IMMORTAL: &[&str] = &["default", "kube-system", "kube-public"];
/// How long the store itself is asked about a namespace whose deletion was requested here, as the cache may not know yet.
const DISTRUST_MS: i64 = 30_000;

pub struct NamespaceLifecycle {
    objects: Objects,
    /// Until when (Unix ms) the cache is not believed.
    deleted: Mutex<HashMap<String, i64>>,
}

impl NamespaceLifecycle {
    pub fn new(objects: Objects) -> Self {
        Self { objects, deleted: Mutex::default() }
    }

    async fn find(&self, name: &str) -> Result<Option<Arc<Namespace>>, StatusError> {
        let distrusted = {
            let mut deleted = self.deleted.lock();
            let now = clock::unix_ms();
            deleted.retain(|_, until| now < *until);
            deleted.contains_key(name)
        };
        match self.objects.get::<Namespace>(None, name) {
            Some(namespace) if !distrusted || is_terminating(&namespace) => Ok(Some(namespace)),
            _ => Ok(self.objects.read::<Namespace>(None, name).await?.map(Arc::new)),
        }
    }
}

fn is_terminating(namespace: &Namespace) -> bool {
    namespace.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Terminating") || namespace.metadata.deletion_timestamp.is_some()
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        let is_namespace = request.info.group.is_empty() && request.info.resource == "namespaces";
        if is_namespace {
            if request.operation == Operation::Delete {
                if IMMORTAL.contains(&request.name) {
                    return Err(StatusError::forbidden("", "namespaces", request.name, "this namespace may not be deleted"));
                }
                self.deleted.lock().insert(request.name.to_owned(), clock::unix_ms() + DISTRUST_MS);
            }
            return Ok(());
        }
        if request.namespace.is_empty() || !matches!(request.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        let found = self.find(request.namespace).await?;
        let Some(namespace) = found else { return Err(StatusError::not_found("", "namespaces", request.namespace)) };
        if request.operation == Operation::Update || !is_terminating(&namespace) {
            return Ok(());
        }
        let name = request.namespace;
        let mut error = forbid(request, format!("unable to create new content in namespace {name} because it is being terminated"));
        if let Some(details) = &mut error.0.details {
            details.causes.get_or_insert_default().push(StatusCause {
                reason: Some("NamespaceTerminating".into()),
                message: Some(format!("namespace {name} is being terminated")),
                field: Some("metadata.namespace".into()),
            });
        }
        Err(error)
    }
}
