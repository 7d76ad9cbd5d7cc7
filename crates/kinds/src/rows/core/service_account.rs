//! ServiceAccount.

use api::core::v1::ServiceAccount;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for ServiceAccount {
    const INFO: KindInfo = KindInfo {
        singular: "serviceaccount",
        short_names: &["sa"],
        subresources: &[Subresource { name: "token", kind: Some(("authentication.k8s.io", "v1", "TokenRequest")), verbs: &["create"] }],
        schema: "io.k8s.api.core.v1.ServiceAccount",
        ..KindInfo::of::<Self>()
    };
}
