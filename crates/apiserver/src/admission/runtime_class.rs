//! RuntimeClass: what a pod's runtime costs and where it can run (plugin/pkg/admission/runtimeclass).

use std::sync::Arc;

use api::StatusError;
use api::core::v1::{Pod, PodSpec};
use api::node::v1::RuntimeClass;
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin, forbid};
use crate::Objects;

pub struct RuntimeClasses {
    objects: Objects,
}

impl RuntimeClasses {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }

    async fn class(&self, request: &AdmissionRequest<'_>, spec: &PodSpec) -> Result<Option<Arc<RuntimeClass>>, StatusError> {
        let Some(name) = spec.runtime_class_name.as_deref() else { return Ok(None) };
        if let Some(class) = self.objects.get::<RuntimeClass>(None, name) {
            return Ok(Some(class));
        }
        match self.objects.read::<RuntimeClass>(None, name).await? {
            Some(class) => Ok(Some(Arc::new(class))),
            None => Err(forbid(request, format!("pod rejected: RuntimeClass {name:?} not found"))),
        }
    }
}

fn apply(spec: &mut PodSpec, class: &RuntimeClass) -> Result<(), String> {
    if let Some(fixed) = class.overhead.as_ref().and_then(|o| o.pod_fixed.as_ref()).filter(|f| !f.is_empty()) {
        match &spec.overhead {
            Some(own) if !own.is_empty() && own != fixed => {
                return Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead".into());
            }
            _ => spec.overhead = Some(fixed.clone()),
        }
    }
    let Some(scheduling) = &class.scheduling else { return Ok(()) };
    for (key, value) in scheduling.node_selector.iter().flatten() {
        let selector = spec.node_selector.get_or_insert_default();
        match selector.get(key) {
            Some(own) if own != value => {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            _ => drop(selector.insert(key.clone(), value.clone())),
        }
    }
    for toleration in scheduling.tolerations.iter().flatten() {
        let tolerations = spec.tolerations.get_or_insert_default();
        if !tolerations.contains(toleration) {
            tolerations.push(toleration.clone());
        }
    }
    Ok(())
}

#[async_trait]
impl Plugin for RuntimeClasses {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        let Some(spec) = request.get::<Pod>().and_then(|pod| pod.spec.as_ref()) else { return Ok(()) };
        let Some(class) = self.class(request, spec).await? else { return Ok(()) };
        let applied = request.get_mut::<Pod>().and_then(|pod| pod.spec.as_mut()).map_or(Ok(()), |spec| apply(spec, &class));
        applied.map_err(|cause| forbid(request, cause))
    }

    async fn validate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation != Operation::Create || !request.is("", "pods") {
            return Ok(());
        }
        let Some(spec) = request.get::<Pod>().and_then(|pod| pod.spec.as_ref()) else { return Ok(()) };
        let class = self.class(request, spec).await?;
        let fixed = class.as_ref().and_then(|c| c.overhead.as_ref()).and_then(|o| o.pod_fixed.as_ref()).filter(|f| !f.is_empty());
        match (fixed, spec.overhead.as_ref().filter(|o| !o.is_empty())) {
            (None, Some(_)) => Err(forbid(request, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead")),
            (Some(fixed), own) if own != Some(fixed) => {
                Err(forbid(request, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_join_or_conflict() {
        let class: RuntimeClass = serde_json::from_value(serde_json::json!({
            "handler": "x", "overhead": {"podFixed": {"cpu": "1"}}, "scheduling": {"nodeSelector": {"a": "1"}}
        }))
        .unwrap();
        let mut spec = PodSpec::default();
        apply(&mut spec, &class).unwrap();
        assert_eq!(spec.node_selector.as_ref().unwrap()["a"], "1");
        assert_eq!(spec.overhead.as_ref().unwrap()["cpu"].0, "1");
        spec.node_selector = Some([("a".to_owned(), "2".to_owned())].into());
        assert!(apply(&mut spec, &class).unwrap_err().starts_with("conflict: "));
    }
}
