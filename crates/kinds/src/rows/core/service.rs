//! Service.

use api::core::v1::Service;

use crate::kind::{Kind, KindInfo, NameRule, Subresource};

impl Kind for Service {
    const INFO: KindInfo = KindInfo {
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &[
            Subresource {
                name: "proxy",
                kind: Some(("", "v1", "ServiceProxyOptions")),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::STATUS,
        ],
        storage_prefix: "services/specs",
        schema: "io.k8s.api.core.v1.Service",
        name_rule: NameRule::Dns1035Label,
        create_on_update: true,
        ..KindInfo::of::<Self>()
    };
}
