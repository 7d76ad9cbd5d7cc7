//! Secret.

use api::core::v1::Secret;

use crate::kind::{Kind, KindInfo};

impl Kind for Secret {
    const INFO: KindInfo = KindInfo { singular: "secret", schema: "io.k8s.api.core.v1.Secret", ..KindInfo::of::<Self>() };
}
