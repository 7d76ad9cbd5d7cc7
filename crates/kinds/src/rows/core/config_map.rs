//! ConfigMap.

use api::core::v1::ConfigMap;

use crate::kind::{Kind, KindInfo};

impl Kind for ConfigMap {
    const INFO: KindInfo = KindInfo {
        kind: "ConfigMap",
        resource: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        storage_prefix: "configmaps",
        schema: "io.k8s.api.core.v1.ConfigMap",
        ..KindInfo::DEFAULT
    };
}
