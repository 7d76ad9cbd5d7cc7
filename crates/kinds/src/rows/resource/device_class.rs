//! DeviceClass.

use api::resource::v1::DeviceClass;
use serde_json::Value;

use crate::kind::{Column, Kind, KindInfo, Scope};
use crate::printing::{AGE, NAME, age, name};
use crate::rows::hooks::all_is_spec;

impl Kind for DeviceClass {
    const INFO: KindInfo = KindInfo {
        singular: "deviceclass",
        scope: Scope::Cluster,
        schema: "io.k8s.api.resource.v1.DeviceClass",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    all_is_spec!();

    fn columns() -> &'static [Column] {
        const { &[NAME, AGE] }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        vec![name(&self.metadata), age(&self.metadata, now)]
    }
}
