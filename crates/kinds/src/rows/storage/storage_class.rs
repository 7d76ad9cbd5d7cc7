//! StorageClass.

use api::storage::v1::StorageClass;

use crate::kind::{Kind, KindInfo, Scope};

impl Kind for StorageClass {
    const INFO: KindInfo = KindInfo {
        singular: "storageclass",
        short_names: &["sc"],
        scope: Scope::Cluster,
        schema: "io.k8s.api.storage.v1.StorageClass",
        ..KindInfo::of::<Self>()
    };
}
