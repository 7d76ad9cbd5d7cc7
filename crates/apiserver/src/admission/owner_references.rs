//! OwnerReferencesPermissionEnforcement: only who may delete an object makes it depend on others, and only who may change an owner's
//! finalizers blocks that owner's deletion (plugin/pkg/admission/gc).

use std::sync::Arc;

use api::StatusError;
use api::meta::v1::OwnerReference;
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin, forbid};
use crate::auth::{Attributes, Authorizer, Decision};

pub struct OwnerReferences {
    authorizer: Arc<dyn Authorizer>,
}

impl OwnerReferences {
    pub fn new(authorizer: Arc<dyn Authorizer>) -> Self {
        Self { authorizer }
    }

    async fn may(&self, asked: Attributes<'_>) -> bool {
        self.authorizer.authorize(&asked).await == Decision::Allow
    }
}

fn blocking(owners: Option<&Vec<OwnerReference>>) -> Vec<&OwnerReference> {
    owners.into_iter().flatten().filter(|owner| owner.block_owner_deletion == Some(true)).collect()
}

#[async_trait]
impl Plugin for OwnerReferences {
    fn name(&self) -> &'static str {
        "OwnerReferencesPermissionEnforcement"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        // Status and other subresources cannot change owners; pods come with theirs from the controller that makes them.
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.subresource.is_empty() {
            return Ok(());
        }
        let Some(new) = request.object.as_deref().and_then(|object| object.meta().owner_references.as_ref()) else { return Ok(()) };
        let old = request.old.and_then(|object| object.meta().owner_references.as_ref());
        if old == Some(new) {
            return Ok(());
        }
        let base = Attributes {
            user: request.user,
            verb: "delete",
            is_resource: true,
            group: request.info.group,
            version: request.info.version,
            resource: request.info.resource,
            subresource: "",
            namespace: request.namespace,
            name: request.name,
            path: "",
            field_selector: "",
            label_selector: "",
        };
        if request.operation == Operation::Update && !self.may(base).await {
            return Err(forbid(request, "cannot set an ownerRef on a resource you can't delete: "));
        }
        let known = blocking(old);
        for owner in blocking(Some(new)).into_iter().filter(|owner| !known.contains(owner)) {
            let (group, version) = owner.api_version.split_once('/').unwrap_or(("", &owner.api_version));
            let Some(row) = kinds::find_kind(group, version, &owner.kind) else {
                let cause = format!(
                    "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {} Kind {}",
                    owner.api_version, owner.kind
                );
                return Err(forbid(request, cause));
            };
            let namespace = if row.info().is_namespaced() { request.namespace } else { "" };
            let (resource, subresource) = (row.info().resource, "finalizers");
            if !self.may(Attributes { verb: "update", group, version, resource, subresource, namespace, name: &owner.name, ..base }).await {
                let cause = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: ";
                return Err(forbid(request, cause));
            }
        }
        Ok(())
    }
}
