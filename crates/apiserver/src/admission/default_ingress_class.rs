//! DefaultIngressClass: an Ingress without a class gets the default one (plugin/pkg/admission/network/defaultingressclass).

use api::StatusError;
use api::networking::v1::{Ingress, IngressClass};
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin, newest_default};
use crate::Objects;

pub struct DefaultIngressClass {
    objects: Objects,
}

impl DefaultIngressClass {
    pub fn new(objects: Objects) -> Self {
        Self { objects }
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation != Operation::Create || !request.is("networking.k8s.io", "ingresses") {
            return Ok(());
        }
        let Some(ingress) = request.get_mut::<Ingress>() else { return Ok(()) };
        let by_annotation = ingress.metadata.annotations.as_ref().is_some_and(|a| a.contains_key("kubernetes.io/ingress.class"));
        let spec = ingress.spec.get_or_insert_default();
        if spec.ingress_class_name.is_none() && !by_annotation {
            let classes = self.objects.list::<IngressClass>(None);
            let default = newest_default(classes.iter().map(|c| &c.metadata), &["ingressclass.kubernetes.io/is-default-class"]);
            spec.ingress_class_name = default;
        }
        Ok(())
    }
}
