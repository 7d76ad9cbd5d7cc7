//! DefaultStorageClass, StorageObjectInUseProtection, PersistentVolumeClaimResize (plugin/pkg/admission/storage).

use std::sync::Arc;

use api::StatusError;
use api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use api::meta::v1::ObjectMeta;
use api::storage::v1::StorageClass;
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin, forbid, newest_default};
use crate::Objects;

pub struct DefaultStorageClass {
    objects: Objects,
}

impl DefaultStorageClass {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }
}

const IS_DEFAULT: &[&str] = &["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const LEGACY_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation != Operation::Create || !request.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let Some(claim) = request.get_mut::<PersistentVolumeClaim>() else { return Ok(()) };
        let by_annotation = claim.metadata.annotations.as_ref().is_some_and(|a| a.contains_key(LEGACY_CLASS));
        let Some(spec) = claim.spec.as_mut().filter(|spec| spec.storage_class_name.is_none() && !by_annotation) else { return Ok(()) };
        let classes = self.objects.list::<StorageClass>(None);
        spec.storage_class_name = newest_default(classes.iter().map(|class| &class.metadata), IS_DEFAULT);
        Ok(())
    }
}

pub struct StorageObjectInUseProtection;

fn protect(meta: &mut ObjectMeta, finalizer: &str) {
    let finalizers = meta.finalizers.get_or_insert_default();
    if !finalizers.iter().any(|f| f == finalizer) {
        finalizers.push(finalizer.into());
    }
}

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation != Operation::Create || !request.subresource.is_empty() {
            return Ok(());
        }
        if let Some(claim) = request.get_mut::<PersistentVolumeClaim>() {
            protect(&mut claim.metadata, "kubernetes.io/pvc-protection");
        } else if let Some(volume) = request.get_mut::<PersistentVolume>() {
            protect(&mut volume.metadata, "kubernetes.io/pv-protection");
        }
        Ok(())
    }
}

pub struct PersistentVolumeClaimResize {
    objects: Objects,
}

impl PersistentVolumeClaimResize {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }
}

/// Bytes asked for; `None` when the text is no quantity, which validation reports.
fn wanted(claim: &PersistentVolumeClaim) -> Option<api::quantity::Amount> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    api::quantity::parse(&requests.get("storage")?.0).ok()
}

fn class_of(claim: &PersistentVolumeClaim) -> String {
    let legacy = claim.metadata.annotations.as_ref().and_then(|a| a.get(LEGACY_CLASS)).cloned();
    legacy.or_else(|| claim.spec.as_ref()?.storage_class_name.clone()).unwrap_or_default()
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation != Operation::Update || !request.is("", "persistentvolumeclaims") {
            return Ok(());
        }
        let (Some(new), Some(old)) = (request.get::<PersistentVolumeClaim>(), request.old::<PersistentVolumeClaim>()) else {
            return Ok(());
        };
        match (wanted(new), wanted(old)) {
            (Some(new), Some(old)) if new > old => {}
            _ => return Ok(()),
        }
        if old.status.as_ref().and_then(|s| s.phase.as_deref()) != Some("Bound") {
            return Err(forbid(request, "Only bound persistent volume claims can be expanded"));
        }
        let class = class_of(new);
        let found: Option<Arc<StorageClass>> = self.objects.get(None, &class);
        if class.is_empty() || class != class_of(old) || found.and_then(|c| c.allow_volume_expansion) != Some(true) {
            return Err(forbid(
                request,
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            ));
        }
        Ok(())
    }
}
