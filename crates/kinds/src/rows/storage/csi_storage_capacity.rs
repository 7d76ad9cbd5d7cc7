//! CSIStorageCapacity.

use api::storage::v1::CSIStorageCapacity;

use crate::kind::{Kind, KindInfo};

impl Kind for CSIStorageCapacity {
    const INFO: KindInfo = KindInfo {
        singular: "csistoragecapacity",
        schema: "io.k8s.api.storage.v1.CSIStorageCapacity",
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
