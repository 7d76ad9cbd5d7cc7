//! ServiceAccount.

use api::core::v1::ServiceAccount;
use serde_json::{Value, json};

use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, name};

impl Kind for ServiceAccount {
    const INFO: KindInfo = KindInfo {
        singular: "serviceaccount",
        short_names: &["sa"],
        subresources: &[Subresource { name: "token", kind: Some(("authentication.k8s.io", "v1", "TokenRequest")), verbs: &["create"] }],
        schema: "io.k8s.api.core.v1.ServiceAccount",
        ..KindInfo::of::<Self>()
    };

    fn columns() -> &'static [Column] {
        const { &[NAME, column("Secrets", "string"), AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(&self.metadata), json!(self.secrets.as_ref().map_or(0, Vec::len)), age(&self.metadata, now)]
    }
}
