//! ComponentStatus: made up at each read.

use api::core::v1::ComponentStatus;
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{NAME, column, name};

impl Kind for ComponentStatus {
    const INFO: KindInfo = KindInfo {
        singular: "componentstatus",
        short_names: &["cs"],
        scope: Scope::Cluster,
        verbs: &["get", "list"],
        storage_prefix: "",
        schema: "io.k8s.api.core.v1.ComponentStatus",
        ..KindInfo::of::<Self>()
    };

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Status", "string"), column("Message", "string"), column("Error", "string")] }
    }

    fn cells(&self, _now: jiff::Timestamp) -> Vec<Value> {
        let healthy = self.conditions.iter().flatten().find(|condition| condition.type_ == "Healthy");
        let (status, message, error) = match healthy {
            Some(condition) if condition.status == "True" => ("Healthy", condition.message.clone(), condition.error.clone()),
            Some(condition) => ("Unhealthy", condition.message.clone(), condition.error.clone()),
            None => ("Unknown", None, None),
        };
        vec![name(&self.metadata), json!(status), json!(message.unwrap_or_default()), json!(error.unwrap_or_default())]
    }
}
