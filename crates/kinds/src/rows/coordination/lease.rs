//! Lease.

use api::coordination::v1::Lease;

use crate::kind::{Kind, KindInfo};

impl Kind for Lease {
    const INFO: KindInfo = KindInfo {
        singular: "lease",
        schema: "io.k8s.api.coordination.v1.Lease",
        create_on_update: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
