//! IngressClass.

use api::networking::v1::IngressClass;
use serde_json::{Value, json};

use crate::defaults::set_text;
use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, column, name};
use crate::rows::hooks::all_is_spec;
use crate::validation::required;

impl Kind for IngressClass {
    const INFO: KindInfo = KindInfo {
        singular: "ingressclass",
        scope: Scope::Cluster,
        schema: "io.k8s.api.networking.v1.IngressClass",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        if let Some(parameters) = &mut self.spec.get_or_insert_default().parameters {
            set_text(&mut parameters.scope, "Cluster");
        }
    }

    fn validate(&self, errors: &mut api::FieldErrors) {
        let controller = self.spec.as_ref().and_then(|spec| spec.controller.as_deref()).unwrap_or_default();
        required(errors, &api::Path::new("spec").child("controller"), controller, "");
    }

    fn validate_update(&self, old: &Self, errors: &mut api::FieldErrors) {
        let controller = |class: &Self| class.spec.as_ref().and_then(|spec| spec.controller.clone()).unwrap_or_default();
        crate::validation::immutable(errors, &api::Path::new("spec").child("controller"), &controller(self), &controller(old));
    }

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Controller", "string"), column("Parameters", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let spec = self.spec.clone().unwrap_or_default();
        let parameters = spec.parameters.map_or_else(
            || crate::printing::NONE.to_owned(),
            |reference| match reference.api_group {
                Some(group) => format!("{}.{group}/{}", reference.kind, reference.name),
                None => format!("{}/{}", reference.kind, reference.name),
            },
        );
        vec![name(&self.metadata), json!(spec.controller.unwrap_or_default()), json!(parameters), age(&self.metadata, now)]
    }
}
