//! ConfigMap.

use api::core::v1::ConfigMap;

use crate::kind::{Kind, KindInfo};

impl Kind for ConfigMap {
    const INFO: KindInfo =
        KindInfo { singular: "configmap", short_names: &["cm"], schema: "io.k8s.api.core.v1.ConfigMap", ..KindInfo::of::<Self>() };
}
