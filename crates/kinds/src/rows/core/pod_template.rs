//! PodTemplate.

use api::core::v1::PodTemplate;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo};
use crate::printing::{NAME, column, containers, labels, name};
use crate::{defaults, validation};

impl Kind for PodTemplate {
    const INFO: KindInfo = KindInfo { singular: "podtemplate", schema: "io.k8s.api.core.v1.PodTemplate", ..KindInfo::of::<Self>() };

    fn default_fields(&mut self) {
        defaults::pod_template(self.template.get_or_insert_default());
    }

    fn validate(&self, errors: &mut FieldErrors) {
        if let Some(template) = &self.template {
            validation::pod_template::pod_template(errors, &Path::new("template"), template);
        }
    }

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Containers", "string"), column("Images", "string"), column("Pod Labels", "string")] }
    }

    fn cells(&self, _now: jiff::Timestamp) -> Vec<Value> {
        let template = self.template.clone().unwrap_or_default();
        let [names, images] = containers(&template.spec.unwrap_or_default().containers);
        vec![name(&self.metadata), names, images, json!(labels(template.metadata.and_then(|meta| meta.labels).as_ref()))]
    }
}
